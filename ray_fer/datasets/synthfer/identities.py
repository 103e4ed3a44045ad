"""Subjects: synthetic persons made from a few photographs of one split.

A subject is a neutralised photograph, blended with a second one of the same split along the landmarks, and changed
smoothly in shape and colour. Everything is drawn from (seed, split, number): the same numbers give the same person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from ray_fer.datasets.synthfer.geometry import (
    CANVAS,
    FACE_OVAL,
    LOWER_LIP,
    UPPER_LIP,
    dense_fields,
    eye_distance,
    smoothstep,
    warp_to,
)
from ray_fer.datasets.synthfer.matte import cut_out
from ray_fer.datasets.synthfer.muscles import vertex_moves
from ray_fer.datasets.synthfer.photos import SPLITS, Photo

LIPS = UPPER_LIP + LOWER_LIP


@dataclass(frozen=True)
class Subject:
    """Recipe of a person: one photograph, or two and the share of the second, and the seed of shape and colour."""

    subject_id: str
    split: str
    photos: tuple[str, ...]
    blend: float
    seed: int


@dataclass(frozen=True)
class Identity:
    """A face ready to be moved.

    `canvas` float32 [4,320,320]: red, green, blue (0..255) and the matte (0..1, what belongs to the person);
    `fields` float32 [42,128,128,2]: flow in canvas pixels of one unit of every AU on either side, of yaw and of pitch;
    `lips` float32 [22,2] the inner edges, upper then lower; `lip_moves` float32 [42,22,2] how the fields move them.
    """

    subject: Subject
    canvas: np.ndarray
    landmarks: np.ndarray
    fields: np.ndarray
    lips: np.ndarray
    lip_moves: np.ndarray


def make_subjects(split: str, count: int, photos: Mapping[str, Photo], seed: int, groups: int = 4) -> list[Subject]:
    """Recipes `<split>-000` ... of `count` persons from the photographs of one split, by name.

    As many subjects in a row as there are `groups` share their photographs, so that groups that take turns have the
    same mix of faces.
    Half of the subjects are blends, where the split has two photographs that can be blended.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), 11])
    names = list(photos)
    pure = [name for name in names if photos[name].blendable]
    pairs = [(one, other) for one in pure for other in pure if one != other]
    singles = [names[i] for i in rng.permutation(len(names))]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    subjects = []
    for number in range(count):
        turn = number // groups
        blended = bool(pairs) and turn % 2 == 1
        chosen = pairs[turn // 2 % len(pairs)] if blended else (singles[turn // 2 % len(singles)],)
        if not pairs:
            chosen = (singles[turn % len(singles)],)
        blend = float(rng.uniform(0.3, 0.7)) if blended else 0.0
        subjects.append(Subject(f"{split}-{number:03d}", split, chosen, round(blend, 3), int(rng.integers(2**31))))
    return subjects


def plain_subject(name: str, photo_split: str) -> Subject:
    """The photograph `name` itself, neutralised and otherwise unchanged (seed -1 changes nothing)."""
    return Subject(name, photo_split, (name,), 0.0, -1)


def build_identity(subject: Subject, photos: Mapping[str, Photo], matte: bool = False) -> Identity:
    """Make one person (about 0.1 s). With `matte`, the head is cut out (0.3 s more); else the matte is 1."""
    first = photos[subject.photos[0]]
    canvas, landmarks = first.canvas, first.landmarks.astype(np.float32)
    alpha = cut_out(canvas, landmarks) if matte else np.ones((CANVAS, CANVAS), np.float32)
    if len(subject.photos) == 2:
        canvas, alpha, landmarks = _blended(canvas, alpha, landmarks, photos[subject.photos[1]], subject.blend)
    if subject.seed >= 0:
        rng = np.random.default_rng(subject.seed)
        target = _reshaped(landmarks, rng)
        layers = warp_to(np.dstack([canvas.astype(np.float32), alpha * 255]), landmarks, target)
        canvas, alpha, landmarks = _recoloured(np.clip(layers[..., :3], 0, 255), rng), layers[..., 3] / 255, target
    moves = vertex_moves(landmarks)
    layers = np.dstack([canvas.astype(np.float32), np.clip(alpha, 0, 1)]).transpose(2, 0, 1)
    return Identity(
        subject, np.ascontiguousarray(layers, np.float32), landmarks, dense_fields(landmarks, moves),
        landmarks[LIPS, :2].astype(np.float32), np.ascontiguousarray(moves[:, LIPS]),
    )  # fmt: skip


def _blended(
    canvas: np.ndarray, alpha: np.ndarray, landmarks: np.ndarray, other: Photo, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both faces warped to the shape between them; inside the face the pixels are mixed, around it the first stays."""
    target = (1 - share) * landmarks + share * other.landmarks
    layers = warp_to(np.dstack([canvas.astype(np.float32), alpha * 255]), landmarks, target)
    one, alpha = np.clip(layers[..., :3], 0, 255), np.clip(layers[..., 3] / 255, 0, 1)
    two = warp_to(other.canvas, other.landmarks, target).astype(np.float32)
    inside = _face_mask(target)
    skin = inside > 0.9
    two = (two - two[skin].mean(0)) / (two[skin].std(0) + 1) * (one[skin].std(0) + 1) + one[skin].mean(0)
    mix = share * inside[..., None]
    return np.clip(one * (1 - mix) + two * mix, 0, 255), alpha, target


def _face_mask(landmarks: np.ndarray) -> np.ndarray:
    """1 inside the face, falling to 0 towards its outline and from the brows up, where hair may be. [320,320]"""
    oval = landmarks[FACE_OVAL, :2]
    centre = oval.mean(0)
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.fillPoly(mask, [np.round(centre + 0.92 * (oval - centre)).astype(np.int32)], 255)
    brows = landmarks[[105, 334], 1].mean()
    below = smoothstep((np.arange(CANVAS) - brows) / (0.3 * eye_distance(landmarks)) + 0.4)
    return (cv2.GaussianBlur(mask, (0, 0), 5) / 255 * below[:, None]).astype(np.float32)


def _reshaped(landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smooth random change of shape, the same on both sides of the face: wider, longer, fuller, other proportions."""
    scale = eye_distance(landmarks)
    centre = landmarks[[168, 6, 197], :2].mean(0)
    place = (landmarks[:, :2] - centre) / scale
    moved = place * rng.normal(1, 0.045, 2)
    for _ in range(6):  # local bulges, mirrored, so that a face does not become crooked
        at = np.array([rng.uniform(0, 0.9), rng.uniform(-0.6, 1.2)])
        push = rng.normal(0, 0.045, 2)
        width = rng.uniform(0.3, 0.6)
        for side in (1.0, -1.0):
            near = np.exp(-(((place - at * [side, 1]) ** 2).sum(1)) / (2 * width**2))
            moved = moved + near[:, None] * push * [side, 1]
    result = landmarks.copy()
    result[:, :2] = centre + moved * scale
    return result


def _recoloured(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another complexion and another camera: gamma, saturation and a slight cast. float [H,W,3] in 0..255."""
    image = 255 * (canvas / 255) ** rng.uniform(0.75, 1.3)
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * rng.uniform(0.6, 1.15)
    return np.clip(image * rng.uniform(0.95, 1.05, 3), 0, 255)
