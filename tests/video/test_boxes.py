"""Boxes, against areas counted in pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.video.boxes import Box, crop_box, face_box, intersection, iou, widened

boxes = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 12), st.integers(0, 12))


def filled(box: Box) -> np.ndarray:
    canvas = np.zeros((40, 40), bool)
    left, top, width, height = map(int, box)
    canvas[top : top + height, left : left + width] = True
    return canvas


@given(boxes, boxes)
def test_overlap_is_what_counting_pixels_gives(first: Box, second: Box) -> None:
    a, b = filled(first), filled(second)
    assert intersection(first, second) == (a & b).sum()
    union = (a | b).sum()
    assert iou(first, second) == pytest.approx((a & b).sum() / union if union else 0.0)


def test_box_of_landmarks() -> None:
    assert face_box(np.array([[3, 9, 0], [10, 4, 1], [5, 5, 5]], np.float32)) == (3.0, 4.0, 7.0, 5.0)


@pytest.mark.parametrize(
    ("box", "shape", "corner"),
    [
        ((2.0, 3.0, 4.0, 5.0), (5, 4), (2, 3)),
        ((-5.0, -5.0, 8.0, 7.0), (2, 3), (0, 0)),
        ((8.0, 8.0, 50.0, 50.0), (2, 2), (8, 8)),
        ((30.0, 30.0, 5.0, 5.0), (0, 0), (10, 10)),
    ],
)
def test_crops_end_at_the_frame(box: Box, shape: tuple[int, int], corner: tuple[int, int]) -> None:
    part, found = crop_box(np.zeros((10, 10, 3), np.uint8), box)
    assert (part.shape[:2], found) == (shape, corner)


def test_widened_boxes_grow_on_every_side() -> None:
    assert widened((10.0, 20.0, 8.0, 4.0), 0.25) == (8.0, 19.0, 12.0, 6.0)
