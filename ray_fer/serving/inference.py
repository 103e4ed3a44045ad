"""Closed windows -> predictions, whatever runs the stages: Serve handles in the stream, plain calls in `predict`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.labels import AU_NAMES
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.windows import BufferedFrame, Window
from ray_fer.streaming.worker import Inference
from ray_fer.video.face_clip import FaceClip, assemble

MIN_FACE_SHARE = 0.25
"""A window with a face in fewer of its chosen frames is `no_face`: a passing false detection is no expression."""

_GLOBAL_PRIOR = CultureInfo(source="global_prior", weights={"global": 1.0})


@dataclass(frozen=True)
class Stages:
    """The two stages as functions (batch in, batch out), and what they are."""

    find_faces: Callable[[list[bytes]], list[FaceResult]]
    classify: Callable[[list[np.ndarray]], np.ndarray]
    classes: list[str]
    model: ModelInfo


def infer_windows(stages: Stages, windows: Sequence[Window]) -> Inference:
    """Predictions of `windows`, in their order: one call to each stage for all of them together.

    A frame's face result is kept on the frame, so overlapping windows decode and search it once. A frame that cannot
    be decoded is reported once as broken and counts as a frame without a face.
    """
    new: dict[int, BufferedFrame] = {
        id(frame): frame for window in windows for frame in window.chosen if frame.face is None
    }
    broken: list[tuple[BufferedFrame, str]] = []
    if new:
        results = stages.find_faces([frame.payload for frame in new.values()])
        for frame, result in zip(new.values(), results, strict=True):
            frame.face = result
            if result.error is not None:
                broken.append((frame, result.error))
    clips = [assemble([frame.face.face for frame in window.chosen]) if window.chosen else None for window in windows]
    shown = [clip for clip in clips if _enough(clip)]
    answers = iter(stages.classify([clip.crops for clip in shown]) if shown else ())
    predictions = [
        _prediction(stages, window, clip, next(answers) if _enough(clip) else None)
        for window, clip in zip(windows, clips, strict=True)
    ]
    return Inference(predictions, broken)


def _enough(clip: FaceClip | None) -> TypeGuard[FaceClip]:
    return clip is not None and float(clip.found.mean()) >= MIN_FACE_SHARE


def _prediction(stages: Stages, window: Window, clip: FaceClip | None, answer: np.ndarray | None) -> Prediction:
    prediction = Prediction(
        stream_id=window.stream_id,
        window=WindowInfo(
            index=window.index,
            start_us=window.start_us,
            end_us=window.end_us,
            frames=window.frames,
            faces=0 if clip is None else int(clip.found.sum()),
        ),
        status="gap" if clip is None else "no_face",
        culture=_GLOBAL_PRIOR,
        model=stages.model,
        latency_ms=_latency_ms(window),
    )
    if clip is None or answer is None:
        return prediction
    aus = aus_from_blendshapes(clip.blendshapes[clip.found], calibrated=True).mean(axis=0)
    prediction.status = "ok"
    prediction.expression = stages.classes[int(np.argmax(answer))]
    prediction.probabilities = {name: round(float(p), 6) for name, p in zip(stages.classes, answer, strict=True)}
    prediction.action_units = {name: round(float(value), 4) for name, value in zip(AU_NAMES, aus, strict=True)}
    return prediction


def _latency_ms(window: Window) -> float | None:
    arrivals = [frame.arrived_ms for frame in window.chosen if frame.arrived_ms is not None]
    return round(time.time() * 1000 - max(arrivals), 1) if arrivals else None
