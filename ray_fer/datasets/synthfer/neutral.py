"""Take the expression out of a photograph: a smile that stays in it would leak into every label.

The AUs that MediaPipe reads are played backwards, and open lips are closed; of several strengths the one that reads
most neutral is kept. What is left is recorded, because not every smile can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.datasets.synthfer.geometry import CANVAS, LOWER_LIP, UPPER_LIP, eye_distance, warp_to
from ray_fer.datasets.synthfer.muscles import au_moves
from ray_fer.labels import AU_NAMES
from ray_fer.video.faces import Face, FaceFinder

_STRENGTHS = (0.0, 0.5, 0.9, 1.3)
# AU07 reads high on most faces at rest, AU43 when somebody looks down: neither says that the face shows something.
_JUDGED = np.array([au not in ("AU07", "AU11", "AU43") for au in AU_NAMES])
_OUTER_UPPER = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291]
_OUTER_LOWER = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291]


@dataclass(frozen=True)
class Neutral:
    """`canvas` uint8 [320,320,3], `landmarks` float32 [478,3], AU `readings` [20], and the strongest (`residual`)."""

    canvas: np.ndarray
    landmarks: np.ndarray
    readings: np.ndarray
    residual: float


def neutralise(canvas: np.ndarray, finder: FaceFinder) -> Neutral | None:
    """The most neutral version of a framed face uint8 [320,320,3]; None when MediaPipe finds no face in it."""
    face = finder.find(canvas)
    if face is None:
        return None
    read = np.where(_JUDGED | (np.array(AU_NAMES) == "AU43"), aus_from_blendshapes(face.blendshapes), 0)
    moves = au_moves(face.landmarks)
    best = _judge(canvas, face)
    for strength in _STRENGTHS:
        target = face.landmarks[:, :2] - strength * np.tensordot(read, moves, axes=1)
        gap = float(np.max(target[LOWER_LIP, 1] - target[UPPER_LIP, 1]))
        target = target + _closing(target)
        moved = warp_to(canvas, face.landmarks, target)
        if gap > 2.0:
            moved = _seam(moved, target)
        found = finder.find(moved)
        if found is not None:
            best = min(best, _judge(moved, found), key=lambda one: (one.readings[_JUDGED] ** 2).sum())
    return best


def _judge(canvas: np.ndarray, face: Face) -> Neutral:
    readings = aus_from_blendshapes(face.blendshapes)
    return Neutral(canvas, face.landmarks, readings, round(float(readings[_JUDGED].max()), 3))


def _closing(target: np.ndarray) -> np.ndarray:
    """Displacement [478,2] that brings the inner edges of the lips together and takes the skin around along."""
    gaps = np.clip(target[LOWER_LIP, 1] - target[UPPER_LIP, 1], 0, None)
    anchors = np.vstack([target[UPPER_LIP], target[LOWER_LIP], target[_OUTER_UPPER], target[_OUTER_LOWER]])
    pulls = np.concatenate([0.5 * gaps, -0.5 * gaps, 0.5 * gaps, -0.5 * gaps])
    spread = 0.22 * eye_distance(target)
    distance = np.linalg.norm(target[:, None] - anchors[None], axis=2)
    nearest = np.argsort(distance, axis=1)[:, :4]
    weights = 1 / (np.take_along_axis(distance, nearest, 1) + 1e-3)
    pull = (weights * pulls[nearest]).sum(1) / weights.sum(1)
    pull *= np.exp(-((distance.min(1) / spread) ** 2))
    for edge, sign in ((UPPER_LIP, 0.5), (LOWER_LIP, -0.5)):
        pull[edge] = sign * gaps
    return np.stack([np.zeros(len(target)), pull], 1)


def _seam(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Teeth that were squeezed into the line between the lips leave it bright: draw it as dark as such a line is."""
    line = ((target[UPPER_LIP] + target[LOWER_LIP]) / 2).astype(np.float32)
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.polylines(mask, [np.round(line * 8).astype(np.int32)], False, 255, 2, cv2.LINE_AA, shift=3)
    lips = canvas[tuple(np.round(target[_OUTER_LOWER][3:8] * 0.6 + line[3:8] * 0.4).astype(int).T[::-1])]
    alpha = 0.8 * cv2.GaussianBlur(mask, (0, 0), 0.9).astype(np.float32)[..., None] / 255
    return (canvas * (1 - alpha) + lips.mean(0) * 0.45 * alpha).astype(np.uint8)
