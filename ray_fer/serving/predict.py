"""Predict the windows of one video file, in process: no Kafka, no Ray, and the same windows as the stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ray_fer.serving.catalogue import served
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import always, infer_windows
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.recorded_windows import video_windows
from ray_fer.streaming.windows import WindowConfig
from ray_fer.video.limits import MediaError


def predict_video(bundle: str | Path, video: str | Path, config: WindowConfig | None = None) -> Iterator[Prediction]:
    """Yield one prediction per window of `video`, as soon as its window is complete.

    The frames that windows choose take the way they would take through Kafka (JPEG, event time from 0), so a stream of
    the same file gives the same windows. Raises BundleError, MediaError, or FaceModelError.
    """
    model = served(bundle)
    config = config or WindowConfig(frames=model.transform.frames)
    if config.frames != model.transform.frames:
        raise ValueError(f"windows of {config.frames} frames, but the model reads {model.transform.frames}")
    with InProcess() as running:
        for window in video_windows(video, Path(video).name, config):
            inference = infer_windows(running.stages, [window], always(model))
            if inference.broken:  # we encoded these frames ourselves
                raise MediaError(str(video), f"a decoded frame could not be read back: {inference.broken[0][1]}")
            yield from inference.predictions
