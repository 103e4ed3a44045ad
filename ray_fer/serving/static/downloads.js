// A result as files to keep: JSON as the API gives it, and CSV with one row for each window.

const FIXED = ["stream_id", "session", "index", "start_s", "end_s", "frames", "faces", "status", "error", "expression"];

/** What `POST /v1/predict` answers with format=json. */
export function resultJson(windows, broken) {
  const [first] = windows;
  const result = { stream_id: first?.stream_id ?? null, model: first?.model ?? null, windows, broken };
  return `${JSON.stringify(result, null, 1)}\n`;
}

/** One row for each window; a column for each class (`p_`) and Action Unit, empty where a window has none. */
export function resultCsv(windows) {
  const classes = [...new Set(windows.flatMap((one) => Object.keys(one.probabilities)))];
  const units = [...new Set(windows.flatMap((one) => Object.keys(one.action_units)))];
  const head = [...FIXED, ...classes.map((name) => `p_${name}`), ...units, "culture_source", "model", "version"];
  const rows = windows.map((one) => [
    one.stream_id, one.window.session, one.window.index, one.window.start_us / 1e6, one.window.end_us / 1e6,
    one.window.frames, one.window.faces, one.status, one.error, one.expression,
    ...classes.map((name) => one.probabilities[name]), ...units.map((name) => one.action_units[name]),
    one.culture.source, one.model.name, one.model.version,
  ]);
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// Spreadsheets take what begins so for a formula, and the names here come from whoever sent the video.
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Have the browser save a text under a name. */
export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A file's name without its ending, with nothing in it that file systems mind. */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "_") || "result";
}
