// The camera of this computer as a series of JPEGs: so many a second, small enough to send.

const WIDEST = 640;
const QUALITY = 0.85;

const REFUSALS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, then start again.",
  NotFoundError: "No camera was found. Connect one, then start again.",
  NotReadableError: "Another program has the camera, or it does not answer. Close that program, then start again.",
};

/** Ask for the camera; throws Error with a line that says what to do. */
export async function openCamera() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error(
      "Browsers give the camera only to pages from https:// or from localhost. " +
        "Open this page over HTTPS, or through a tunnel to localhost.",
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WIDEST } }, audio: false });
  } catch (error) {
    throw new Error(REFUSALS[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
}

export function closeCamera(stream) {
  stream.getTracks().forEach((track) => track.stop());
}

/**
 * Give `send(pts_us, jpeg)` a picture of `video` `fps` times a second, until the returned function is called.
 *
 * `ready()` is asked first: when it says no, the picture is dropped before it costs anything, and `onDrop()` hears it.
 */
export function captureFrames(video, fps, { ready, send, onDrop }) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const began = performance.now();
  let encoding = false;
  let stopped = false;
  let due = began;
  let timer = null;

  function tick() {
    const now = performance.now();
    // After a pause, such as a hidden tab, the clock goes on from now: nobody wants the missed pictures.
    due = Math.max(due + 1000 / fps, now);
    timer = setTimeout(tick, due - now);
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !video.videoWidth) return;
    if (encoding || !ready()) {
      onDrop();
      return;
    }
    const scale = Math.min(1, WIDEST / video.videoWidth);
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    encoding = true;
    canvas.toBlob(
      (jpeg) => {
        encoding = false;
        if (jpeg && !stopped) send(Math.round((now - began) * 1000), jpeg);
      },
      "image/jpeg",
      QUALITY,
    );
  }

  tick();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
