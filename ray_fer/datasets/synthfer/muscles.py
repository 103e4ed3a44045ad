"""Which vertices of the face mesh each Action Unit moves, and how far.

py-feat's mesh model is a regression on natural faces. It understates small movements, and muscles that usually act
together leak into one another: its AU05 opens the mouth, its AU25 hardly does. Here every AU is confined to the part
of the face that FACS gives it and scaled, and what the regression misses is added: eyelids, parting lips, the corners
of the mouth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ray_fer.datasets.synthfer.geometry import (
    EYES,
    LOWER_LIP,
    SIDES,
    UPPER_LIP,
    eye_centres,
    eye_distance,
    feat_folder,
    smoothstep,
)
from ray_fer.labels import AU_NAMES

# Vertices that no expression moves: what moves them is head pose leaking into the regression.
_STILL = [33, 133, 362, 263, 168, 6, 197, 10, 109, 338, 127, 356, 234, 454, 54, 284]

_GAIN = 1.35
_AU_GAIN = {
    "AU01": 1.15, "AU02": 1.15, "AU04": 2.2, "AU05": 1.0, "AU06": 1.6, "AU07": 0.8, "AU09": 1.5, "AU10": 1.2,
    "AU12": 1.7, "AU14": 1.5, "AU15": 1.2, "AU43": 0.5,
}  # fmt: skip

_BROWS = ("AU01", "AU02", "AU04")
_LIDS = ("AU05", "AU07", "AU43")
_CHEEKS = ("AU06", "AU09")

_UPPER_LIDS = ((246, 161, 160, 159, 158, 157, 173), (466, 388, 387, 386, 385, 384, 398))
_LOWER_LIDS = ((7, 163, 144, 145, 153, 154, 155), (249, 390, 373, 374, 380, 381, 382))
_CREASES = ((247, 30, 29, 27, 28, 56, 190), (467, 260, 259, 257, 258, 286, 414))
_IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
_CORNERS = ((61, 78, 185, 191, 146, 95), (291, 308, 409, 415, 375, 324))
_NOSTRILS = (129, 64, 98, 327, 294, 358)
_INNER_BROWS = (55, 107, 9, 336, 285)
_OUTER_UPPER = (40, 39, 37, 0, 267, 269, 270)
_OUTER_LOWER = (91, 181, 84, 17, 314, 405, 321)


def vertex_moves(landmarks: np.ndarray) -> np.ndarray:
    """Displacement of each vertex of one face by one unit of each field, float32 [FIELDS,478,2] in pixels.

    `landmarks` [478,3]. Fields are the 20 AUs of the face's own left side (the right of the picture), those of its
    right side, and two that turn the head by one radian (small angles): vertices nearer to the camera move sideways
    (yaw) or up and down (pitch).
    """
    whole = _mesh_moves() * eye_distance(landmarks)
    for au, extra in _additions(landmarks).items():
        whole[AU_NAMES.index(au)] += extra
    left = _left_weights()[:, None]
    depth = landmarks[np.ravel(EYES), 2].mean() - landmarks[:, 2]  # MediaPipe's z grows away from the camera
    turn = np.zeros((2, len(landmarks), 2))
    turn[0, :, 0] = turn[1, :, 1] = depth
    return np.concatenate([whole * left, whole * (1 - left), turn]).astype(np.float32)


def au_moves(landmarks: np.ndarray) -> np.ndarray:
    """`vertex_moves` of both sides together, AUs only: float32 [20,478,2] in pixels."""
    count = len(AU_NAMES)
    return vertex_moves(landmarks)[: SIDES * count].reshape(SIDES, count, -1, 2).sum(0)


@lru_cache(maxsize=1)
def _model() -> tuple[np.ndarray, np.ndarray]:
    """Mean mesh [478,3] in eye distances from between the eyes (x right, y down), and moves by AU [20,478,3]."""
    with np.load(feat_folder() / "resources" / "au_to_mesh_pls_v4.npz") as model:
        columns = [str(name) for name in model["input_columns"]]
        mesh = model["mean_aligned_mesh"].astype(np.float64)
        coefficients = model["coef"].astype(np.float64).reshape(len(columns), 3, -1).transpose(0, 2, 1)
    scale = eye_distance(mesh)
    centre = np.append(np.mean(eye_centres(mesh), axis=0), 0.0)
    flip = np.array([1.0, -1.0, 1.0])
    return (mesh - centre) * flip / scale, coefficients[[columns.index(au) for au in AU_NAMES]] * flip / scale


def _mesh_moves() -> np.ndarray:
    """The regression's displacements, confined and scaled, [20,478,2] in eye distances.

    Head pose that leaks into it (vertices at the ears move with AU09) is removed: an affine map fitted to vertices
    that no muscle moves is subtracted.
    """
    mesh, moves = _model()
    basis = np.hstack([mesh, np.ones((len(mesh), 1))])
    height = mesh[:, 1]
    masks = {
        "brow": 1 - smoothstep((height + 0.05) / 0.2),
        "lid": smoothstep((height + 0.22) / 0.12) * (1 - smoothstep((height - 0.15) / 0.2)),
        "cheek": smoothstep((height + 0.2) / 0.2) * (1 - smoothstep((height - 0.5) / 0.25)),
        "mouth": smoothstep((height - 0.15) / 0.3),
    }
    result = np.zeros((len(AU_NAMES), len(mesh), 2))
    for number, au in enumerate(AU_NAMES):
        pose, *_ = np.linalg.lstsq(basis[_STILL], moves[number][_STILL], rcond=None)
        part = "brow" if au in _BROWS else "lid" if au in _LIDS else "cheek" if au in _CHEEKS else "mouth"
        result[number] = ((moves[number] - basis @ pose)[:, :2]) * masks[part][:, None] * _GAIN * _AU_GAIN.get(au, 1.0)
    return result


def _left_weights() -> np.ndarray:
    """How much of each vertex belongs to the face's left side, [478] in 0..1, changing smoothly across the midline."""
    mesh, _ = _model()
    return smoothstep((mesh[:, 0] - mesh[[10, 152, 168], 0].mean()) / 0.5 + 0.5)


