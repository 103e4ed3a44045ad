// Makes and changes elements. Whatever comes from a server goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** A new element: attributes, `on...` listeners, then children; strings become text nodes. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Change a node's text only where it differs, so that nothing is laid out or read aloud again for no reason. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A button that looks like the others. */
export function button(text, onclick, kind = "plain") {
  return make("button", { type: "button", class: `button ${kind}`, onclick }, text);
}

/** Call `draw` at most once a frame, however often the returned function is called. */
export function onceAFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/** Say something to screen readers without showing it. For what a person did, not for what keeps coming in. */
export function announce(text) {
  setText(byId("announcer"), text);
}

/** Options of a <select>: pairs of value and text. */
export function fillSelect(select, pairs) {
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

/** A size in bytes in the unit that reads best. */
export function byteSize(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
