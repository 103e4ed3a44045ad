// What a chart of windows draws: lanes of probabilities, expression, faces and latency over one axis of time.

import { drawBlock, drawFaces, drawStack, prepare, writeCode } from "./blocks.js";
import { framesOf } from "./models.js";
import { theme } from "./palette.js";
import { answer, describe, latency, moment, percent, reason, span } from "./words.js";

const LANES = [
  { name: "Probability", height: 236, narrowHeight: 150 },
  { name: "Expression", height: 28, narrowHeight: 28 },
  { name: "Faces", height: 16, narrowHeight: 14 },
  { name: "Latency", height: 52, narrowHeight: 44 },
];
const TOP = 12;
const BETWEEN = 16;
const HEADING = 12;
const AXIS = 24;
const NARROW = 520;
const WIDEST_STEP = 90;
const TICK_EVERY_PX = 76;
const ROUND = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
const LETTERS_FROM = 13;
const RUN_LETTERS_FROM = 15;

/**
 * Where everything goes in a chart of this width; `placeAt(x)` is the window at a pixel, or null.
 *
 * Lanes have their names at the left, or above them where that would take too much. Windows of files have no latency,
 * and no lane for it.
 */
export function layout(width, windows) {
  const narrow = width < NARROW;
  const left = narrow ? 44 : 118;
  const room = Math.max(1, width - left - 8);
  const step = windows.length ? Math.min(WIDEST_STEP, room / windows.length) : 0;
  const live = windows.some((one) => known(one.latency_ms));
  const lanes = [];
  let y = TOP;
  for (const { name, height, narrowHeight } of LANES) {
    if (name === "Latency" && !live) continue;
    y += narrow ? HEADING : 0;
    lanes.push({ name, y, height: narrow ? narrowHeight : height });
    y += (narrow ? narrowHeight : height) + BETWEEN;
  }
  return {
    width, left, room, step, lanes, narrow,
    gap: step > 12 ? 2 : step > 5 ? 1 : 0,
    height: y - BETWEEN + AXIS,
    bottom: y - BETWEEN,
    placeAt(x) {
      const place = Math.floor((x - left) / step);
      return step > 0 && place >= 0 && place < windows.length ? place : null;
    },
  };
}

/** The text for a place in the chart. */
export function laneAt(plan, y, prediction) {
  const lane = plan.lanes.findLast((one) => y >= one.y - BETWEEN / 2)?.name;
  if (lane === "Faces") {
    return `${describe(prediction)} · ${prediction.window.faces} of ${framesOf(prediction)} frames show a face`;
  }
  if (lane === "Latency") return `${describe(prediction)} · ${latency(prediction.latency_ms)}`;
  if (lane === "Probability" && prediction.status === "ok") {
    const best = Object.entries(prediction.probabilities).sort(([, a], [, b]) => b - a);
    const parts = best.slice(0, 3).map(([name, share]) => `${name} ${percent(share)}`);
    return `${span(prediction.window)}: ${parts.join(", ")}`;
  }
  return `${describe(prediction)}${prediction.status === "ok" ? "" : ` · ${reason(prediction)}`}`;
}

/** Draw it all. `playhead` is a moment in microseconds, or null. */
export function drawLanes(canvas, plan, windows, selected, playhead) {
  canvas.style.height = `${plan.height}px`;
  const context = prepare(canvas, plan.width, plan.height);
  const [stack, blocks, faces, late] = plan.lanes;
  drawGrid(context, plan);
  windows.forEach((prediction, place) => {
    const x = plan.left + place * plan.step;
    // Without a gap, blocks reach a little into the next one: fractions of a pixel would let the page through.
    const width = plan.gap ? plan.step - plan.gap : plan.step + 0.4;
    drawStack(context, prediction, x, stack.y, width, stack.height);
    drawBlock(context, prediction, x, blocks.y, width, blocks.height);
    drawFaces(context, prediction, framesOf(prediction), x, faces.y, width, faces.height);
  });
  if (plan.step - plan.gap < LETTERS_FROM) drawRunLetters(context, plan, windows, blocks);
  if (late) drawLatency(context, plan, windows, late);
  drawAxis(context, plan, windows);
  drawSessions(context, plan, windows);
  if (selected >= 0) drawSelected(context, plan, selected);
  if (playhead !== null) drawPlayhead(context, plan, windows, playhead);
  if (plan.narrow) drawHeadings(context, plan);
}

function drawGrid(context, plan) {
  const { quiet, line, font } = theme();
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = quiet;
  context.font = `12px ${font}`;
  for (const lane of plan.lanes) {
    if (!plan.narrow) context.fillText(lane.name, 0, lane.y + Math.min(lane.height / 2, 8));
  }
  const [stack] = plan.lanes;
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(stack.y + stack.height * (1 - share));
    context.fillStyle = line;
    context.fillRect(plan.left, y, plan.room, 1);
    writeTick(context, plan, percent(share), y);
  }
}

