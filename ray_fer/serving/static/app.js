"use strict";

// Colours of Okabe and Ito's palette, which stays apart under colour blindness.
const COLOURS = {
  Angry: "#d55e00", Disgust: "#009e73", Fear: "#7b5ea7", Happy: "#e6a700",
  Neutral: "#8a94a3", Sad: "#0072b2", Surprise: "#cc79a7",
};
const NO_FACE = "repeating-linear-gradient(45deg, #b9c0cb 0 3px, transparent 3px 6px)";
const BLOCKS_KEPT = 240;

const rows = new Map();
const body = document.getElementById("streams");
const status = document.getElementById("status");
let received = 0;

function colourOf(prediction) {
  return prediction.status === "ok" ? COLOURS[prediction.expression] || "#444" : NO_FACE;
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function rowOf(streamId) {
  if (rows.has(streamId)) return rows.get(streamId);
  const tr = element("tr");
  tr.dataset.stream = streamId;
  const cells = {};
  for (const name of ["stream", "window", "expression", "probability", "aus", "latency", "timeline"]) {
    cells[name] = tr.appendChild(element("td", name));
  }
  cells.stream.textContent = streamId;
  const bar = cells.probability.appendChild(element("div", "bar"));
  cells.fill = bar.appendChild(element("i"));
  cells.percent = bar.appendChild(element("span"));
  cells.blocks = cells.timeline.appendChild(element("div", "blocks"));
  const after = [...body.children].find((other) => other.dataset.stream > streamId);
  body.insertBefore(tr, after || null);
  rows.set(streamId, cells);
  return cells;
}

function show(prediction) {
  const cells = rowOf(prediction.stream_id);
  const ok = prediction.status === "ok";
  const from = prediction.window.start_us / 1e6, to = prediction.window.end_us / 1e6;
  const share = ok ? prediction.probabilities[prediction.expression] : 0;
  cells.window.textContent = `${from}–${to} s`;
  cells.expression.textContent = ok ? prediction.expression : prediction.status.replace("_", " ");
  cells.expression.classList.toggle("quiet", !ok);
  cells.fill.style.width = `${(100 * share).toFixed(0)}%`;
  cells.fill.style.background = colourOf(prediction);
  cells.percent.textContent = ok ? `${(100 * share).toFixed(0)} %` : "";
  cells.aus.textContent = Object.entries(prediction.action_units)
    .sort((a, b) => b[1] - a[1]).slice(0, 3).map(([au, value]) => `${au} ${value.toFixed(2)}`).join("  ");
  cells.latency.textContent = prediction.latency_ms === null ? "" : `${Math.round(prediction.latency_ms)} ms`;
  const block = cells.blocks.appendChild(element("b"));
  block.style.background = colourOf(prediction);
  block.title = `${from}–${to} s: ${cells.expression.textContent}${ok ? ` ${cells.percent.textContent}` : ""}`;
  while (cells.blocks.children.length > BLOCKS_KEPT) cells.blocks.firstChild.remove();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}${location.pathname.replace(/[^/]*$/, "")}ws`);
  socket.onopen = () => {
    // The server sends its recent predictions first: start from an empty table, also after a reconnect.
    rows.clear();
    body.replaceChildren();
    received = 0;
    status.textContent = "connected";
  };
  socket.onmessage = (event) => {
    const predictions = JSON.parse(event.data);
    predictions.forEach(show);
    received += predictions.length;
    status.textContent = `live: ${rows.size} streams, ${received} windows`;
    document.getElementById("empty").hidden = received > 0;
  };
  socket.onclose = () => {
    status.textContent = "connection lost, trying again";
    setTimeout(connect, 1000);
  };
}

for (const [name, colour] of [...Object.entries(COLOURS), ["no face or gap", NO_FACE]]) {
  const item = document.getElementById("legend").appendChild(element("li"));
  item.appendChild(element("i")).style.background = colour;
  item.append(name);
}
connect();
