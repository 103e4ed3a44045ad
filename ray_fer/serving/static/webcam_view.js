// The webcam tab: the camera of this computer to the server, and its predictions back, until one stops it.

import { WindowChart } from "./chart.js";
import { captureFrames, closeCamera, openCamera } from "./camera.js";
import { announce, byId, byteSize, fillSelect, onceAFrame, setText } from "./dom.js";
import { allowAsking } from "./key.js";
import { legendOf } from "./legend.js";
import { openLive } from "./live_socket.js";
import { modelChoices, offered } from "./models.js";
import { place } from "./streams.js";
import { count, latency, plural } from "./words.js";
import { windowCard } from "./window_card.js";

const WINDOWS_KEPT = 3_600;
const WINDOWS_SHOWN = 120;
const LAST_WORDS_MS = 10_000;

/** Made once; gives {hide, offer} for the tab. */
export function webcamView() {
  const video = byId("webcam-video");
  const card = windowCard(byId("webcam-card"), "Start the camera. What the model says of each window appears here.");
  const chart = new WindowChart(byId("webcam-chart"), {
    label: "Windows of the webcam: arrow keys choose one, End follows the newest",
    onSelect: (prediction) => card.show(prediction),
  });
  const legend = legendOf(byId("webcam-legend"));
  let session = null;
  let windows = [];

  const refresh = onceAFrame(() => {
    chart.setWindows(windows, WINDOWS_SHOWN);
    legend.show(chart.windows);
    showCounts();
  });

  async function start() {
    const mine = { sent: 0, dropped: 0, bytes: 0, broken: "", camera: null, connection: null, stopFrames: null };
    session = mine;
    allowAsking();
    windows = [];
    fail("");
    chart.follow();
    refresh();
    setState("starting", "Waiting for the camera");
    try {
      mine.camera = await openCamera();
      if (session !== mine) return closeCamera(mine.camera);
      mine.camera.getTracks()[0].addEventListener("ended", () => end(mine, "The camera was taken away."));
      video.srcObject = mine.camera;
      await video.play();
      setState("starting", "Connecting");
      mine.connection = await openLive(options(), {
        onWindow(prediction) {
          place(windows, prediction);
          if (windows.length > WINDOWS_KEPT) windows.shift();
          refresh();
        },
        onBroken({ reason }) {
          mine.broken = reason;
          refresh();
        },
        onClose: (text) => end(mine, text),
      });
    } catch (error) {
      return end(mine, error.message);
    }
    if (session !== mine) return mine.connection.drop();
    const { model, size, stride } = mine.connection.started;
    setState("running", `Live · ${model.name}@${model.version}, windows of ${size} s every ${stride} s`);
    byId("webcam-result").hidden = false;
    mine.stopFrames = captureFrames(video, Number(byId("webcam-fps").value), {
      ready: mine.connection.ready,
      async send(ptsUs, jpeg) {
        mine.bytes += await mine.connection.send(ptsUs, jpeg);
        mine.sent += 1;
        refresh();
      },
      onDrop() {
        mine.dropped += 1;
        refresh();
      },
    });
    return undefined;
  }

  // The camera goes off at once; the server has a moment for the windows that are still open.
  function stop() {
    const mine = session;
    if (!mine) return;
    release(mine);
    if (!mine.connection) return end(mine, "");
    setState("stopping", "Waiting for the last windows");
    mine.connection.finish();
    mine.timer = setTimeout(() => mine.connection.drop(), LAST_WORDS_MS);
  }

  function release(mine) {
    mine.stopFrames?.();
    if (mine.camera) closeCamera(mine.camera);
    video.srcObject = null;
  }

  function end(mine, text) {
    if (session !== mine) return;
    session = null;
    clearTimeout(mine.timer);
    release(mine);
    mine.connection?.drop();
    const said = mine.connection?.ended();
    const counts = said ? `: ${plural(said.frames, "frame")}, ${plural(said.windows, "window")}` : "";
    setState("stopped", `Stopped${counts}`);
    fail(text);
  }

  function setState(state, text) {
    setText(byId("webcam-state"), text);
    byId("panel-webcam").dataset.state = state;
    byId("webcam-start").hidden = state !== "stopped";
    byId("webcam-stop").hidden = state === "stopped";
    byId("webcam-stop").disabled = state === "stopping";
    byId("webcam-options").disabled = state !== "stopped";
    byId("webcam-off").hidden = state === "running" || state === "starting";
    announce(text);
  }

  function showCounts() {
    if (!session) return;
    const newest = windows.at(-1);
    setText(byId("webcam-sent"), `${count(session.sent)} (${byteSize(session.bytes)})`);
    setText(byId("webcam-dropped"), count(session.dropped));
    setText(byId("webcam-latency"), newest ? latency(newest.latency_ms) : "–");
    setText(byId("webcam-windows"), count(windows.length));
    byId("webcam-broken").hidden = session.broken === "";
    setText(byId("webcam-broken"), `A frame could not be used: ${session.broken}`);
  }

  function fail(text) {
    setText(byId("webcam-error"), text);
    byId("webcam-error").hidden = text === "";
  }

  byId("webcam-start").addEventListener("click", start);
  byId("webcam-stop").addEventListener("click", stop);
  addEventListener("pagehide", () => session && release(session));

  return {
    hide: stop,
    offer() {
      fillSelect(byId("webcam-model"), modelChoices());
      byId("webcam-size").placeholder = String(offered().windows.size);
      byId("webcam-stride").placeholder = String(offered().windows.stride);
    },
  };
}

function options() {
  const number = (id) => Number(byId(id).value || byId(id).placeholder);
  return { model: byId("webcam-model").value || null, size: number("webcam-size"), stride: number("webcam-stride") };
}
