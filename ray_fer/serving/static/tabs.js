// The views of the page by the hash of its address, so that each can be linked: #live, #upload, #webcam, #stream/ID.

import { byId } from "./dom.js";

const TITLES = { live: "Live streams", stream: "Stream", upload: "Upload", webcam: "Webcam" };

const views = new Map();
let shown = null;

/** Say what to do when a view appears (`show(argument)`) and when another one takes its place (`hide()`). */
export function addView(name, { show = () => {}, hide = () => {} }) {
  views.set(name, { show, hide });
}

/** The address of a stream's own view. */
export const streamHash = (id) => `#stream/${encodeURIComponent(id.toWellFormed())}`;

/** Begin to follow the address. Call it when all views are added. */
export function startTabs() {
  const list = byId("tabs");
  list.addEventListener("keydown", (event) => {
    // Enter follows a link by itself; Space does so only for buttons, which a tab is to those who cannot see it.
    if (event.key === " ") {
      event.preventDefault();
      location.hash = event.target.hash;
    }
    const all = tabs();
    const at = all.indexOf(document.activeElement);
    const target = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || target === undefined) return;
    event.preventDefault();
    const tab = all.at(target % all.length);
    tab.focus();
    location.hash = tab.hash;
  });
  addEventListener("hashchange", () => show(true));
  show(false);
}

/** Put a tab at the end of the row. The first one is shown when the address names none. */
export function putLast(name) {
  byId("tabs").append(byId(`tab-${name}`));
  if (route()[0] !== shown) show(false);
}

function tabs() {
  return [...byId("tabs").querySelectorAll("[role=tab]")];
}

function route() {
  const [, name, argument] = location.hash.match(/^#(\w+)(?:\/(.*))?$/) ?? [];
  if (!views.has(name) || (name === "stream" && !argument)) return [tabs()[0].hash.slice(1), null];
  try {
    return [name, argument ? decodeURIComponent(argument) : null];
  } catch {
    return [tabs()[0].hash.slice(1), null];
  }
}

function show(moved) {
  const [name, argument] = route();
  const tabName = name === "stream" ? "live" : name;
  for (const tab of tabs()) {
    const chosen = tab.id === `tab-${tabName}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  for (const panel of document.querySelectorAll("[role=tabpanel]")) panel.hidden = panel.id !== `panel-${tabName}`;
  byId("live-list").hidden = name === "stream";
  byId("live-detail").hidden = name !== "stream";
  document.title = `${name === "stream" ? argument : TITLES[name]} · ray_fer`;
  if (shown !== null) views.get(shown).hide();
  shown = name;
  views.get(name).show(argument, moved);
}
