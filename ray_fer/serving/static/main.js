// Begins the page: asks what the deployment offers, then follows its streams and watches its workers.

import { alertBar } from "./alert_bar.js";
import { acknowledge, freshMemory, judge, observe } from "./alert_rules.js";
import { alertSettings, startSettings } from "./alert_settings.js";
import { explain } from "./api.js";
import { detailView } from "./detail_view.js";
import { byId, setText } from "./dom.js";
import { followEvents } from "./event_stream.js";
import { changeKey, onKey } from "./key.js";
import { legendOf } from "./legend.js";
import { liveView } from "./live_view.js";
import { defaultClasses, loadModels } from "./models.js";
import { overviewTiles, watchStatistics } from "./overview.js";
import { Streams } from "./streams.js";
import { addView, putLast, startTabs } from "./tabs.js";
import { uploadView } from "./upload_view.js";
import { webcamView } from "./webcam_view.js";

// About what the rows of a hundred streams can show.
const BACKLOG = 6_000;
const JUDGE_EVERY_MS = 1_000;
const AGAIN_MS = 3_000;
const STATES = {
  connecting: "Connecting", open: "Live", lost: "Connection lost", locked: "API key needed",
  absent: "No Kafka here",
};

const streams = new Streams();
const upload = uploadView();
const webcam = webcamView();
const legend = legendOf(byId("legend"));
const feed = { state: "connecting", reason: "", since: performance.now() };
const memory = freshMemory();
let watching = false;

const showAlerts = alertBar((alert) => acknowledge(memory, alert.key));

function setFeed(state, reason) {
  if (state !== feed.state) Object.assign(feed, { state, since: performance.now() });
  feed.reason = reason;
  setText(byId("status"), STATES[state]);
  byId("status").dataset.state = state;
}

function watch() {
  showAlerts(judge(memory, { streams: streams.all(), feed, now: performance.now() }, alertSettings()));
}

async function begin() {
  try {
    const offer = await loadModels();
    upload.offer();
    webcam.offer();
    if (offer.stream) beginStreams();
    else withoutKafka();
  } catch (error) {
    setFeed(error.status === 401 ? "locked" : "lost", explain(error));
    // Without a key there is nothing to try again until someone gives one.
    if (error.status !== 401) setTimeout(begin, AGAIN_MS);
  }
}

function beginStreams() {
  legend.list(defaultClasses());
  byId("live-legend").hidden = false;
  followEvents("v1/events", {
    backlog: BACKLOG,
    onEvent: ({ event, data }) => event === "window" && streams.add(JSON.parse(data)),
    onState: setFeed,
  });
  if (watching) return;
  watching = true;
  const tiles = overviewTiles();
  byId("overview").hidden = false;
  watchStatistics((answer) => {
    observe(memory, answer);
    if (answer.statistics) tiles(answer.statistics, streams.all());
    watch();
  });
}

// A deployment that answers requests alone: uploads are what people come for.
function withoutKafka() {
  setFeed("absent", "");
  byId("no-kafka").hidden = false;
  byId("live-content").hidden = true;
  putLast("live");
}

addView("live", liveView(streams));
addView("stream", detailView(streams));
addView("upload", upload);
addView("webcam", webcam);
startSettings(watch);
byId("key-button").addEventListener("click", changeKey);
onKey(() => feed.state === "locked" && begin());
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the view's
  byId("main-content").focus();
});
setInterval(watch, JUDGE_EVERY_MS);
startTabs();
begin();
