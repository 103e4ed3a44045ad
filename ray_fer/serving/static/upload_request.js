// An upload whose answer is read while it comes: progress of the bytes on the way up, one JSON a line on the way down.

import { address, ApiError, errorOf, keyHeaders, NO_ANSWER } from "./api.js";
import { lineReader } from "./event_stream.js";
import { currentKey, newKey } from "./key.js";

/**
 * Send a form to `v1/predict`; gives how many windows came.
 *
 * `onProgress(share)` hears how much has gone up, `onWindow(prediction)` and `onBroken({item, reason})` what came
 * back. Throws ApiError, or AbortError when `signal` ends it.
 */
export async function predict(form, query, { signal, onProgress, onWindow, onBroken }) {
  for (;;) {
    const key = currentKey();
    try {
      return await attempt(form, query, key, { signal, onProgress, onWindow, onBroken });
    } catch (error) {
      if (error.status !== 401) throw error;
      await newKey(key, error);
    }
  }
}

// XMLHttpRequest, because fetch does not say how much of an upload has gone.
function attempt(form, query, key, { signal, onProgress, onWindow, onBroken }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let taken = 0;
    let ending = null;
    const lines = lineReader((line) => {
      if (!line.trim()) return;
      const message = parse(line);
      if (message.type === "window") onWindow(message.prediction);
      else if (message.type === "broken") onBroken({ item: message.item, reason: message.reason });
      else ending = message;
    });

    function takeMore() {
      if (request.status !== 200) return;
      lines.push(request.responseText.slice(taken));
      taken = request.responseText.length;
    }

    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onProgress(1));
    request.addEventListener("progress", takeMore);
    request.addEventListener("error", () => reject(new ApiError(NO_ANSWER)));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    request.addEventListener("load", () => {
      if (request.status !== 200) {
        reject(errorOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      takeMore();
      lines.end();
      if (ending?.type === "end") resolve(ending.windows);
      else reject(new ApiError(ending?.reason ?? "The answer broke off before its end. Try the upload again."));
    });
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", address("v1/predict", { ...query, format: "ndjson" }));
    for (const [name, value] of Object.entries(keyHeaders(key))) request.setRequestHeader(name, value);
    request.send(form);
  });
}

// A proxy that gives up in the middle of an answer may end it with a line of its own.
function parse(line) {
  try {
    return JSON.parse(line);
  } catch {
    return { type: "error", reason: "The answer cannot be read on from here. Try the upload again." };
  }
}
