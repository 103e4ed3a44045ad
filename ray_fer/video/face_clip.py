"""From the frames of one clip or window to aligned faces: the same code offline and in the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from ray_fer.video.boxes import Box, crop_box, face_box, iou, widened
from ray_fer.video.faces import ALIGNED_SIZE, BLENDSHAPES, LANDMARKS, Face, FaceFinder, FaceTracker, align
from ray_fer.video.tracks import main_faces, nearness

BOX_MARGIN = 0.25
"""A clip has one box, the median over its frames; people move, and detectors want some space around a face."""

MAX_GAP = 2
"""Frames: a face that is lost for longer has moved in a way that a straight line does not tell."""


@dataclass(frozen=True)
class FaceFrame:
    """What one frame gave: `crop` uint8 [224,224,3], `landmarks` float32 [478,3], `blendshapes` float32 [52]."""

    crop: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray


@dataclass(frozen=True)
class FaceClip:
    """T frames of one face.

    Where `found` is False, crop and landmarks repeat the nearest frame with a face; in a short gap that `clip_faces`
    has bridged they are the frame's own crop, and landmarks between those of the frames around it.
    """

    crops: np.ndarray
    """uint8 [T,224,224,3]"""
    landmarks: np.ndarray
    """float32 [T,478,3]"""
    blendshapes: np.ndarray
    """float32 [T,52]; zeros where no face was found"""
    found: np.ndarray
    """bool [T]"""


class BoxFinder(Protocol):
    """Finds faces as boxes, as YoloFaceFinder does."""

    def find_boxes(self, image: np.ndarray) -> list[Box]:
        """Boxes of the faces in `image` uint8 [H,W,3] RGB, in its pixels, largest first."""
        ...


def find_face(finder: FaceFinder, image: np.ndarray, box: Box | None = None) -> FaceFrame | None:
    """Detect and align the largest face of `image` uint8 [H,W,3]; None when there is none.

    With `box` (a manifest's `bbox`) it is the face that covers the box best, among those in it and a margin around it.
    """
    faces = _search(finder, image, box)
    which = _best(faces, box) if box is not None else 0 if faces else None
    return _aligned(image, None if which is None else faces[which])


def clip_faces(
    finder: FaceFinder,
    images: Sequence[np.ndarray],
    box: Box | None = None,
    box_finder: BoxFinder | None = None,
    max_gap: int = MAX_GAP,
) -> FaceClip:
    """Aligned faces of the clip's main person in `images`, T x uint8 [H,W,3] RGB, for preprocessing whole clips.

    The main person is the one seen in most frames (CA-FER section II.A; see `main_faces`); with `box`, which names the
    person, it is the face that covers the box best. With `box_finder` the faces are those that it finds, and
    landmarks are searched inside its boxes only. In gaps of at most `max_gap` frames landmarks are interpolated, and
    the crop is cut with them from the frame itself; `found` stays False. An image that occurs several times (the same
    object: a short clip is padded so) is searched, and counted, once. The finder is reset first.

    Raises ValueError without images, and for a FaceTracker with a `box_finder`: it cannot follow a view that moves.
    """
    images = list(images)
    if not images:
        raise ValueError("a clip without frames has no faces")
    if box_finder is not None and isinstance(finder, FaceTracker):
        raise ValueError("a FaceTracker follows the face by itself; use FaceFinder together with a box finder")
    finder.reset()
    distinct = list({id(image): image for image in images}.values())
    found = [
        _search(finder, image, box) if box_finder is None else _search_boxes(finder, image, box, box_finder)
        for image in distinct
    ]
    if box is None:
        chosen = main_faces([[face_box(face.landmarks) for face in faces] for faces in found])
    else:
        chosen = [_best(faces, box) for faces in found]
    faces = [None if which is None else faces[which] for which, faces in zip(chosen, found, strict=True)]
    clip = assemble([_aligned(image, face) for image, face in zip(distinct, faces, strict=True)])
    _bridge_gaps(clip, distinct, max_gap)
    place = {id(image): position for position, image in enumerate(distinct)}
    order = [place[id(image)] for image in images]
    return FaceClip(clip.crops[order], clip.landmarks[order], clip.blendshapes[order], clip.found[order])


def assemble(frames: list[FaceFrame | None]) -> FaceClip:
    """Join per-frame results into one clip; a clip without any face has black crops and `found` all False.

    Crops may have been resized: all to the same size.
    """
    found = np.array([frame is not None for frame in frames])
    seen = np.flatnonzero(found)
    count = len(frames)
    first = next((frame for frame in frames if frame is not None), None)
    shape = (ALIGNED_SIZE, ALIGNED_SIZE, 3) if first is None else first.crop.shape
    crops = np.zeros((count, *shape), np.uint8)
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


def _search(finder: FaceFinder, image: np.ndarray, box: Box | None) -> list[Face]:
    """Faces in the part of the image that `box` and its margin cover, in pixels of the image, largest first."""
    view, (left, top) = (image, (0, 0)) if box is None else crop_box(image, widened(box, BOX_MARGIN))
    if view.size == 0:
        return []
    shift = np.array([left, top, 0], np.float32)
    return [Face(face.landmarks + shift, face.blendshapes) for face in finder.find_faces(view)]


def _search_boxes(finder: FaceFinder, image: np.ndarray, box: Box | None, box_finder: BoxFinder) -> list[Face]:
    """As `_search`, for one face in each box that the box finder finds there."""
    view, (left, top) = (image, (0, 0)) if box is None else crop_box(image, widened(box, BOX_MARGIN))
    if view.size == 0:
        return []
    found = []
    for across, down, width, height in box_finder.find_boxes(view):
        wanted = (across + left, down + top, width, height)
        faces = _search(finder, image, wanted)
        which = _best(faces, wanted)
        if which is not None:
            found.append(faces[which])
    return found


def _best(faces: Sequence[Face], box: Box) -> int | None:
    """Which face covers `box` best, None when none touches it: its margin may hold a larger face, of a neighbour."""
    overlaps = [iou(face_box(face.landmarks), box) for face in faces]
    return int(np.argmax(overlaps)) if any(overlaps) else None


def _aligned(image: np.ndarray, face: Face | None) -> FaceFrame | None:
    if face is None:
        return None
    try:
        return FaceFrame(align(image, face.landmarks), face.landmarks, face.blendshapes)
    except ValueError:  # seen exactly from the side: the eyes coincide
        return None


def _bridge_gaps(clip: FaceClip, images: Sequence[np.ndarray], max_gap: int) -> None:
    """Interpolate landmarks in short gaps, in place, where the faces on both sides are one face that moved."""
    seen = np.flatnonzero(clip.found).tolist()
    for before, after in pairwise(seen):
        start, end = clip.landmarks[before], clip.landmarks[after]
        if after - before - 1 > max_gap or not nearness(face_box(start), face_box(end)):
            continue
        for position in range(before + 1, after):
            share = (position - before) / (after - before)
            between = _aligned(images[position], Face((1 - share) * start + share * end, clip.blendshapes[position]))
            same_size = images[before].shape == images[position].shape == images[after].shape
            if between is not None and same_size:
                clip.crops[position], clip.landmarks[position] = between.crop, between.landmarks
