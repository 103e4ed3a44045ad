// The upload tab: choose or drop files, send them, watch the windows come, look at the result, keep it.

import { explain } from "./api.js";
import { WindowChart } from "./chart.js";
import { announce, byId, byteSize, fillSelect, make, setText } from "./dom.js";
import { resultCsv, resultJson, save, stem } from "./downloads.js";
import { allowAsking } from "./key.js";
import { legendOf } from "./legend.js";
import { modelChoices, offered } from "./models.js";
import { isImage, uploadPlayer } from "./upload_player.js";
import { predict } from "./upload_request.js";
import { windowCard } from "./window_card.js";
import { percent, plural } from "./words.js";

/** Made once; gives {show, hide, offer} for the tab; `offer()` reads anew what the deployment has. */
export function uploadView() {
  const form = byId("upload-form");
  const input = byId("upload-files");
  const zone = byId("drop-zone");
  const card = windowCard(byId("upload-card"), "The first window appears here in a moment.");
  const chart = new WindowChart(byId("upload-chart"), {
    label: "Windows of the upload: arrow keys choose one",
    onSelect(prediction, byHand) {
      card.show(prediction);
      if (byHand && prediction) player.seek(prediction);
    },
  });
  const player = uploadPlayer(chart);
  const legend = legendOf(byId("upload-legend"));
  let files = [];
  let windows = [];
  let broken = [];
  let running = null;
  let sent = "";

  function choose(list) {
    const chosen = [...list];
    if (!chosen.length || running) return undefined;
    const stills = chosen.filter(isImage);
    if (stills.length < chosen.length && chosen.length > 1) {
      return fail("Choose one video, or several images; not both, and not several videos.");
    }
    files = stills.length ? chosen.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })) : chosen;
    fail("");
    byId("upload-fps-field").hidden = stills.length === 0;
    byId("upload-start").disabled = false;
    const size = byteSize(files.reduce((sum, file) => sum + file.size, 0));
    const what = files.length === 1 ? files[0].name : plural(files.length, "image");
    setText(byId("chosen"), `${what}, ${size}`);
    byId("chosen").hidden = false;
    announce(`Chosen: ${what}`);
    return undefined;
  }

  async function start() {
    if (running) return;
    running = new AbortController();
    allowAsking();
    windows = [];
    broken = [];
    const fps = Number(byId("upload-fps").value) || 1;
    sent = stem(files[0].name);
    fail("");
    player.open(files, fps);
    chart.setWindows(windows);
    showBroken();
    byId("upload-result").hidden = false;
    zone.classList.add("small");
    byId("downloads").hidden = true;
    setBusy(true);
    progress(0, "Sending");
    const [model, size, stride] = ["model", "size", "stride"].map((name) => byId(`upload-${name}`).value);
    try {
      const total = await predict(formOf(files, fps), { model, size, stride }, {
        signal: running.signal,
        onProgress: (share) => progress(share, share < 1 ? `Sending: ${percent(share)}` : "Sent. Looking for faces"),
        onWindow: take,
        onBroken(item) {
          broken.push(item);
          showBroken();
        },
      });
      progress(1, `Done: ${plural(total, "window")}`);
      announce(`Done: ${plural(total, "window")}`);
    } catch (error) {
      const text = error.name === "AbortError" ? "Stopped." : explain(error);
      progress(null, windows.length ? `Ended after ${plural(windows.length, "window")}` : "");
      fail(text);
      if (!windows.length) {
        byId("upload-result").hidden = true;
        zone.classList.remove("small");
      }
    } finally {
      running = null;
      setBusy(false);
      byId("downloads").hidden = windows.length === 0;
    }
  }

  function take(prediction) {
    windows.push(prediction);
    progress(null, `${plural(windows.length, "window")} so far`);
    chart.setWindows(windows);
    if (windows.length === 1) chart.select(0);
    legend.show(windows);
    player.sync();
  }

  function setBusy(busy) {
    byId("upload-start").disabled = input.disabled = busy;
    byId("upload-stop").hidden = !busy;
    byId("upload-form").setAttribute("aria-busy", String(busy));
  }

  // Null leaves the bar without a value: nobody knows how many windows there will be.
  function progress(share, text) {
    const bar = byId("upload-progress");
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    bar.hidden = text === "" || text.startsWith("Done") || text.startsWith("Ended");
    setText(byId("upload-state"), text);
  }

  function fail(text) {
    setText(byId("upload-error"), text);
    byId("upload-error").hidden = text === "";
  }

  function showBroken() {
    const list = byId("broken");
    list.hidden = broken.length === 0;
    list.replaceChildren(...broken.map(({ item, reason }) => make("li", {}, make("b", {}, item), ` ${reason}`)));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  input.addEventListener("change", () => choose(input.files));
  byId("upload-stop").addEventListener("click", () => running?.abort());
  byId("save-json").addEventListener("click", () =>
    save(`${sent}.json`, "application/json", resultJson(windows, broken)),
  );
  byId("save-csv").addEventListener("click", () => save(`${sent}.csv`, "text/csv", resultCsv(windows)));
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    choose(event.dataTransfer.files);
  });

  return {
    hide: () => byId("upload-video").pause(),
    offer() {
      fillSelect(byId("upload-model"), modelChoices());
      byId("upload-size").placeholder = String(offered().windows.size);
      byId("upload-stride").placeholder = String(offered().windows.stride);
    },
  };
}

function formOf(files, fps) {
  const form = new FormData();
  if (!isImage(files[0])) {
    form.append("video", files[0]);
    return form;
  }
  for (const file of files) form.append("images", file);
  form.append("fps", String(fps));
  return form;
}
