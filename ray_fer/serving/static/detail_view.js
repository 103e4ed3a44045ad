// One stream: its history as a chart, and the window that is looked at. New windows go on coming in.

import { explain, getJson } from "./api.js";
import { WindowChart } from "./chart.js";
import { byId, onceAFrame, setText } from "./dom.js";
import { legendOf } from "./legend.js";
import { place } from "./streams.js";
import { count, cultureText, modelName, percent, plural, windowKey } from "./words.js";
import { windowCard } from "./window_card.js";
import { windowsTable } from "./windows_table.js";

const HISTORY = 600;
const NOTHING_YET = "No window of this stream yet. It appears here as soon as the first one closes.";

/** Made once; gives {show, hide} for the view. `streams` is what the page knows of all streams. */
export function detailView(streams) {
  const card = windowCard(byId("detail-card"), "Choose a window in the chart.");
  const chart = new WindowChart(byId("detail-chart"), {
    label: "Windows of the stream: arrow keys choose one, End follows the newest",
    onSelect(prediction) {
      card.show(prediction);
      byId("detail-follow").setAttribute("aria-pressed", String(chart.following));
    },
  });
  const legend = legendOf(byId("detail-legend"));
  const table = windowsTable(byId("detail-table"));
  let windows = [];
  let asked = null;
  let unlisten = () => {};

  const refresh = onceAFrame(() => {
    chart.setWindows(windows, Number(byId("detail-range").value));
    legend.show(windows);
    table.show(windows);
    byId("detail-body").hidden = windows.length === 0;
    if (windows.length) setText(byId("detail-facts"), factsOf(windows));
  });

  function take(predictions) {
    const known = new Map(windows.map((one) => [windowKey(one), one]));
    for (const prediction of predictions) if (!known.has(windowKey(prediction))) place(windows, prediction);
    if (windows.length > HISTORY) windows = windows.slice(-HISTORY);
    refresh();
  }

  async function load(id) {
    const mine = (asked = new AbortController());
    say("Loading the stream's history…");
    try {
      const history = await getJson(`v1/streams/${encodeURIComponent(id)}/windows`, { limit: HISTORY }, mine.signal);
      if (mine !== asked) return;
      take(history);
      say(windows.length ? "" : NOTHING_YET);
    } catch (error) {
      if (mine !== asked) return;
      if (error.status === 404) say(windows.length ? "" : NOTHING_YET);
      else say(`No history: ${explain(error)}`);
    }
  }

  function say(text) {
    setText(byId("detail-message"), text);
    byId("detail-message").hidden = text === "";
  }

  byId("detail-range").addEventListener("change", refresh);
  byId("detail-follow").addEventListener("click", () => chart.follow());

  return {
    show(id, moved) {
      setText(byId("detail-title"), id);
      setText(byId("detail-facts"), "");
      windows = [...(streams.get(id)?.windows ?? [])];
      chart.follow();
      refresh();
      load(id);
      unlisten = streams.listen((prediction) => {
        if (prediction.stream_id !== id) return;
        take([prediction]);
        if (byId("detail-message").textContent === NOTHING_YET) say("");
      });
      if (moved) byId("detail-title").focus();
    },
    hide() {
      asked?.abort();
      asked = null;
      unlisten();
    },
  };
}

function factsOf(windows) {
  const latest = windows.at(-1);
  const sessions = new Set(windows.map((one) => one.window.session)).size;
  const shares = Object.entries(latest.culture.weights).map(([group, weight]) => `${group} ${percent(weight)}`);
  const facts = [
    modelName(latest),
    `culture: ${cultureText(latest)}${shares.length > 1 ? ` (${shares.join(", ")})` : ""}`,
    plural(windows.length, "window"),
  ];
  if (sessions > 1) facts.push(`${count(sessions)} sessions`);
  return facts.join(" · ");
}
