// Server-sent events read through fetch, which can send the API key as EventSource cannot; comes back after a loss.

import { request } from "./api.js";
import { keyDeclined } from "./key.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
// The server sends a comment every 15 s. Two that are missing mean that nobody is there any more.
const SILENCE_MS = 35_000;
const STEADY_MS = 5_000;

/** Split text that comes in pieces into lines; `end` gives the last one, which may lack its line break. */
export function lineReader(onLine) {
  let rest = "";
  return {
    push(text) {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) onLine(line.endsWith("\r") ? line.slice(0, -1) : line);
    },
    end() {
      if (rest) onLine(rest);
      rest = "";
    },
  };
}

/** A line reader of the event format: `onEvent` gets {event, id, data} of each event. */
function eventReader(onEvent) {
  let fields = { event: "message", id: null, data: [] };
  return lineReader((line) => {
    if (line === "") {
      if (fields.data.length) onEvent({ ...fields, data: fields.data.join("\n") });
      fields = { event: "message", id: null, data: [] };
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") fields.data.push(value);
    else if (name === "event" || name === "id") fields[name] = value;
  });
}

/**
 * Follow a path until `stop` is called.
 *
 * `onState(state, reason)` hears "connecting", "open", "lost" (it is tried again), "locked" (a key is needed, and
 * nobody gave one) and "absent" (this deployment has no such stream); the last two end it. The first connection asks
 * for `backlog` events, later ones for all after the last that was seen.
 */
export function followEvents(path, { backlog, onEvent, onState }) {
  const stopped = new AbortController();
  let lastId = null;
  let wait = FIRST_WAIT_MS;

  async function connection() {
    const silence = new AbortController();
    const signal = AbortSignal.any([stopped.signal, silence.signal]);
    let alarm = setTimeout(() => silence.abort(), SILENCE_MS);
    const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
    try {
      const response = await request(path, { query: { backlog: lastId === null ? backlog : null }, headers, signal });
      const opened = performance.now();
      onState("open", "");
      const reader = eventReader((event) => {
        if (event.id !== null) lastId = event.id;
        onEvent(event);
      });
      const chunks = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await chunks.read();
        if (done) return "The server has ended the connection.";
        clearTimeout(alarm);
        alarm = setTimeout(() => silence.abort(), SILENCE_MS);
        if (performance.now() - opened > STEADY_MS) wait = FIRST_WAIT_MS;
        reader.push(value);
      }
    } catch (error) {
      if (silence.signal.aborted) return "The server has fallen silent.";
      throw error;
    } finally {
      clearTimeout(alarm);
    }
  }

  async function follow() {
    onState("connecting", "");
    while (!stopped.signal.aborted) {
      let lost;
      let least = 0;
      try {
        lost = await connection();
      } catch (error) {
        if (stopped.signal.aborted) return;
        if (error.status === 404) return onState("absent", error.message);
        if (error.status === 401 && keyDeclined()) return onState("locked", error.message);
        lost = error.name === "ApiError" ? error.message : "The connection broke.";
        least = 1000 * (error.retryAfterS ?? 0);
      }
      onState("lost", lost);
      // Some spread, so that the pages of a server that was restarted do not all come back at once.
      await pause(Math.max(least, wait * (0.75 + Math.random() / 2)), stopped.signal);
      wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    }
  }

  follow();
  return () => stopped.abort();
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