// Above the lanes they would be crossed by the frame of the window that is looked at, so they come after it.
function drawHeadings(context, plan) {
  const { quiet, surface, font } = theme();
  context.font = `12px ${font}`;
  context.textAlign = "left";
  context.textBaseline = "middle";
  for (const lane of plan.lanes) {
    context.fillStyle = surface;
    context.fillRect(plan.left - 3, lane.y - 15, context.measureText(lane.name).width + 6, 14);
    context.fillStyle = quiet;
    context.fillText(lane.name, plan.left, lane.y - 8);
  }
}

function writeTick(context, plan, text, y) {
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.fillStyle = theme().quiet;
  context.font = `11px ${theme().font}`;
  context.fillText(text, plan.left - 7, y + 0.5);
}

// Where blocks are too narrow for letters, a row of the same ones has them once, in its middle.
function drawRunLetters(context, plan, windows, lane) {
  let from = 0;
  for (let place = 1; place <= windows.length; place += 1) {
    const last = windows[place - 1];
    if (place < windows.length && answer(windows[place]) === answer(last)) continue;
    const width = (place - from) * plan.step;
    if (last.status === "ok" && width >= RUN_LETTERS_FROM) {
      writeCode(context, last.expression, plan.left + from * plan.step + width / 2, lane.y + lane.height / 2, 10.5);
    }
    from = place;
  }
}

function drawLatency(context, plan, windows, lane) {
  const top = Math.max(1, ...windows.map((one) => one.latency_ms ?? 0));
  const { accent, line } = theme();
  context.fillStyle = line;
  context.fillRect(plan.left, lane.y, plan.room, 1);
  context.fillRect(plan.left, lane.y + lane.height, plan.room, 1);
  writeTick(context, plan, top < 1000 ? `${Math.round(top)} ms` : `${(top / 1000).toFixed(1)} s`, lane.y);
  writeTick(context, plan, "0", lane.y + lane.height);
  context.strokeStyle = accent;
  context.lineWidth = 1.5;
  context.beginPath();
  windows.forEach((one, place) => {
    if (!known(one.latency_ms)) return;
    const x = plan.left + (place + 0.5) * plan.step;
    const y = lane.y + lane.height * (1 - one.latency_ms / top);
    if (place > 0 && known(windows[place - 1].latency_ms)) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.stroke();
}

function drawAxis(context, plan, windows) {
  const { quiet, line, font } = theme();
  context.font = `11px ${font}`;
  context.textAlign = "center";
  context.textBaseline = "alphabetic";
  const every = ROUND.find((number) => number * plan.step >= TICK_EVERY_PX) ?? ROUND.at(-1);
  let free = 0;
  windows.forEach((one, place) => {
    // By the window's own number, so that marks go along with their windows when new ones come.
    if (one.window.index % every) return;
    const text = moment(one.window.start_us);
    const half = context.measureText(text).width / 2;
    const x = plan.left + place * plan.step;
    const centre = Math.min(plan.width - half, x);
    if (centre - half < free) return;
    free = centre + half + 8;
    context.fillStyle = line;
    context.fillRect(Math.round(x), plan.bottom, 1, 5);
    context.fillStyle = quiet;
    context.fillText(text, centre, plan.bottom + 18);
  });
}

function drawSessions(context, plan, windows) {
  const { ink, surface, font } = theme();
  windows.forEach((one, place) => {
    if (place === 0 || windows[place - 1].window.session === one.window.session) return;
    const x = Math.round(plan.left + place * plan.step - plan.gap / 2);
    context.fillStyle = ink;
    context.fillRect(x - 1, TOP - 8, 2, plan.bottom - TOP + 8);
    context.font = `600 11px ${font}`;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const text = `session ${one.window.session}`;
    const width = context.measureText(text).width + 10;
    const flip = x + width > plan.width;
    context.fillRect(flip ? x - width : x, TOP - 8, width, 16);
    context.fillStyle = surface;
    context.fillText(text, (flip ? x - width : x) + 5, TOP + 0.5);
  });
}

function drawSelected(context, plan, place) {
  const { ink } = theme();
  const width = Math.max(plan.step - plan.gap, 2);
  const x = plan.left + place * plan.step;
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.beginPath();
  context.roundRect(x - 1, 2, width + 2, plan.bottom - 1, 3);
  context.stroke();
}

// A player's moment lies in the newest window that has begun by then, as far into it as the next one is away.
function drawPlayhead(context, plan, windows, us) {
  const place = windowAt(windows, us);
  if (place < 0) return;
  const { start_us: start, end_us: end } = windows[place].window;
  const next = windows[place + 1]?.window.start_us ?? end;
  const part = Math.min(1, Math.max(0, (us - start) / Math.max(1, next - start)));
  const x = Math.round(plan.left + (place + part) * plan.step);
  context.fillStyle = theme().surface;
  context.fillRect(x - 2, 2, 4, plan.bottom + 2);
  context.fillStyle = theme().ink;
  context.fillRect(x - 1, 2, 2, plan.bottom + 2);
}

const known = (ms) => ms !== null && ms !== undefined;

/** Place of the newest window that has begun at a moment, -1 without windows. The first one holds what is before it. */
export function windowAt(windows, us) {
  const place = windows.findLastIndex((one) => one.window.start_us <= us);
  return windows.length ? Math.max(0, place) : -1;
}
