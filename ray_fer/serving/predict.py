"""Predict the windows of one video file, in process: no Kafka, no Ray, and the same windows as the stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ray_fer.serving.inference import Stages, infer_windows
from ray_fer.serving.stages import ExpressionStage, FaceStage
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig
from ray_fer.video.limits import MediaError


def predict_video(bundle: str | Path, video: str | Path, config: WindowConfig | None = None) -> Iterator[Prediction]:
    """Yield one prediction per window of `video`, as soon as its window is complete.

    The frames take the way they would take through Kafka (JPEG, event time from 0), so a stream of the same file gives
    the same windows. Raises BundleError, MediaError, or FaceModelError.
    """
    expressions = ExpressionStage(bundle)
    config = config or WindowConfig(frames=expressions.frames)
    if config.frames != expressions.frames:
        raise ValueError(f"windows of {config.frames} frames, but the model reads {expressions.frames}")
    windows = StreamWindows(Path(video).name, config)
    faces = FaceStage(expressions.transform)
    try:
        stages = Stages(faces.find, expressions.probabilities, expressions.classes, expressions.info)
        for message in video_messages(video, windows.stream_id):
            windows.add(BufferedFrame(message.pts_us, message.seq, message.source()))
            yield from _predictions(stages, windows.ready(), video)
        yield from _predictions(stages, windows.flush(), video)
    finally:
        faces.close()


def _predictions(stages: Stages, closed: list[Window], video: str | Path) -> list[Prediction]:
    if not closed:
        return []
    inference = infer_windows(stages, closed)
    if inference.broken:  # we encoded these frames ourselves
        raise MediaError(str(video), f"a decoded frame could not be read back: {inference.broken[0][1]}")
    return inference.predictions
