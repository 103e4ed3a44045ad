// What the colours, hatches and dots mean: the classes of the model, and why a window may have none.

import { pattern, prepare } from "./blocks.js";
import { make } from "./dom.js";
import { onTheme, styleOf } from "./palette.js";
import { STATUS_NAMES } from "./words.js";

const SIDE = 18;

/** A legend in `host`, a list: of the class names that `list` gets, or of the classes that `show(windows)` finds. */
export function legendOf(host) {
  let shown = "";
  const samples = [];

  function list(classes) {
    const key = classes.join("\n");
    if (key === shown) return;
    shown = key;
    samples.length = 0;
    host.replaceChildren(...classes.map(classItem), ...Object.keys(STATUS_NAMES).slice(1).map(statusItem));
    paint();
  }

  function statusItem(status) {
    const canvas = make("canvas", { class: "sample", "aria-hidden": "true" });
    samples.push([canvas, status]);
    return make("li", {}, canvas, STATUS_NAMES[status]);
  }

  function paint() {
    for (const [canvas, status] of samples) {
      const context = prepare(canvas, SIDE, SIDE);
      context.fillStyle = pattern(context, status);
      context.fillRect(0, 0, SIDE, SIDE);
    }
  }

  onTheme(paint);
  return {
    list,
    show(windows) {
      const classes = new Set(windows.flatMap((one) => Object.keys(one.probabilities)));
      if (classes.size) list([...classes]);
    },
  };
}

function classItem(name) {
  const style = styleOf(name);
  const swatch = make("i", { class: "swatch", "aria-hidden": "true" }, style.code);
  swatch.style.background = style.colour;
  swatch.style.color = style.ink;
  return make("li", {}, swatch, name);
}
