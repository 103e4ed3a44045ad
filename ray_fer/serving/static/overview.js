// The figures of the whole deployment in a row of tiles: what the workers count, asked for every two seconds.

import { explain, getJson } from "./api.js";
import { lagOf } from "./alert_rules.js";
import { byId, make, setText } from "./dom.js";
import { keyDeclined } from "./key.js";
import { count, latency, percent } from "./words.js";

const EVERY_MS = 2_000;

/** Ask for the statistics again and again; `onLook({statistics, failure})` hears each answer. */
export function watchStatistics(onLook) {
  async function look() {
    let wait = EVERY_MS;
    if (!document.hidden && !keyDeclined()) {
      try {
        onLook({ statistics: await getJson("v1/statistics"), failure: null });
      } catch (error) {
        wait = Math.max(wait, 1000 * (error.retryAfterS ?? 0));
        onLook({ statistics: null, failure: explain(error) });
      }
    }
    setTimeout(look, wait);
  }
  look();
}

/** Tiles in the page's overview; gives show(statistics, streams). */
export function overviewTiles() {
  const tiles = Object.fromEntries(
    ["Streams", "Windows/s", "Median latency", "Faces found", "Lag", "Dead letters", "Workers"].map((name) => {
      const value = make("dd", { class: "tile-value" }, "–");
      const note = make("dd", { class: "tile-note" });
      return [name, { value, note, element: make("div", { class: "tile" }, make("dt", {}, name), value, note) }];
    }),
  );
  byId("overview").replaceChildren(...Object.values(tiles).map((tile) => tile.element));
  let before = null;

  function set(name, value, note) {
    setText(tiles[name].value, value);
    setText(tiles[name].note, note);
  }

  return function show(statistics, streams) {
    const { total, workers } = statistics;
    const now = performance.now();
    const windows = Object.values(total.windows).reduce((sum, one) => sum + one, 0);
    const rate = before && windows >= before.windows ? (1000 * (windows - before.windows)) / (now - before.now) : null;
    before = { windows, now };
    const searched = total.batch_items.faces ?? 0;
    set("Streams", count(total.live_streams), total.idle_streams ? `and ${count(total.idle_streams)} idle` : "live");
    set("Windows/s", rate === null ? "–" : rate.toFixed(1), `${count(windows)} so far`);
    set("Median latency", latency(median(streams.map((stream) => stream.latest.latency_ms))), "of the newest windows");
    set("Faces found", searched ? percent(total.faces_found / searched) : "–", "of frames looked at");
    set("Lag", count(lagOf(statistics)), "records not read");
    set("Dead letters", count(total.dead_letters), "records refused");
    set("Workers", count(Object.keys(workers).length), "that answer");
  };
}

function median(values) {
  const known = values.filter((value) => value !== null && value !== undefined).sort((a, b) => a - b);
  return known.length ? known[Math.floor(known.length / 2)] : null;
}
