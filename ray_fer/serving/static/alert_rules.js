// What deserves an alert, from the figures of the workers and what the page sees of the streams. Nothing is shown here.

import { streamHash } from "./tabs.js";
import { count, plural } from "./words.js";

const GROWING_SAMPLES = 8;
const GROWING_BY = 50;
const LOST_AFTER_MS = 3_000;
const LIVE_MS = 60_000;
const NAMED = 3;

export const DEFAULTS = { lagRecords: 1000, facelessWindows: 10, workers: 1 };

/** What is compared with the next look: the workers' last figures, lags before them, dead letters that are known. */
export const freshMemory = () => ({ statistics: null, failure: null, lags: [], knownLetters: null });

/** Records not read yet, over all partitions. */
export const lagOf = (statistics) => Object.values(statistics.total.lag_records).reduce((sum, one) => sum + one, 0);

/** Take in the answer to a look at the workers; `statistics` is null when there was none, and `failure` says why. */
export function observe(memory, { statistics, failure }) {
  Object.assign(memory, { statistics, failure });
  if (statistics === null) return;
  memory.lags = [...memory.lags, lagOf(statistics)].slice(-GROWING_SAMPLES);
  const letters = statistics.total.dead_letters;
  // A worker that starts again counts from 0, so fewer than before is a new beginning.
  if (memory.knownLetters === null || letters < memory.knownLetters) memory.knownLetters = letters;
}

/** Someone has put an alert away: the dead letters so far are known from now on. */
export function acknowledge(memory, key) {
  if (key === "dead-letters" && memory.statistics) memory.knownLetters = memory.statistics.total.dead_letters;
}

/**
 * Alerts as things are now, each {key, about, level, text, advice, links}. One that was put away comes back when it is
 * `about` something that it was not about then. `seen` is {streams, feed: {state, reason, since}, now}.
 */
export function judge(memory, seen, settings) {
  const found = [connection(memory, seen), faceless(seen, settings)];
  if (memory.statistics !== null) found.push(workers(memory, settings), lag(memory, settings), deadLetters(memory));
  return found.filter((alert) => alert !== null);
}

function connection({ failure }, { feed, now }) {
  if (feed.state === "locked") {
    return alert("key", "bad", {
      text: "This deployment asks for an API key.",
      advice: "Give it with the button “API key” above.",
    });
  }
  if (feed.state === "lost" && now - feed.since > LOST_AFTER_MS) {
    return alert("connection", "bad", {
      text: `Connection lost. ${feed.reason}`,
      advice: "The page tries again by itself. If it stays so, see whether the deployment runs: serve status.",
    });
  }
  if (failure && feed.state === "open") {
    return alert("statistics", "warn", {
      text: `The workers' figures are missing: ${failure}`,
      advice: "The streams go on below; lag is not watched.",
    });
  }
  return null;
}

// A stream that has ended without a face is nobody's concern any more.
function faceless({ streams, now }, settings) {
  const live = streams.filter((stream) => now - stream.heardAt < LIVE_MS);
  const without = live.filter((stream) => stream.faceless >= settings.facelessWindows);
  if (!without.length) return null;
  without.sort((a, b) => b.faceless - a.faceless);
  const more = without.length > NAMED ? `And ${without.length - NAMED} more. ` : "";
  const [windows, many] = [plural(settings.facelessWindows, "window"), plural(without.length, "stream")];
  return alert("faceless", "warn", {
    about: without.map((stream) => stream.id),
    text: `No face for ${windows} or longer in ${many}`,
    advice: `${more}See where the camera looks, how it is lit, and whether somebody is there.`,
    links: without.slice(0, NAMED).map((stream) => ({ text: stream.id, hash: streamHash(stream.id) })),
  });
}

function workers({ statistics }, settings) {
  const there = Object.keys(statistics.workers).length;
  if (there >= settings.workers) return null;
  const some = `${there} of ${plural(settings.workers, "stream worker")} answer.`;
  return alert("workers", "bad", {
    about: [String(there)],
    text: there === 0 ? "No stream worker answers." : some,
    advice: "See which replicas are unhealthy, and why: serve status, and their logs.",
  });
}

function lag({ lags }, settings) {
  const records = lags.at(-1);
  const more = records - lags[0];
  const rising = lags.length === GROWING_SAMPLES && lags.every((one, place) => place === 0 || one >= lags[place - 1]);
  const grows = rising && more >= GROWING_BY;
  const much = records > settings.lagRecords;
  if (!much && !grows) return null;
  const growth = grows ? `, ${count(more)} more than a moment ago: the lag grows` : "";
  return alert("lag", much ? "bad" : "warn", {
    about: [much ? "much" : "grows"],
    text: `${count(records)} records wait to be read${growth}.`,
    advice:
      "Start more workers (ray-fer serve --workers, at most one for each partition), " +
      "or have old windows skipped with --freshness freshest.",
  });
}

function deadLetters({ statistics, knownLetters }) {
  const letters = statistics.total.dead_letters;
  if (letters <= knownLetters) return null;
  return alert("dead-letters", "warn", {
    about: [String(letters)],
    text: `${plural(letters - knownLetters, "record")} went to the dead-letter topic.`,
    advice: "Read the reasons with: ray-fer stream tail --dead-letters",
  });
}

function alert(key, level, { text, advice, about = [""], links = [] }) {
  return { key, level, about, text, advice, links };
}
