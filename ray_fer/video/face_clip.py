"""From the frames of one clip or window to aligned faces: the same code offline and in the stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_fer.video.faces import ALIGNED_SIZE, BLENDSHAPES, LANDMARKS, FaceFinder, align


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


def find_face(finder: FaceFinder, image: np.ndarray) -> FaceFrame | None:
    """Detect and align the largest face of `image` uint8 [H,W,3]; None when there is none."""
    face = finder.find(image)
    if face is None:
        return None
    try:
        crop = align(image, face.landmarks)
    except ValueError:
        return None
    return FaceFrame(crop, face.landmarks, face.blendshapes)


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
