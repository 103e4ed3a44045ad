// Requests to the server that gave this page: the address, the API key, and errors in the server's words.

import { currentKey, newKey } from "./key.js";

// This file lies in PREFIX/static/, so the API is found under whatever prefix a proxy puts in front.
const BASE = new URL("..", import.meta.url);

/** What went wrong, in a line that can be shown. `status` is 0 when no answer came. */
export class ApiError extends Error {
  constructor(message, status = 0, retryAfterS = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export const NO_ANSWER = "The server does not answer. Check that it runs, and your connection to it.";

/** Absolute address of a path of the API, with a query. */
export function address(path, query = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

/** The same for WebSockets. */
export function socketAddress(path) {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** Headers that name the key, if there is one. */
export function keyHeaders(key = currentKey()) {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/** The error that an answer stands for. FastAPI lists wrong parameters one by one. */
export function errorOf(status, text, retryAfter) {
  let detail = "";
  try {
    detail = JSON.parse(text).detail;
  } catch {
    // A proxy in between may answer with a page of its own.
  }
  if (Array.isArray(detail)) {
    detail = detail.map((one) => `${one.loc?.at(-1) ?? "request"}: ${one.msg}`).join("; ");
  }
  const wait = Number.parseFloat(retryAfter ?? "");
  const message = detail || `The server answered with status ${status}.`;
  return new ApiError(message, status, Number.isFinite(wait) ? wait : null);
}

/** Fetch with the key. Asks for one on 401, and throws ApiError for every other refusal. */
export async function request(path, { query, signal, headers = {} } = {}) {
  for (;;) {
    const key = currentKey();
    const url = address(path, query);
    let response;
    try {
      response = await fetch(url, { signal, headers: { ...headers, ...keyHeaders(key) }, cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(NO_ANSWER);
    }
    if (response.ok) return response;
    const refused = errorOf(response.status, await response.text(), response.headers.get("Retry-After"));
    if (refused.status !== 401) throw refused;
    await newKey(key, refused);
  }
}

/** The JSON of an answer. */
export async function getJson(path, query, signal) {
  const response = await request(path, { query, signal });
  return response.json();
}

/** "Try again in 3 s" where the server has said when. */
export function explain(error) {
  const wait = error.retryAfterS;
  return wait ? `${error.message} Try again in ${Math.ceil(wait)} s.` : error.message;
}
