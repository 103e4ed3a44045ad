"""Closed windows -> predictions, whatever runs the stages: Serve handles in the stream, plain calls in `predict`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.labels import AU_NAMES
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.attempts import Inference
from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.windows import BufferedFrame, Window
from ray_fer.video.face_clip import FaceClip, assemble

MIN_FACE_SHARE = 0.25
"""A window with a face in fewer of its chosen frames is `no_face`: a passing false detection is no expression."""

_GLOBAL_PRIOR = CultureInfo(source="global_prior", weights={"global": 1.0})


FindFaces = Callable[[list[PictureRequest]], list[list[FaceResult]]]
Classify = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Stages:
    """The two stages as functions (batch in, batch out), and what they are."""

    find_faces: FindFaces
    classify: Classify
    classes: list[str]
    model: ModelInfo


def infer_windows(stages: Stages, windows: Sequence[Window]) -> Inference:
    """Predictions of `windows`, in their order: one call to each stage for all of them together.

    All frames of a segment that were chosen are one request, so it is decoded once. A frame's face result is kept on
    the frame, so overlapping windows decode and search it once. A frame that cannot be decoded counts as a frame
    without a face; its payload is reported as broken once, with the first such frame.
    """
    frames = list({id(frame): frame for window in windows for frame in window.chosen}.values())
    _find_faces(stages, [frame for frame in frames if frame.face is None])
    clips = [assemble([frame.face.face for frame in window.chosen]) if window.chosen else None for window in windows]
    shown = [clip for clip in clips if _enough(clip)]
    answers = iter(stages.classify([clip.crops for clip in shown]) if shown else ())
    predictions = [
        _prediction(stages, window, clip, next(answers) if _enough(clip) else None)
        for window, clip in zip(windows, clips, strict=True)
    ]
    return Inference(predictions, _newly_broken(frames))


def _find_faces(stages: Stages, frames: Sequence[BufferedFrame]) -> None:
    """Put the face stage's results on `frames`, which have none yet."""
    by_payload: dict[int, list[BufferedFrame]] = {}
    for frame in sorted(frames, key=lambda one: one.index):
        by_payload.setdefault(id(frame.payload), []).append(frame)
    groups = list(by_payload.values())
    requests = [PictureRequest(group[0].payload, tuple(frame.index for frame in group)) for group in groups]
    for group, results in zip(groups, stages.find_faces(requests) if requests else (), strict=True):
        for frame, result in zip(group, results, strict=True):
            frame.face = result


def _newly_broken(frames: Sequence[BufferedFrame]) -> list[tuple[BufferedFrame, str]]:
    """One frame of each broken payload that was not reported before. Called last, when nothing can fail any more."""
    broken = []
    for frame in frames:
        if frame.face.error is not None and frame.payload.error is None:
            frame.payload.error = frame.face.error
            broken.append((frame, frame.face.error))
    return broken


def _enough(clip: FaceClip | None) -> TypeGuard[FaceClip]:
    return clip is not None and float(clip.found.mean()) >= MIN_FACE_SHARE


def _prediction(stages: Stages, window: Window, clip: FaceClip | None, answer: np.ndarray | None) -> Prediction:
    prediction = Prediction(
        stream_id=window.stream_id,
        window=WindowInfo(
            session=window.session,
            index=window.index,
            start_us=window.start_us,
            end_us=window.end_us,
            frames=window.frames,
            faces=0 if clip is None else int(clip.found.sum()),
        ),
        status=_status(window),
        error=window.failed,
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


def _status(window: Window) -> Literal["no_face", "gap", "skipped", "failed"]:
    """What is said of a window that the model has not answered."""
    if window.failed is not None:
        return "failed"
    if window.skipped:
        return "skipped"
    return "no_face" if window.chosen else "gap"


def _latency_ms(window: Window) -> float | None:
    arrivals = [frame.arrived_ms for frame in window.chosen if frame.arrived_ms is not None]
    return round(time.time() * 1000 - max(arrivals), 1) if arrivals else None
