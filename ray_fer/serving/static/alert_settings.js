// From which point on there is an alert: a small dialog, kept in this browser.

import { DEFAULTS } from "./alert_rules.js";
import { byId } from "./dom.js";

const STORED = "ray_fer.alerts";
const FIELDS = { lagRecords: "set-lag", facelessWindows: "set-faceless", workers: "set-workers" };

let settings = read();

export const alertSettings = () => settings;

/** Wire the dialog; `onChange()` hears of new thresholds. */
export function startSettings(onChange) {
  const dialog = byId("settings-dialog");
  const form = byId("settings-form");

  function fill(values) {
    for (const [name, id] of Object.entries(FIELDS)) byId(id).value = String(values[name]);
  }

  byId("settings-button").addEventListener("click", () => {
    fill(settings);
    dialog.returnValue = "";
    dialog.showModal();
  });
  byId("settings-reset").addEventListener("click", () => fill(DEFAULTS));
  byId("settings-cancel").addEventListener("click", () => dialog.close(""));
  form.addEventListener("submit", () => {
    settings = Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, Number(byId(id).value)]));
    write(settings);
    onChange();
  });
}

// What is stored may be of another version of this page, or changed by hand.
function read() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(STORED) ?? "{}") ?? {};
  } catch {
    // Not JSON, or the browser keeps nothing for this page: the defaults do.
  }
  const usable = ([name, value]) => [name, Number.isFinite(stored[name]) && stored[name] >= 0 ? stored[name] : value];
  return Object.fromEntries(Object.entries(DEFAULTS).map(usable));
}

function write(values) {
  try {
    localStorage.setItem(STORED, JSON.stringify(values));
  } catch {
    // A browser that keeps nothing still has them until the page is closed.
  }
}
