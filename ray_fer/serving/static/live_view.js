// The live tab: a row for each stream, drawn again at most once a frame, and only where something has changed.

import { byId, button, make, onceAFrame, setText } from "./dom.js";
import { arrange, howMany, putInOrder } from "./live_order.js";
import { liveRow } from "./live_row.js";
import { onTheme } from "./palette.js";
import { plural } from "./words.js";

const ROWS_AT_ONCE = 100;
const FRAME_BUDGET_MS = 8;
const AGE_EVERY_MS = 2_000;

/** Show `streams` in the table; gives {show, hide} for the tab. */
export function liveView(streams) {
  const body = byId("streams");
  const filter = byId("filter");
  const sort = byId("sort");
  const rows = new Map();
  const dirty = new Set();
  const widths = new WeakMap();
  const onScreen = new WeakSet();
  let most = ROWS_AT_ONCE;
  let visible = false;
  let ordered = false;

  const sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      widths.set(target, contentRect.width);
      dirty.add(target.closest("tr").dataset.stream);
    }
    paint();
  });
  const sight = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) onScreen.add(target);
        else onScreen.delete(target);
        if (isIntersecting) dirty.add(target.dataset.stream);
      }
      paint();
    },
    { rootMargin: "200px" },
  );

  function rowOf(stream) {
    let row = rows.get(stream.id);
    if (row?.stream !== stream) {
      if (row) forget(row);
      row = liveRow(stream);
      row.element.addEventListener("click", (event) => {
        if (!event.target.closest("a") && getSelection().isCollapsed) location.hash = row.link.hash;
      });
      rows.set(stream.id, row);
      sizes.observe(row.canvas);
      sight.observe(row.element);
    }
    return row;
  }

  function forget(row) {
    sizes.unobserve(row.canvas);
    sight.unobserve(row.element);
    row.element.remove();
    rows.delete(row.stream.id);
  }

  function order() {
    const now = performance.now();
    const found = arrange(streams.all(), { filter: filter.value, sort: sort.value, now });
    const shown = found.slice(0, most).map(rowOf);
    putInOrder(body, shown);
    const kept = new Set(shown);
    for (const row of [...rows.values()]) if (!kept.has(row)) forget(row);
    setText(byId("shown"), howMany(shown.length, found.length, streams.size));
    byId("more").hidden = shown.length === found.length;
    byId("no-match").hidden = streams.size === 0 || found.length > 0;
    byId("stream-table").hidden = found.length === 0;
    ordered = true;
  }

  const paint = onceAFrame(() => {
    if (!visible) return;
    const began = performance.now();
    if (!ordered) order();
    setText(byId("counts"), `live: ${plural(streams.size, "stream")}, ${plural(streams.received, "window")}`);
    byId("empty").hidden = streams.size > 0;
    for (const id of dirty) {
      dirty.delete(id);
      const row = rows.get(id);
      if (!row) continue;
      row.element.dataset.windows = row.stream.received;
      if (!onScreen.has(row.element)) continue;
      row.update();
      row.draw(widths.get(row.canvas) ?? row.canvas.clientWidth);
      if (performance.now() - began > FRAME_BUDGET_MS) break;
    }
    if (dirty.size) paint();
  });

  function again() {
    ordered = false;
    paint();
  }

  streams.listen((prediction, stream) => {
    if (stream.received === 1) ordered = false;
    dirty.add(stream.id);
    paint();
  });
  filter.addEventListener("input", () => {
    most = ROWS_AT_ONCE;
    again();
  });
  sort.addEventListener("change", again);
  byId("more").append(
    button(`Show ${ROWS_AT_ONCE} more`, () => {
      most += ROWS_AT_ONCE;
      again();
    }),
  );
  byId("no-match").append(
    make("p", {}, "No stream has this in its id."),
    button("Clear the filter", () => {
      filter.value = "";
      again();
      filter.focus();
    }),
  );
  onTheme(() => {
    rows.forEach((row, id) => dirty.add(id));
    paint();
  });
  setInterval(() => {
    if (!visible) return;
    const now = performance.now();
    rows.forEach((row) => row.age(now));
    again();
  }, AGE_EVERY_MS);

  return {
    show() {
      visible = true;
      rows.forEach((row, id) => dirty.add(id));
      again();
    },
    hide() {
      visible = false;
    },
  };
}
