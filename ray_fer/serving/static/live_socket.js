// The protocol of `WS v1/live`: a start message, pictures with their times, and predictions that come back.

import { getJson, NO_ANSWER, socketAddress } from "./api.js";
import { currentKey } from "./key.js";

const MOST_WAITING = 512 * 1024;
const LATENESS_S = 0.2;
const NORMAL = 1000;

const REASONS = {
  1000: "The server has ended the connection.",
  1007: "The server did not understand a message of this page.",
  1008: "The server refused the API key, or its rate is spent.",
  1009: "A picture was larger than the server takes.",
  1013: "The server is busy. Try again in a moment.",
};

/**
 * Connect and say how windows are cut; gives a connection once the server is ready, or throws Error.
 *
 * `options` are {model, size, stride}, null where the deployment decides. `onWindow(prediction)`,
 * `onBroken({pts_us, reason})` and `onClose(text)` hear what comes; the text is empty after a normal end.
 */
export async function openLive(options, { onWindow, onBroken, onClose }) {
  await getJson("v1/models"); // asks for the key if one is needed, which a WebSocket could only be refused for
  const socket = new WebSocket(socketAddress("v1/live"));
  socket.binaryType = "arraybuffer";
  let isReady = false;
  let ended = null;

  const ready = new Promise((resolve, reject) => {
    socket.addEventListener("open", () => {
      socket.send(JSON.stringify({ type: "start", key: currentKey(), ...options, lateness: LATENESS_S }));
    });
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") {
        isReady = true;
        resolve(message);
      } else if (message.type === "window") onWindow(message.prediction);
      else if (message.type === "broken") onBroken(message);
      else if (message.type === "end") ended = message;
    });
    socket.addEventListener("close", ({ code, reason }) => {
      const text = ended ? "" : reason || REASONS[code] || `The connection broke (code ${code}). ${NO_ANSWER}`;
      if (isReady) onClose(text);
      else reject(new Error(text));
    });
  });

  const started = await ready;
  return {
    started,
    /** What the server counted, once it has ended. */
    ended: () => ended,
    /** Whether another picture may be sent; if not, the network is slower than the camera. */
    ready: () => socket.readyState === WebSocket.OPEN && socket.bufferedAmount < MOST_WAITING,
    async send(ptsUs, jpeg) {
      const message = new Uint8Array(8 + jpeg.size);
      new DataView(message.buffer).setBigUint64(0, BigInt(ptsUs));
      message.set(new Uint8Array(await jpeg.arrayBuffer()), 8);
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
      return message.length;
    },
    /** Close all windows; the server sends what is left, then ends. */
    finish() {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
    },
    drop: () => socket.close(NORMAL),
  };
}
