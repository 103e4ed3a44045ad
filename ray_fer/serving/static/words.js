// Predictions in words and numbers: times, shares, statuses, names of Action Units.

export const STATUS_NAMES = {
  ok: "ok",
  no_face: "No face",
  gap: "Gap",
  skipped: "Skipped",
  failed: "Failed",
};

const STATUS_REASONS = {
  no_face: "Too few of the frames that were looked at show a face.",
  gap: "The stream has no frame in this window.",
  skipped: "Passed over to catch up; nobody has looked at its frames.",
  failed: "The model breaks on this window.",
};

const AU_MEANINGS = {
  AU01: "inner brow raiser", AU02: "outer brow raiser", AU04: "brow lowerer", AU05: "upper lid raiser",
  AU06: "cheek raiser", AU07: "lid tightener", AU09: "nose wrinkler", AU10: "upper lip raiser",
  AU11: "nasolabial deepener", AU12: "lip corner puller", AU14: "dimpler", AU15: "lip corner depressor",
  AU17: "chin raiser", AU20: "lip stretcher", AU23: "lip tightener", AU24: "lip pressor", AU25: "lips part",
  AU26: "jaw drop", AU28: "lip suck", AU43: "eyes closed",
};

// Event times from here on are taken for wall-clock time in microseconds since 1970: this is 2001.
const WALL_CLOCK_US = 1e15;

export const auMeaning = (name) => AU_MEANINGS[name] ?? "";

export const count = (number) => number.toLocaleString("en-US");

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A share between 0 and 1 as a percentage. */
export const percent = (share) => `${Math.round(100 * share)}%`;

/** A moment of a stream: minutes and seconds of its event time, or the time of day. */
export function moment(us) {
  if (us >= WALL_CLOCK_US) return new Date(us / 1000).toLocaleTimeString("en-GB");
  const tenths = Math.round(us / 1e5);
  const seconds = (tenths % 600) / 10;
  const text = Number.isInteger(seconds) ? String(seconds).padStart(2, "0") : seconds.toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${text}`;
}

/** From when to when a window goes. */
export const span = ({ start_us: start, end_us: end }) => `${moment(start)}–${moment(end)}`;

export function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 9950 ? `${count(Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** How sure the model is of its answer, 0 where it has none. */
export function confidence(prediction) {
  return prediction.status === "ok" ? (prediction.probabilities[prediction.expression] ?? 0) : 0;
}

/** The answer, or why there is none, in a word or two. */
export function answer(prediction) {
  return prediction.status === "ok" ? prediction.expression : (STATUS_NAMES[prediction.status] ?? prediction.status);
}

/** Why a window has no expression; empty where it has one. */
export function reason(prediction) {
  const text = STATUS_REASONS[prediction.status] ?? "";
  return prediction.error ? `${text} ${prediction.error}` : text;
}

/** A window in one line, for tooltips and screen readers. */
export function describe(prediction) {
  const sure = prediction.status === "ok" ? ` ${percent(confidence(prediction))}` : "";
  return `${span(prediction.window)}: ${answer(prediction)}${sure}`;
}

/** The strongest Action Units: pairs of name and value, strongest first. */
export function strongestUnits(prediction, most = 3) {
  return Object.entries(prediction.action_units)
    .sort(([, a], [, b]) => b - a)
    .slice(0, most);
}

/** Which window this is, whenever it comes: a stream that starts again numbers its windows anew. */
export const windowKey = ({ window }) => `${window.session}/${window.index}`;

export const modelName = ({ model }) => `${model.name}@${model.version}`;

/** Where the culture weights come from, with the groups where there are several. */
export function cultureText({ culture }) {
  return culture.source.replaceAll("_", " ");
}
