// Draws windows as blocks: one each, coloured by expression, hatched without a face, dotted when nobody looked.

import { onTheme, styleOf, theme } from "./palette.js";
import { answer, plural } from "./words.js";

const LETTERS_FROM = 13;
const ROW_FACES = 5;
const patterns = new Map();
onTheme(() => patterns.clear());

/** Make a canvas's picture as fine as the screen; gives the context in CSS pixels, cleared. */
export function prepare(canvas, width, height) {
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** One block at (x, y). */
export function drawBlock(context, prediction, x, y, width, height) {
  const style = prediction.status === "ok" ? styleOf(prediction.expression) : null;
  context.beginPath();
  context.roundRect(x, y, width, height, width > 6 ? 2.5 : 0);
  context.fillStyle = style ? style.colour : pattern(context, prediction.status);
  context.fill();
  if (width > 5) {
    context.beginPath();
    context.roundRect(x + 0.5, y + 0.5, width - 1, height - 1, width > 6 ? 2 : 0);
    context.lineWidth = 1;
    context.strokeStyle = prediction.status === "failed" ? theme().bad : theme().outline;
    context.stroke();
  }
  if (style && width >= LETTERS_FROM) {
    writeCode(context, prediction.expression, x + width / 2, y + height / 2, width >= 18 ? 10.5 : 9);
  }
}

/** The two letters of a class around (x, y), on its colour. */
export function writeCode(context, name, x, y, size) {
  const style = styleOf(name);
  context.fillStyle = style.ink;
  context.font = `600 ${size}px ${theme().font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(style.code, x, y + 0.5);
}

/** How many of the frames that were looked at show a face: a bar that is full when all do. */
export function drawFaces(context, prediction, frames, x, y, width, height) {
  const share = Math.min(1, prediction.window.faces / frames);
  context.fillStyle = theme().line;
  context.fillRect(x, y, width, height);
  context.fillStyle = theme().accent;
  context.fillRect(x, y + height * (1 - share), width, height * share);
}

/** The probabilities of all classes on top of each other, in the order of the model. */
export function drawStack(context, prediction, x, y, width, height) {
  if (prediction.status !== "ok") {
    context.fillStyle = pattern(context, prediction.status);
    context.fillRect(x, y, width, height);
    return;
  }
  let floor = y + height;
  for (const [name, share] of Object.entries(prediction.probabilities)) {
    const part = share * height;
    context.fillStyle = styleOf(name).colour;
    context.fillRect(x, floor - part, width, part);
    floor -= part;
  }
}

/** A list's last windows that fit into `width`, the newest at the right end, with their faces below; gives them. */
export function drawRow(canvas, windows, { width, height, blocks, frames }) {
  const context = prepare(canvas, width, height);
  const step = width / blocks;
  const fit = windows.slice(-blocks);
  fit.forEach((prediction, place) => {
    const x = width - (fit.length - place) * step;
    drawBlock(context, prediction, x, 0, step - 2, height - ROW_FACES - 3);
    drawFaces(context, prediction, frames(prediction), x, height - ROW_FACES, step - 2, ROW_FACES);
    if (place > 0 && fit[place - 1].window.session !== prediction.window.session) {
      context.fillStyle = theme().ink;
      context.fillRect(x - 2, 0, 2, height);
    }
  });
  return fit;
}

/** What most of a list's windows say, for those who cannot see the blocks. */
export function summary(windows) {
  const counts = new Map();
  for (const one of windows) {
    counts.set(answer(one), (counts.get(answer(one)) ?? 0) + 1);
  }
  const parts = [...counts].sort(([, a], [, b]) => b - a).map(([name, times]) => `${name} ${times}`);
  return `Last ${plural(windows.length, "window")}: ${parts.join(", ")}`;
}

/** Hatching for windows without a face and gaps, dots for those that nobody looked at or that the model broke on. */
export function pattern(context, status) {
  const scale = devicePixelRatio || 1;
  const key = `${status} ${scale}`;
  if (!patterns.has(key)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = Math.round(6 * scale);
    paintTile(tile.getContext("2d"), status, tile.width / 6);
    const made = context.createPattern(tile, "repeat");
    made.setTransform(new DOMMatrix().scale(1 / scale));
    patterns.set(key, made);
  }
  return patterns.get(key);
}

function paintTile(tile, status, scale) {
  tile.scale(scale, scale);
  tile.strokeStyle = tile.fillStyle = status === "failed" ? theme().bad : theme().hatch;
  tile.lineWidth = status === "gap" ? 0.8 : 1.8;
  tile.beginPath();
  if (status === "no_face" || status === "gap") {
    const [from, to] = status === "no_face" ? [7, -1] : [-1, 7];
    for (const shift of [-6, 0, 6]) {
      tile.moveTo(shift - 1, from);
      tile.lineTo(shift + 7, to);
    }
    tile.stroke();
  } else {
    tile.arc(3, 3, status === "failed" ? 1.9 : 1.2, 0, 2 * Math.PI);
    tile.fill();
  }
}
