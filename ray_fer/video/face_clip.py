"""From the frames of one clip or window to aligned faces: the same code offline and in the stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_fer.video.boxes import Box, crop_box, widened
from ray_fer.video.faces import ALIGNED_SIZE, BLENDSHAPES, LANDMARKS, FaceFinder, align

BOX_MARGIN = 0.25
"""A clip has one box, the median over its frames; people move, and detectors want some space around a face."""


@dataclass(frozen=True)
class FaceFrame:
    """What one frame gave: `crop` uint8 [224,224,3], `landmarks` float32 [478,3], `blendshapes` float32 [52]."""

    crop: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray


@dataclass(frozen=True)
class FaceClip:
    """T frames of one face. Where `found` is False, crop and landmarks repeat the nearest frame with a face."""

    crops: np.ndarray
    """uint8 [T,224,224,3]"""
    landmarks: np.ndarray
    """float32 [T,478,3]"""
    blendshapes: np.ndarray
    """float32 [T,52]; zeros where no face was found"""
    found: np.ndarray
    """bool [T]"""


def find_face(finder: FaceFinder, image: np.ndarray, box: Box | None = None) -> FaceFrame | None:
    """Detect and align the largest face of `image` uint8 [H,W,3]; None when there is none.

    With `box` (a manifest's `bbox`) only that part of the image is searched, and a margin around it.
    """
    view, (left, top) = (image, (0, 0)) if box is None else crop_box(image, widened(box, BOX_MARGIN))
    if view.size == 0:
        return None
    face = finder.find(view)
    if face is None:
        return None
    landmarks = face.landmarks + np.array([left, top, 0], np.float32)
    try:
        crop = align(image, landmarks)
    except ValueError:
        return None
    return FaceFrame(crop, landmarks, face.blendshapes)


def assemble(frames: list[FaceFrame | None]) -> FaceClip:
    """Join per-frame results into one clip; a clip without any face has black crops and `found` all False."""
    found = np.array([frame is not None for frame in frames])
    seen = np.flatnonzero(found)
    count = len(frames)
    crops = np.zeros((count, ALIGNED_SIZE, ALIGNED_SIZE, 3), np.uint8)
    landmarks = np.zeros((count, LANDMARKS, 3), np.float32)
    blendshapes = np.zeros((count, BLENDSHAPES), np.float32)
    for position in range(count):
        if not len(seen):
            break
        nearest = frames[int(seen[np.argmin(np.abs(seen - position))])]
        assert nearest is not None
        crops[position], landmarks[position] = nearest.crop, nearest.landmarks
        if found[position]:
            blendshapes[position] = nearest.blendshapes
    return FaceClip(crops, landmarks, blendshapes, found)