def _additions(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """What the regression misses, by AU: [478,2] in pixels, for the shape of this face."""
    unit = eye_distance(landmarks)
    points = landmarks[:, :2].astype(np.float64)
    below = smoothstep((_model()[0][:, 1] - _lip_line()) / 0.03)  # 1 under the line between the lips, 0 above it
    upper = [*UPPER_LIP[1:-1], *_OUTER_UPPER]
    lower = [*LOWER_LIP[1:-1], *_OUTER_LOWER]

    def push(vertices: list[int], x: float, y: float, width: float) -> np.ndarray:
        """Move vertices by (x, y) eye distances and their surroundings with them, fading over `width`."""
        distance = np.linalg.norm(points[:, None] - points[vertices][None], axis=2).min(1) / unit
        return np.exp(-((distance / width) ** 2))[:, None] * np.array([x, y]) * unit

    def corners(x: float, y: float, width: float) -> np.ndarray:
        """As `push` for both corners of the mouth, `x` outwards."""
        return push(list(_CORNERS[0]), -x, y, width) + push(list(_CORNERS[1]), x, y, width)

    parting = push(lower, 0, 0.15, 0.16) * below[:, None] + push(upper, 0, -0.03, 0.12) * (1 - below)[:, None]
    return {
        **_eyelids(points),
        "AU09": push(list(_NOSTRILS), 0, -0.09, 0.2) + push(list(_INNER_BROWS), 0, 0.04, 0.2),
        "AU10": push(upper, 0, -0.06, 0.16) * (1 - below)[:, None],
        "AU12": corners(0.05, -0.06, 0.25),
        "AU15": corners(0.09, 0.1, 0.18),
        "AU25": parting,
    }


def _eyelids(points: np.ndarray) -> dict[str, np.ndarray]:
    """Lids that open wide (AU05), tighten (AU07) and close (AU43), as far as this face's eyes are open."""
    moves = {au: np.zeros_like(points) for au in _LIDS}
    for upper, lower, crease, iris in zip(_UPPER_LIDS, _LOWER_LIDS, _CREASES, _IRISES, strict=True):
        top, bottom = points[list(upper)], points[list(lower)]
        gap = bottom - top
        widest = np.linalg.norm(gap, axis=1).max()
        down = gap.mean(0) / (np.linalg.norm(gap.mean(0)) + 1e-6)
        share = np.linalg.norm(gap, axis=1, keepdims=True) / (widest + 1e-6)
        moves["AU43"][list(upper)] = 0.85 * gap
        moves["AU43"][list(crease)] = 0.3 * gap
        moves["AU43"][list(lower)] = -0.05 * gap
        height = np.clip(((points[list(iris)] - top.mean(0)) @ down) / (gap.mean(0) @ down + 1e-6), 0, 1)[:, None]
        moves["AU43"][list(iris)] = gap.mean(0) * (0.85 * (1 - height) - 0.05 * height)
        moves["AU05"][list(upper)] = -0.45 * widest * share * down
        moves["AU05"][list(crease)] = -0.3 * widest * share * down
        moves["AU05"][list(lower)] = 0.1 * widest * share * down
        moves["AU07"][list(upper)] = 0.15 * gap
        moves["AU07"][list(lower)] = -0.25 * gap
    return moves


def _lip_line() -> np.ndarray:
    """Height of the line between the lips of the mean mesh at the x of every vertex, [478] in eye distances."""
    mesh, _ = _model()
    middle = (mesh[UPPER_LIP] + mesh[LOWER_LIP]) / 2
    return np.interp(mesh[:, 0], middle[:, 0], middle[:, 1])
