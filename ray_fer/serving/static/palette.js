// Colours of expressions and of drawn lines. Colour is never alone: every class has a code of two letters, too.

// Okabe and Ito's palette, which stays apart under colour blindness; grey stands in for its black, which a dark page
// swallows.
const KNOWN = {
  Angry: "#d55e00", Disgust: "#009e73", Fear: "#cc79a7", Happy: "#e69f00",
  Neutral: "#8d96a3", Sad: "#0072b2", Surprise: "#56b4e9",
};
const SAME_AS = { Anger: "Angry", Happiness: "Happy", Sadness: "Sad", Surprised: "Surprise", Disgusted: "Disgust" };
const OTHERS = [
  "#8c6bb1", "#a07c4a", "#5fa8a3", "#c9b52c", "#b5566f", "#6f9a3e", "#4f6fb8", "#d98a7b", "#7f8f5a", "#b48ead",
];
const DRAWN = ["ink", "quiet", "line", "surface", "accent", "hatch", "outline", "bad"];

const styles = new Map();
const listeners = [];
let drawn = null;

/** Colour, code, and the colour of text on it. An unknown name keeps what it was first given. */
export function styleOf(name) {
  if (!styles.has(name)) {
    const colour = KNOWN[SAME_AS[name] ?? name] ?? otherColour(name);
    styles.set(name, { colour, code: codeOf(name), ink: luminance(colour) > 0.18 ? "#10141a" : "#ffffff" });
  }
  return styles.get(name);
}

/** Give all classes of a model their colours, in an order that does not depend on which is seen first. */
export function learnClasses(names) {
  [...names].sort().forEach(styleOf);
}

// The name decides where the search for a free colour begins, so most names look the same on every page.
function otherColour(name) {
  const taken = new Set([...styles.values()].map((style) => style.colour));
  const start = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7);
  const order = OTHERS.map((_, step) => OTHERS[(start + step) % OTHERS.length]);
  return order.find((colour) => !taken.has(colour)) ?? order[0];
}

function codeOf(name) {
  const taken = new Set([...styles.values()].map((style) => style.code));
  const letters = [...name];
  const codes = letters.slice(1).map((second) => (letters[0] ?? "").toUpperCase() + second.toLowerCase());
  return codes.find((code) => !taken.has(code)) ?? codes[0] ?? name;
}

/** Relative luminance of WCAG 2, from 0 to 1, of "#rrggbb". */
function luminance(colour) {
  const channels = [1, 3, 5].map((place) => Number.parseInt(colour.slice(place, place + 2), 16) / 255);
  const [red, green, blue] = channels.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** The style sheet's colours for what is drawn on a canvas, in the scheme of now. */
export function theme() {
  if (drawn === null) {
    const style = getComputedStyle(document.documentElement);
    drawn = Object.fromEntries(DRAWN.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    drawn.font = style.getPropertyValue("--font").trim();
  }
  return drawn;
}

/** Hear of a change between light and dark, to draw again. */
export function onTheme(listener) {
  listeners.push(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawn = null;
  listeners.forEach((listener) => listener());
});
