"""Find the face in a frame (MediaPipe FaceLandmarker) and align it by the eyes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np

from ray_fer.video.face_model import find_face_model

ALIGNED_SIZE = 224
LANDMARKS = 478
BLENDSHAPES = 52

# Corners of the eyes: unlike eyelids and irises they stay put when a person blinks or looks aside.
_RIGHT_EYE = (33, 133)
_LEFT_EYE = (362, 263)
# Canonical place of the eyes in the aligned crop, as fractions of its side; chin and brows stay inside.
EYE_DISTANCE = 0.34
EYE_HEIGHT = 0.36


@dataclass(frozen=True)
class Face:
    """One detected face. `landmarks` float32 [478,3] in pixels (z in the scale of x), `blendshapes` float32 [52]."""

    landmarks: np.ndarray
    blendshapes: np.ndarray


class FaceFinder:
    """MediaPipe FaceLandmarker on single images; returns the largest face of each.

    A context manager: it must be closed before the interpreter exits, when MediaPipe's own finaliser (and an `atexit`
    handler) fail because its threads are gone. About 11 ms per frame on one core. Not thread-safe.
    """

    def __init__(self, max_faces: int = 2, min_confidence: float = 0.5) -> None:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(find_face_model())),
            num_faces=max_faces,
            min_face_detection_confidence=min_confidence,
            output_face_blendshapes=True,
        )
        self._mp = mp
        with _native_stderr_silenced():
            self._task = vision.FaceLandmarker.create_from_options(options)
            self.find(np.zeros((64, 64, 3), np.uint8))

    def find(self, image: np.ndarray) -> Face | None:
        """Largest face (by eye distance) in `image` uint8 [H,W,3] RGB, or None."""
        return max(self._detect(image), key=lambda face: _eye_distance(face.landmarks), default=None)

    def _detect(self, image: np.ndarray) -> list[Face]:
        if self._task is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        mp_image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._task.detect(mp_image)
        height, width = image.shape[:2]
        scale = np.array([width, height, width], np.float32)
        return [
            Face(
                np.array([[p.x, p.y, p.z] for p in landmarks], np.float32) * scale,
                np.array([shape.score for shape in shapes], np.float32),
            )
            for landmarks, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]

    def close(self) -> None:
        """Release the native task; safe to call twice."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """Keep MediaPipe's native code from writing notices about its own defaults while a task starts.

    They bypass Python's logging and every level setting. Failures are raised as exceptions all the same.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def align(image: np.ndarray, landmarks: np.ndarray, size: int = ALIGNED_SIZE) -> np.ndarray:
    """Rotate, scale and crop so that both eyes lie level at a fixed place.

    image uint8 [H,W,3], landmarks float32 [478,>=2] in pixels -> uint8 [size,size,3]. Raises ValueError when the
    eyes coincide, as in a degenerate detection.
    """
    right, left = _eye_centres(landmarks)
    centre = (right + left) / 2
    dx, dy = left - right
    distance = float(np.hypot(dx, dy))
    if distance < 1.0:
        raise ValueError("the eyes coincide: no alignment")
    scale = EYE_DISTANCE * size / distance
    angle = float(np.degrees(np.arctan2(dy, dx)))
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, scale)
    matrix[:, 2] += np.array([0.5 * size, EYE_HEIGHT * size]) - centre
    interpolation = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, (size, size), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def _eye_centres(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return landmarks[list(_RIGHT_EYE), :2].mean(0), landmarks[list(_LEFT_EYE), :2].mean(0)


def _eye_distance(landmarks: np.ndarray) -> float:
    right, left = _eye_centres(landmarks)
    return float(np.linalg.norm(left - right))
