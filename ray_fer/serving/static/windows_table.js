// The newest windows of a stream as a plain table: what the chart shows, in words and numbers.

import { make, setText } from "./dom.js";
import { framesOf } from "./models.js";
import { styleOf } from "./palette.js";
import { answer, confidence, latency, percent, span } from "./words.js";

const ROWS = 6;
const COLUMNS = ["Window", "Time", "Expression", "Probability", "Faces", "Latency"];

/** A table in `host`; `show(windows)` gives it the last ones, newest first. */
export function windowsTable(host) {
  const body = make("tbody");
  host.replaceChildren(
    make(
      "table", { class: "windows-table" },
      make("caption", {}, "Newest windows"),
      make("thead", {}, make("tr", {}, ...COLUMNS.map((name) => make("th", { scope: "col" }, name)))),
      body,
    ),
  );

  function show(windows) {
    const newest = windows.slice(-ROWS).reverse();
    while (body.children.length < newest.length) body.append(emptyRow());
    while (body.children.length > newest.length) body.lastChild.remove();
    newest.forEach((prediction, place) => fill(body.children[place], prediction));
  }

  return { show };
}

function emptyRow() {
  const expression = make("td", {}, make("i", { class: "swatch", "aria-hidden": "true" }), make("span"));
  return make("tr", {}, make("th", { scope: "row" }), make("td"), expression, make("td"), make("td"), make("td"));
}

function fill(row, prediction) {
  const [index, time, expression, share, faces, late] = row.children;
  const [swatch, name] = expression.children;
  const style = prediction.status === "ok" ? styleOf(prediction.expression) : null;
  setText(index, String(prediction.window.index));
  setText(time, span(prediction.window));
  setText(swatch, style?.code ?? "");
  swatch.dataset.status = prediction.status;
  swatch.style.background = style?.colour ?? "";
  swatch.style.color = style?.ink ?? "";
  setText(name, answer(prediction));
  setText(share, style ? percent(confidence(prediction)) : "–");
  setText(faces, `${prediction.window.faces}/${framesOf(prediction)}`);
  setText(late, latency(prediction.latency_ms));
}
