// Everything that one window says: the answer, bars of all probabilities and Action Units, faces, culture, model.

import { make, setText } from "./dom.js";
import { framesOf } from "./models.js";
import { styleOf } from "./palette.js";
import {
  answer, auMeaning, confidence, count, cultureText, latency, modelName, percent, reason, span,
} from "./words.js";

/** A card in `host`; `show(prediction)` changes it, null empties it. */
export function windowCard(host, emptyText) {
  const title = make("h3", { class: "card-title" });
  const swatch = make("i", { class: "swatch large", "aria-hidden": "true" });
  const name = make("strong", { class: "answer-name" });
  const share = make("span", { class: "answer-share" });
  const why = make("p", { class: "why" });
  const probabilities = barTable("Probabilities", "Expression", "Probability");
  const units = barTable("Action Units", "Action Unit", "Value, 0 to 1");
  const facts = make("dl", { class: "facts" });
  const empty = make("p", { class: "empty-card" }, emptyText);
  const full = make(
    "div", { hidden: true },
    title, make("p", { class: "big-answer" }, swatch, name, share), why,
    probabilities.element, units.element,
    make("h4", {}, "Window"), facts,
  );
  units.element.classList.add("two-columns");
  host.classList.add("card", "window-card");
  host.replaceChildren(empty, full);

  function show(prediction) {
    empty.hidden = prediction !== null;
    full.hidden = prediction === null;
    if (prediction === null) return;
    const ok = prediction.status === "ok";
    const style = ok ? styleOf(prediction.expression) : null;
    setText(title, `Window ${prediction.window.index} · ${span(prediction.window)}`);
    setText(name, answer(prediction));
    setText(share, ok ? percent(confidence(prediction)) : "");
    setText(swatch, style ? style.code : "");
    swatch.dataset.status = prediction.status;
    swatch.style.background = style ? style.colour : "";
    swatch.style.color = style ? style.ink : "";
    setText(why, reason(prediction));
    why.hidden = ok;
    probabilities.show(
      Object.entries(prediction.probabilities).map(([key, value]) => ({
        key, value, text: percent(value), style: styleOf(key), best: key === prediction.expression,
      })),
    );
    units.show(
      Object.entries(prediction.action_units).map(([key, value]) => ({
        key, value, text: value.toFixed(2), note: auMeaning(key),
      })),
    );
    showFacts(facts, factsOf(prediction));
  }

  show(null);
  return { show };
}

function factsOf(prediction) {
  const { window, culture } = prediction;
  const weights = Object.entries(culture.weights).map(([group, weight]) => `${group} ${percent(weight)}`);
  return [
    ["Faces", `in ${window.faces} of ${framesOf(prediction)} frames looked at`],
    ["Frames", `${count(window.frames)} in the window`],
    ["Session", String(window.session)],
    ["Latency", prediction.latency_ms === null ? "none: not live" : latency(prediction.latency_ms)],
    ["Culture", weights.length ? `${cultureText(prediction)}: ${weights.join(", ")}` : cultureText(prediction)],
    ["Model", modelName(prediction)],
  ];
}

function showFacts(list, facts) {
  while (list.children.length < facts.length) list.append(make("div", {}, make("dt"), make("dd")));
  facts.forEach(([term, text], place) => {
    setText(list.children[place].firstChild, term);
    setText(list.children[place].lastChild, text);
  });
}

// Bars are a table, so that whoever cannot see their length reads the number.
function barTable(caption, what, value) {
  const body = make("tbody", { role: "rowgroup" });
  const element = make(
    "table", { class: "bars", role: "table" },
    make("caption", {}, caption),
    make(
      "thead", { class: "unseen", role: "rowgroup" },
      make(
        "tr", { role: "row" },
        ...[what, value].map((name) => make("th", { role: "columnheader", scope: "col" }, name)),
      ),
    ),
    body,
  );

  function show(rows) {
    element.hidden = rows.length === 0;
    while (body.children.length < rows.length) body.append(barRow());
    while (body.children.length > rows.length) body.lastChild.remove();
    rows.forEach((row, place) => showBar(body.children[place], row));
  }

  return { element, show };
}

function barRow() {
  const code = make("i", { class: "swatch", "aria-hidden": "true" });
  const track = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
  return make(
    "tr", { role: "row" },
    make("th", { role: "rowheader", scope: "row" }, code, make("span")),
    make("td", { role: "cell" }, track, make("span", { class: "number" })),
  );
}

function showBar(element, { key, value, text, style, note, best }) {
  const [swatch, label] = element.firstChild.children;
  const [track, number] = element.lastChild.children;
  swatch.hidden = !style;
  setText(swatch, style?.code ?? "");
  swatch.style.background = style?.colour ?? "";
  swatch.style.color = style?.ink ?? "";
  setText(label, key);
  element.title = note ? `${key}: ${note}` : "";
  element.classList.toggle("best", best === true);
  track.firstChild.style.width = `${100 * Math.max(0, Math.min(1, value))}%`;
  track.firstChild.style.background = style?.colour ?? "";
  setText(number, text);
}
