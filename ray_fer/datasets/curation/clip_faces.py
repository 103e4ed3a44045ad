"""One look at a clip's pixels: its persons, and the main person's aligned faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_fer.datasets.curation.persons import PersonDecision, PersonRule, choose_person
from ray_fer.video.all_faces import SceneFaceFinder
from ray_fer.video.boxes import crop_box, face_box
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.faces import align
from ray_fer.video.tracks import track_faces


@dataclass(frozen=True)
class ClipFaces:
    """`crops`: uint8 [224,224,3] of the main person in each frame that shows it; empty when the clip is dropped."""

    decision: PersonDecision
    crops: list[np.ndarray]


def find_clip_faces(row: Mapping[str, Any], finder: SceneFaceFinder, rule: PersonRule) -> ClipFaces:
    """Look at `rule.frames` frames of a manifest row. Raises MediaError when the clip cannot be read.

    A row that has a `bbox` already (EiLA's releases name the person) is searched inside it only.
    """
    different = {frame.index: frame.image for frame in clip_frames(row, rule.frames)}  # short clips repeat a frame
    images = list(different.values())
    if row["bbox"] is not None:
        images = [part for part, _ in (crop_box(image, tuple(row["bbox"])) for image in images)]
    found = [finder.find_all(image) if image.size else [] for image in images]
    persons = track_faces([[face_box(landmarks) for landmarks in faces] for faces in found], rule.min_iou)
    decision = choose_person(persons, len(images), rule)
    if decision.main is None:
        return ClipFaces(decision, [])
    pairs = [(images[frame], found[frame][face]) for frame, face in decision.main.faces.items()]
    crops = [_aligned(image, landmarks) for image, landmarks in pairs]
    return ClipFaces(decision, [crop for crop in crops if crop is not None])


def _aligned(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
    try:
        return align(image, landmarks)
    except ValueError:  # seen exactly from the side: the eyes coincide
        return None
