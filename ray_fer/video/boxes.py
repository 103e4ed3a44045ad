"""Boxes around faces and people: left, top, width, height in pixels, as in the manifest's `bbox`."""

from __future__ import annotations

import numpy as np

Box = tuple[float, float, float, float]


def face_box(landmarks: np.ndarray) -> Box:
    """Smallest box around landmarks [478,>=2]: from chin to the hairline's lower edge, without ears and hair."""
    left, top = landmarks[:, :2].min(0).tolist()
    right, bottom = landmarks[:, :2].max(0).tolist()
    return left, top, right - left, bottom - top


def area(box: Box) -> float:
    """Pixels of a box."""
    return box[2] * box[3]


def intersection(first: Box, second: Box) -> float:
    """Pixels that two boxes share."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    shared = intersection(first, second)
    union = area(first) + area(second) - shared
    return shared / union if union > 0 else 0.0


def widened(box: Box, share: float) -> Box:
    """Box that reaches `share` of its width and height further on every side."""
    left, top, width, height = box
    return left - share * width, top - share * height, width * (1 + 2 * share), height * (1 + 2 * share)


def crop_box(image: np.ndarray, box: Box) -> tuple[np.ndarray, tuple[int, int]]:
    """Part of `image` [H,W,...] inside `box`, and its left and top; the part is empty when the box lies outside."""
    height, width = image.shape[:2]
    left, top = min(max(round(box[0]), 0), width), min(max(round(box[1]), 0), height)
    right, bottom = min(max(round(box[0] + box[2]), left), width), min(max(round(box[1] + box[3]), top), height)
    return image[top:bottom, left:right], (left, top)
