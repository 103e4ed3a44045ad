// The API key of a deployment that asks for one: kept for this browser tab alone, asked for when a request needs it.

import { byId, setText } from "./dom.js";

const STORED = "ray_fer.key";
const listeners = [];
let asking = null;
let declined = false;

/** The key in use, or null. */
export function currentKey() {
  return sessionStorage.getItem(STORED);
}

/** Hear of a key that was given or forgotten. */
export function onKey(listener) {
  listeners.push(listener);
}

/** Ask again if need be: somebody wants something that a key is needed for. */
export function allowAsking() {
  declined = false;
}

/** Whether somebody closed the dialog without a key, so that nothing is asked again until they want to. */
export function keyDeclined() {
  return declined;
}

/** Get another key than the `refused` one, or throw `error` when nobody gives one. One dialog serves all requests. */
export async function newKey(refused, error) {
  byId("key-button").hidden = false;
  if (currentKey() !== null && currentKey() !== refused) return;
  if (declined) throw error;
  const wrong = refused !== null;
  asking ??= ask(wrong ? `This key was refused: ${error.message}` : "").finally(() => (asking = null));
  if (!(await asking)) throw error;
}

/** Open the dialog because the person wants to. */
export async function changeKey() {
  declined = false;
  asking ??= ask("").finally(() => (asking = null));
  if (await asking) listeners.forEach((listener) => listener());
}

function ask(complaint) {
  const dialog = byId("key-dialog");
  const input = byId("key-input");
  const forget = byId("key-forget");
  setText(byId("key-error"), complaint);
  byId("key-error").hidden = complaint === "";
  input.setAttribute("aria-invalid", String(complaint !== ""));
  forget.hidden = currentKey() === null;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "use" ? input.value.trim() : "";
        input.value = "";
        if (dialog.returnValue === "forget") sessionStorage.removeItem(STORED);
        if (given) sessionStorage.setItem(STORED, given);
        declined = !given;
        resolve(given !== "");
      },
      { once: true },
    );
  });
}
