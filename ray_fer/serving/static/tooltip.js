// One small label beside the pointer that says what is drawn under it. Screen readers have the text elsewhere.

import { byId, setText } from "./dom.js";

const GAP = 14;

/** Show `textAt(x, y)` of a canvas while the pointer is over it; x and y in CSS pixels, null hides it. */
export function explainCanvas(canvas, textAt) {
  canvas.addEventListener("pointermove", (event) => {
    const text = textAt(event.offsetX, event.offsetY);
    if (text === null) hide();
    else show(text, event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", hide);
  canvas.addEventListener("pointercancel", hide);
}

function show(text, x, y) {
  const tip = byId("tooltip");
  setText(tip, text);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + GAP + width > innerWidth ? Math.max(4, x - GAP - width) : x + GAP;
  const top = y + GAP + height > innerHeight ? Math.max(4, y - GAP - height) : y + GAP;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}

function hide() {
  byId("tooltip").hidden = true;
}
