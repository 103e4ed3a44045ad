"""What each part of a window costs, alone and warm, and what it would cost if it were done another way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ray_fer.models.transform import prepare
from ray_fer.serving.cameras import FPS, Footage
from ray_fer.serving.stages import ExpressionStage
from ray_fer.streaming.options import StreamOptions
from ray_fer.video.faces import FaceFinder, FaceTracker, align
from ray_fer.video.images import decode_image

_CLIPS_AT_ONCE = 8


@dataclass(frozen=True)
class Alternative:
    """Another way to do a part. Milliseconds of processor time per window, as it is done and in this way."""

    part: str
    way: str
    ms: float
    instead_ms: float
    other_answers: float | None = None
    """Share of windows that get another expression; None where nothing can change."""


class Clock:
    """Processor time of this process, by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timing(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, with its time counted under `part`."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - started

        return timed

    def per(self, windows: float) -> dict[str, float]:
        """Milliseconds of each part, shared out to so many windows."""
        return {part: 1000 * seconds / windows for part, seconds in self.seconds.items()}


def parts_of_a_window(
    bundle: Path, footage: Footage, options: StreamOptions
) -> tuple[dict[str, float], list[Alternative]]:
    """Milliseconds of processor time of each part of one window of a live stream, and of other ways to do them.

    Measured on the frames that windows choose; of those a window has as many new ones as the next one begins later.
    """
    windows = options.windows
    new = windows.frames * windows.stride / windows.size
    cameras = [list(camera[:: max(1, round(FPS / new))]) for camera in footage]
    expressions = ExpressionStage(bundle, threads=1)
    with FaceFinder() as finder, FaceTracker(fps=new) as tracker:
        ours, crops = _faces(cameras, decode_image, finder, expressions, new)
        small, small_crops = _faces(cameras, _half, finder, expressions, new)
        followed, followed_crops = _faces(cameras, decode_image, tracker, expressions, new)
    clips = _clips(crops, windows.frames)
    batches = {size: _expression_ms(expressions, clips, size) for size in (1, _CLIPS_AT_ONCE, 4 * _CLIPS_AT_ONCE)}
    ours["expression"] = batches[_CLIPS_AT_ONCE]
    answers = _answers(expressions, clips)

    def changed(others: list[list[np.ndarray]]) -> float:
        return float(np.mean(answers != _answers(expressions, _clips(others, windows.frames))))

    halved = changed(small_crops)
    return ours, [
        Alternative("decode", "at half the DCT scale", ours["decode"], small["decode"], halved),
        Alternative("detect", "in the picture of half the size", ours["detect"], small["detect"], halved),
        Alternative("detect", "following the face", ours["detect"], followed["detect"], changed(followed_crops)),
        *(
            Alternative("expression", f"{size} windows a call", ours["expression"], ms)
            for size, ms in batches.items()
            if size != _CLIPS_AT_ONCE
        ),
    ]


def _half(jpeg: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_2), cv2.COLOR_BGR2RGB)


def _faces(
    cameras: Sequence[Sequence[bytes]],
    decode: Callable[[bytes], np.ndarray],
    finder: FaceFinder,
    expressions: ExpressionStage,
    new: float,
) -> tuple[dict[str, float], list[list[np.ndarray]]]:
    """Milliseconds of each part for `new` frames, and the crops of each camera, uint8 [canvas,canvas,3]."""
    clock = Clock()
    decode, find = clock.timing("decode", decode), clock.timing("detect", finder.find)
    align_face, resize = clock.timing("align", align), clock.timing("resize", prepare)
    crops: list[list[np.ndarray]] = []
    for camera in cameras:
        finder.reset()
        crops.append([])
        for jpeg in camera:
            image = decode(jpeg)
            face = find(image)
            if face is not None:
                aligned = torch.from_numpy(align_face(image, face.landmarks)[None])
                crops[-1].append(resize(aligned, expressions.transform)[0].permute(1, 2, 0).numpy())
    if not all(crops):
        raise RuntimeError("no face was found in one of the cameras")
    return clock.per(sum(len(camera) for camera in cameras) / new), crops


def _clips(crops: Sequence[Sequence[np.ndarray]], frames: int) -> list[np.ndarray]:
    """Windows of each camera, one for each frame that so many can follow; a short camera's last frame is repeated."""
    return [
        np.stack([camera[min(start + place, len(camera) - 1)] for place in range(frames)])
        for camera in crops
        for start in range(max(1, len(camera) - frames + 1))
    ]


def _answers(expressions: ExpressionStage, clips: Sequence[np.ndarray]) -> np.ndarray:
    chunks = [clips[start : start + _CLIPS_AT_ONCE] for start in range(0, len(clips), _CLIPS_AT_ONCE)]
    return np.concatenate([expressions.probabilities(chunk).argmax(axis=1) for chunk in chunks])


def _expression_ms(expressions: ExpressionStage, clips: Sequence[np.ndarray], size: int, windows: int = 64) -> float:
    """Milliseconds of processor time for a window, with `size` of them in a call."""
    batch = [clips[number % len(clips)] for number in range(size)]
    expressions.probabilities(batch)
    clock = Clock()
    classify = clock.timing("expression", expressions.probabilities)
    calls = max(1, windows // size)
    for _ in range(calls):
        classify(batch)
    return clock.per(calls * size)["expression"]
