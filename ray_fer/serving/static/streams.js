// What the page remembers of the live streams: their newest windows, within a bound.

import { learnClasses } from "./palette.js";
import { windowKey } from "./words.js";

const WINDOWS_KEPT = 20_000;
const MOST_OF_A_STREAM = 200;
const LEAST_OF_A_STREAM = 20;
const STREAMS_KEPT = 1_000;

/** Streams by id, each {id, windows, latest, heardAt, faceless, received}; `faceless` counts windows without a face. */
export class Streams {
  #streams = new Map();
  #listeners = new Set();
  received = 0;

  get size() {
    return this.#streams.size;
  }

  get(id) {
    return this.#streams.get(id);
  }

  all() {
    return [...this.#streams.values()];
  }

  /** Hear of every window as `listener(prediction, stream)`; gives back how to stop. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Take in a prediction. One that is known already, after a lost connection, takes the place of the first. */
  add(prediction) {
    const stream = this.#heard(prediction.stream_id);
    if (stream.received === 0) learnClasses(Object.keys(prediction.probabilities));
    const known = place(stream.windows, prediction);
    this.received += known ? 0 : 1;
    stream.received += known ? 0 : 1;
    stream.latest = stream.windows.at(-1);
    if (!known) stream.faceless = prediction.status === "no_face" ? stream.faceless + 1 : 0;
    const most = Math.floor(WINDOWS_KEPT / this.#streams.size);
    const kept = Math.max(LEAST_OF_A_STREAM, Math.min(MOST_OF_A_STREAM, most));
    if (stream.windows.length > kept) stream.windows.splice(0, stream.windows.length - kept);
    this.#listeners.forEach((listener) => listener(prediction, stream));
  }

  // A stream that is heard goes to the end, so the first is the one that has been silent for longest.
  #heard(id) {
    const stream = this.#streams.get(id) ?? { id, windows: [], latest: null, heardAt: 0, faceless: 0, received: 0 };
    this.#streams.delete(id);
    this.#streams.set(id, stream);
    stream.heardAt = performance.now();
    if (this.#streams.size > STREAMS_KEPT) this.#streams.delete(this.#streams.keys().next().value);
    return stream;
  }
}

/** Put a window where it belongs in a list by session and index; whether it took the place of one that was there. */
export function place(windows, prediction) {
  const { session, index } = prediction.window;
  let at = windows.length;
  while (at > 0 && after(windows[at - 1].window, session, index)) at -= 1;
  const known = at > 0 && windowKey(windows[at - 1]) === windowKey(prediction);
  if (known) windows[at - 1] = prediction;
  else windows.splice(at, 0, prediction);
  return known;
}

function after(window, session, index) {
  return window.session === session ? window.index > index : window.session > session;
}
