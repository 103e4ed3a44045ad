// One stream's row of the live table: made once, then only what differs is changed.

import { drawRow, summary } from "./blocks.js";
import { make, setText } from "./dom.js";
import { framesOf } from "./models.js";
import { styleOf } from "./palette.js";
import { streamHash } from "./tabs.js";
import { explainCanvas } from "./tooltip.js";
import {
  answer, auMeaning, confidence, cultureText, describe, latency, modelName, percent, reason, strongestUnits,
} from "./words.js";

const ROW_HEIGHT = 36;
const BLOCK_PX = 19;
const NARROW_BLOCK_PX = 15;
const NARROW = 420;
const QUIET_AFTER_S = 15;

/** A row for a stream: {element, canvas, update(), draw(width), age(now)}. */
export function liveRow(stream) {
  const link = make("a", { href: streamHash(stream.id), class: "stream-id" }, make("bdi", {}, stream.id));
  const about = make("div", { class: "about" });
  const quiet = make("span", { class: "silent", hidden: true });
  const swatch = make("i", { class: "swatch", "aria-hidden": "true" });
  const expression = make("span", { class: "name" });
  const fill = make("i");
  const share = make("span", { class: "share" });
  const canvas = make("canvas", { class: "row-timeline", role: "img" });
  const units = make("ul", { class: "units" });
  const late = make("td", { class: "latency", role: "cell", "data-label": "Latency" });
  const element = make(
    "tr", { role: "row" },
    make("th", { class: "stream", role: "rowheader", scope: "row" }, link, about, quiet),
    make(
      "td", { class: "now", role: "cell" },
      make("div", { class: "answer" }, swatch, expression, share),
      make("div", { class: "bar", "aria-hidden": "true" }, fill),
    ),
    make("td", { class: "timeline", role: "cell" }, canvas),
    make("td", { class: "aus", role: "cell" }, units),
    late,
  );
  element.dataset.stream = stream.id;
  link.title = stream.id;
  let drawn = [];
  let blocks = 1;
  let told = [];

  explainCanvas(canvas, (x) => {
    const place = drawn.length - Math.ceil(((canvas.clientWidth - x) / canvas.clientWidth) * blocks);
    return drawn[place] ? describe(drawn[place]) : null;
  });

  function update() {
    const latest = stream.latest;
    const ok = latest.status === "ok";
    setText(about, `${modelName(latest)} · ${cultureText(latest)}`);
    setText(expression, answer(latest));
    expression.title = reason(latest);
    setText(share, ok ? percent(confidence(latest)) : "");
    setText(swatch, ok ? styleOf(latest.expression).code : "");
    swatch.dataset.status = latest.status;
    swatch.style.background = ok ? styleOf(latest.expression).colour : "";
    swatch.style.color = ok ? styleOf(latest.expression).ink : "";
    fill.style.width = `${100 * confidence(latest)}%`;
    fill.style.background = ok ? styleOf(latest.expression).colour : "";
    setText(late, latency(latest.latency_ms));
    showUnits(units, strongestUnits(latest));
  }

  function draw(width) {
    blocks = Math.max(1, Math.floor(width / (width < NARROW ? NARROW_BLOCK_PX : BLOCK_PX)));
    drawn = drawRow(canvas, stream.windows, { width, height: ROW_HEIGHT, blocks, frames: framesOf });
    if (told.length === 0) tell();
  }

  // What is read rather than seen need not change with every window.
  function tell() {
    canvas.setAttribute("aria-label", summary(drawn));
    told = drawn;
  }

  function age(now) {
    if (told !== drawn) tell();
    const seconds = Math.round((now - stream.heardAt) / 1000);
    quiet.hidden = seconds < QUIET_AFTER_S;
    const time = seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
    if (!quiet.hidden) setText(quiet, `silent for ${time}`);
  }

  update();
  return { stream, element, canvas, link, update, draw, age };
}

function showUnits(list, strongest) {
  while (list.children.length < strongest.length) list.append(make("li", {}, make("b"), make("span")));
  while (list.children.length > strongest.length) list.lastChild.remove();
  strongest.forEach(([name, value], place) => {
    const item = list.children[place];
    setText(item.firstChild, name);
    setText(item.lastChild, value.toFixed(2));
    item.title = auMeaning(name);
  });
}
