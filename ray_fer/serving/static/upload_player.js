// What was uploaded, in step with its result: the video plays and the chart follows, the chart is clicked and the video
// seeks. Of single images, the first one of the window is shown.

import { windowAt } from "./chart_lanes.js";
import { byId, setText } from "./dom.js";

/** Keeps `chart` and the media in step: {open(files, fps), seek(prediction), sync()}; the last after new windows. */
export function uploadPlayer(chart) {
  const video = byId("upload-video");
  const picture = byId("upload-image");
  const note = byId("upload-media-note");
  let images = [];
  let fps = 1;
  let url = null;
  let running = false;

  function close() {
    video.pause();
    video.removeAttribute("src");
    video.load();
    picture.removeAttribute("src");
    if (url) URL.revokeObjectURL(url);
    url = null;
    images = [];
    chart.setPlayhead(null);
    say("");
  }

  function open(files, imagesPerSecond) {
    close();
    const still = files.every(isImage);
    video.hidden = still;
    picture.hidden = !still;
    if (still) {
      images = files;
      fps = imagesPerSecond;
      showImage(0);
    } else {
      url = URL.createObjectURL(files[0]);
      video.src = url;
    }
  }

  function showImage(us) {
    const place = Math.max(0, Math.min(images.length - 1, Math.ceil((us / 1e6) * fps - 1e-6)));
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(images[place]);
    picture.src = url;
    picture.alt = `Image ${place + 1} of ${images.length}: ${images[place].name}`;
  }

  function seek(prediction) {
    const us = prediction.window.start_us;
    if (images.length) return showImage(us);
    if (video.readyState === HTMLMediaElement.HAVE_NOTHING) return undefined;
    // A little into the window, or the player may stop at the frame before it.
    video.currentTime = Math.min(Math.max(0, us / 1e6 + 0.001), video.duration || 0);
    chart.setPlayhead(us);
    return undefined;
  }

  function sync() {
    if (images.length || !chart.windows.length || video.readyState === HTMLMediaElement.HAVE_NOTHING) return;
    const us = video.currentTime * 1e6;
    chart.setPlayhead(us);
    const place = windowAt(chart.windows, us);
    if (chart.selected !== chart.windows[place]) chart.select(place);
  }

  // `timeupdate` comes four times a second, which is too seldom for a line that moves.
  function run() {
    sync();
    if (video.paused || video.ended) running = false;
    else requestAnimationFrame(run);
  }

  function say(text) {
    setText(note, text);
    note.hidden = text === "";
  }

  video.addEventListener("play", () => {
    if (running) return;
    running = true;
    run();
  });
  video.addEventListener("seeked", sync);
  video.addEventListener("timeupdate", sync);
  video.addEventListener("error", () => {
    if (!video.getAttribute("src")) return;
    say("This browser cannot play the file. Its windows are below all the same; choose one in the chart.");
  });
  return { open, seek, sync };
}

export const isImage = (file) => file.type.startsWith("image/");
