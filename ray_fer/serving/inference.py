"""Closed windows -> predictions, whatever runs the stages: Serve handles in the stream, plain calls in `predict`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import numpy as np

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.labels import AU_NAMES
from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import Route, ServedModel
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.attempts import Inference
from ray_fer.streaming.messages import CultureInfo, Prediction, WindowInfo
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.windows import BufferedFrame, Window
from ray_fer.video.face_clip import FaceClip, assemble

_LOG = logging.getLogger(__name__)

MIN_FACE_SHARE = 0.25
"""A window with a face in fewer of its chosen frames is `no_face`: a passing false detection is no expression."""

_GLOBAL_PRIOR = CultureInfo(source="global_prior", weights={"global": 1.0})


FindFaces = Callable[[list[PictureRequest], TransformConfig], list[list[FaceResult]]]
Classify = Callable[[list[np.ndarray], ServedModel], np.ndarray]
Router = Callable[[str], Route]


@dataclass(frozen=True)
class Stages:
    """The two stages as functions, batch in, batch out, for whatever model they are asked for."""

    find_faces: FindFaces
    classify: Classify


@dataclass(frozen=True)
class Shadowed:
    """What a shadow model said of a window that another one answered; None where it failed."""

    prediction: Prediction
    beside: Prediction | None


def always(model: ServedModel) -> Router:
    """The route of every stream to one model."""
    return lambda stream_id: Route(model)


def infer_windows(
    stages: Stages,
    windows: Sequence[Window],
    route: Router,
    shadowed: Callable[[Shadowed], None] = lambda one: None,
) -> Inference:
    """Predictions of `windows`, in their order: one call to each stage for all windows of a model together.

    All frames of a segment that were chosen are one request, so it is decoded once. A frame's face result is kept on
    the frame, so overlapping windows decode and search it once. A frame that cannot be decoded counts as a frame
    without a face; its payload is reported as broken once, with the first such frame.

    `shadowed` hears of windows about which a shadow model was asked. Its failure is nobody's but its own.
    """
    routes = [route(window.stream_id) for window in windows]
    predictions: dict[int, Prediction] = {}
    for name, model in {one.answers.info.name: one.answers for one in routes}.items():
        places = [place for place, one in enumerate(routes) if one.answers.info.name == name]
        answers = _of_model(stages, model, [windows[place] for place in places])
        predictions.update(zip(places, answers, strict=True))
    for name, model in {one.shadow.info.name: one.shadow for one in routes if one.shadow is not None}.items():
        places = [place for place, one in enumerate(routes) if one.shadow and one.shadow.info.name == name]
        for place, beside in zip(places, _of_shadow(stages, model, [windows[place] for place in places]), strict=True):
            shadowed(Shadowed(predictions[place], beside))
    frames = {id(frame): frame for window in windows for frame in window.chosen}
    return Inference([predictions[place] for place in range(len(windows))], _newly_broken(list(frames.values())))


def _of_model(stages: Stages, model: ServedModel, windows: Sequence[Window]) -> list[Prediction]:
    frames = list({id(frame): frame for window in windows for frame in window.chosen}.values())
    unknown = [frame for frame in frames if frame.face is None or not frame.face.serves(model.transform)]
    _find_faces(stages, model.transform, unknown)
    clips = [assemble([frame.face.face for frame in window.chosen]) if window.chosen else None for window in windows]
    shown = [clip for clip in clips if _enough(clip)]
    answers = iter(stages.classify([clip.crops for clip in shown], model) if shown else ())
    return [
        _prediction(model, window, clip, next(answers) if _enough(clip) else None)
        for window, clip in zip(windows, clips, strict=True)
    ]


def _of_shadow(stages: Stages, model: ServedModel, windows: Sequence[Window]) -> Sequence[Prediction | None]:
    try:
        return _of_model(stages, model, windows)
    except Exception as error:  # whatever a model may raise: the windows have their answers already
        _LOG.warning("shadow model %s %s failed: %s", model.info.name, model.info.version, error)
        return [None] * len(windows)


def _find_faces(stages: Stages, transform: TransformConfig, frames: Sequence[BufferedFrame]) -> None:
    """Put the face stage's results on `frames`."""
    by_payload: dict[int, list[BufferedFrame]] = {}
    for frame in sorted(frames, key=lambda one: one.index):
        by_payload.setdefault(id(frame.payload), []).append(frame)
    groups = list(by_payload.values())
    requests = [PictureRequest(group[0].payload, tuple(frame.index for frame in group)) for group in groups]
    for group, results in zip(groups, stages.find_faces(requests, transform) if requests else (), strict=True):
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


def _prediction(model: ServedModel, window: Window, clip: FaceClip | None, answer: np.ndarray | None) -> Prediction:
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
        model=model.info,
        latency_ms=_latency_ms(window),
    )
    if clip is None or answer is None:
        return prediction
    aus = aus_from_blendshapes(clip.blendshapes[clip.found], calibrated=True).mean(axis=0)
    prediction.status = "ok"
    prediction.expression = model.classes[int(np.argmax(answer))]
    prediction.probabilities = {name: round(float(p), 6) for name, p in zip(model.classes, answer, strict=True)}
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
