"""Frames with known Action Units for the blendshape map: SynthFER faces, rendered in memory and read by MediaPipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ray_fer.action_units.blendshape_map import BlendshapeMap
from ray_fer.action_units.calibration import CalibrationFrames, fit_blendshape_map
from ray_fer.datasets.synthfer.check import plant
from ray_fer.datasets.synthfer.identities import build_identity, make_subjects
from ray_fer.datasets.synthfer.photos import load_photos, packaged_splits
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.labels import AU_NAMES
from ray_fer.video.faces import FaceFinder

_TRAIN, _HELD_OUT = "train", "test"
_AT_ONCE = 8
_SHARE = 0.15  # of AUs that are active in a frame


@dataclass(frozen=True)
class CalibrationOptions:
    """How many faces of each side, and frames of each. The faces of the two sides share no photograph."""

    train_identities: int = 28
    held_out_identities: int = 16
    frames: int = 64
    seed: int = 42


def calibrate(
    options: CalibrationOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> BlendshapeMap:
    """Render, read and fit: the map that `blendshape_map.json` holds (about a minute; `progress` gets faces done)."""
    options = options or CalibrationOptions()
    words = (
        f"SynthFER, seed {options.seed}: {options.frames} frames of each face with random mixes of AUs, "
        "under the light, head pose and noise of usual clips"
    )
    return fit_blendshape_map(calibration_frames(options, progress), words)


def calibration_frames(
    options: CalibrationOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> CalibrationFrames:
    """Rendered frames in which MediaPipe finds a face: what it reads, and what was planted."""
    options = options or CalibrationOptions()
    rng = np.random.default_rng([options.seed, 21])
    photos = load_photos([name for split in (_TRAIN, _HELD_OUT) for name in packaged_splits()[split]])
    subjects = []
    for split, count in ((_TRAIN, options.train_identities), (_HELD_OUT, options.held_out_identities)):
        own = {name: photos[name] for name in packaged_splits()[split]}
        # Four subjects in a row share their photographs: one of each four, or there would be few different faces.
        subjects += make_subjects(split, 4 * count, own, options.seed)[::4]
    shapes, planted, owners, held_out = [], [], [], []
    with FaceFinder(max_faces=1) as finder:
        for done, subject in enumerate(subjects, 1):
            # Mixes in which no AU goes with another, as they do in expressions: the fit cannot tell one by another.
            aus = rng.random((options.frames, len(AU_NAMES)))
            aus *= rng.random(aus.shape) < _SHARE
            take = plant(build_identity(subject, photos), aus, int(rng.integers(2**31)))
            for start in range(0, len(aus), _AT_ONCE):
                index = np.arange(start, min(start + _AT_ONCE, len(aus)))
                images = render([take], index[None])[0].permute(0, 2, 3, 1).numpy()
                for number, image in zip(index, images, strict=True):
                    face = finder.find(image)
                    if face is None:
                        continue
                    shapes.append(face.blendshapes)
                    planted.append(aus[number])
                    owners.append(subject.subject_id)
                    held_out.append(subject.split == _HELD_OUT)
            if progress is not None:
                progress(done, len(subjects))
    return CalibrationFrames(np.array(shapes), np.array(planted), np.array(owners), np.array(held_out))
