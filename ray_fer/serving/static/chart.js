// A chart of windows over time that is looked at, pointed into and walked through with the arrow keys. To assistive
// technology it is a slider over windows, whose text is what the window says.

import { drawLanes, laneAt, layout } from "./chart_lanes.js";
import { make, onceAFrame } from "./dom.js";
import { onTheme } from "./palette.js";
import { explainCanvas } from "./tooltip.js";
import { describe } from "./words.js";

const PAGE = 10;

/** In `host`: `onSelect(prediction, byHand)` hears which window is looked at. */
export class WindowChart {
  #windows = [];
  #selected = -1;
  #following = true;
  #playhead = null;
  #hidden = 0;
  #width = 0;
  #canvas;
  #onSelect;
  #draw;

  constructor(host, { label, onSelect }) {
    this.#onSelect = onSelect;
    this.#canvas = make("canvas", {
      class: "chart", role: "slider", tabindex: "0", "aria-label": label, "aria-orientation": "horizontal",
      "aria-valuemin": "0",
    });
    host.replaceChildren(this.#canvas);
    this.#tell();
    this.#draw = onceAFrame(() => this.#paint());
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("pointermove", (event) => event.buttons === 1 && this.#point(event));
    this.#canvas.addEventListener("blur", () => this.#tell());
    explainCanvas(this.#canvas, (x, y) => this.#explain(x, y));
    onTheme(this.#draw);
    new ResizeObserver(([entry]) => {
      this.#width = entry.contentRect.width;
      this.#draw();
    }).observe(host);
  }

  get selected() {
    return this.#shown()[this.#selected] ?? null;
  }

  /** Whether the newest window is the one that is looked at, whatever comes. */
  get following() {
    return this.#following;
  }

  get windows() {
    return this.#windows;
  }

  /** Other windows, oldest first, of which the last `most` are drawn. What was looked at stays, if it is among them. */
  setWindows(windows, most = windows.length) {
    const before = this.selected;
    this.#windows = windows;
    this.#hidden = Math.max(0, windows.length - most);
    const kept = this.#shown().findIndex((one) => one === before || same(one, before));
    if (this.#following || kept < 0) this.#take(this.#shown().length - 1, false);
    else this.#take(kept, false);
  }

  /** Look at the newest window from now on. */
  follow() {
    this.#following = true;
    this.#take(this.#shown().length - 1, true);
  }

  /** Look at one window, by its place among all. */
  select(place, byHand = false) {
    this.#following = false;
    this.#take(place - this.#hidden, byHand);
  }

  /** Where a player is: a moment in microseconds, or null for no line. */
  setPlayhead(us) {
    this.#playhead = us;
    this.#draw();
  }

  #shown() {
    return this.#hidden ? this.#windows.slice(this.#hidden) : this.#windows;
  }

  #take(place, byHand) {
    const shown = this.#shown();
    this.#selected = Math.max(-1, Math.min(shown.length - 1, place));
    // To whom the slider is read, windows that come by themselves would be read without end.
    if (byHand || document.activeElement !== this.#canvas) this.#tell();
    this.#draw();
    this.#onSelect(this.selected, byHand);
  }

  #tell() {
    this.#canvas.setAttribute("aria-valuemax", String(Math.max(0, this.#shown().length - 1)));
    this.#canvas.setAttribute("aria-valuenow", String(Math.max(0, this.#selected)));
    this.#canvas.setAttribute("aria-valuetext", this.selected ? describe(this.selected) : "no window yet");
  }

  #key(event) {
    const last = this.#shown().length - 1;
    const moves = {
      ArrowLeft: this.#selected - 1, ArrowDown: this.#selected - 1, ArrowRight: this.#selected + 1,
      ArrowUp: this.#selected + 1, PageUp: this.#selected + PAGE, PageDown: this.#selected - PAGE, Home: 0, End: last,
    };
    const place = moves[event.key];
    if (place === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.#following = place >= last;
    this.#take(Math.max(0, place), true);
  }

  #point(event) {
    const place = this.#layout().placeAt(event.offsetX);
    if (place === null) return;
    this.#following = place === this.#shown().length - 1;
    this.#take(place, true);
  }

  #explain(x, y) {
    const plan = this.#layout();
    const place = plan.placeAt(x);
    return place === null ? null : laneAt(plan, y, this.#shown()[place]);
  }

  #layout() {
    return layout(this.#width, this.#shown());
  }

  #paint() {
    if (this.#width > 0) drawLanes(this.#canvas, this.#layout(), this.#shown(), this.#selected, this.#playhead);
  }
}

function same(one, other) {
  return other !== null && one.window.session === other.window.session && one.window.index === other.window.index;
}
