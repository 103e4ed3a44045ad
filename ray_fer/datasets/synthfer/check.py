"""Is what was planted in the pictures? MediaPipe, which knows nothing of the mesh model, reads the AUs back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ray_fer.action_units.blendshapes import AU_FROM_BLENDSHAPES, aus_from_blendshapes
from ray_fer.datasets.synthfer.conditions import Take, make_take
from ray_fer.datasets.synthfer.geometry import SIDES
from ray_fer.datasets.synthfer.identities import Identity, Subject, build_identity, plain_subject
from ray_fer.datasets.synthfer.photos import SPLITS, load_photos
from ray_fer.datasets.synthfer.plan import SynthOptions, plan
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.labels import AU_NAMES
from ray_fer.video.faces import FaceFinder

CHECKED: tuple[tuple[str, ...], ...] = (
    ("AU01", "AU02"), ("AU04",), ("AU05",), ("AU06",), ("AU12",), ("AU15",), ("AU25",), ("AU26",), ("AU43",),
)  # fmt: skip
"""AUs that are planted one at a time, the first two together, and read as the mean of their blendshapes."""

ENOUGH = 0.7
"""Correlation from which on an AU counts as readable."""

_LIMITS = {
    "AU05": "eyeWide stays near 0 on faces whose eyes are narrow at rest, however far their lids go up",
    "AU06": "MediaPipe leaves cheekSquint at 0 on every face",
    "AU15": "mouthFrown hardly leaves 0; lowered corners are read as mouthRollLower and mouthPucker",
    "AU25": "mouthLowerDown wants bared lower teeth; lips that part without them are read as jawOpen",
    "AU43": "lids drawn over an open eye leave a trace of it, and eyeBlink starts higher on some faces",
}
_IDENTITIES = 4
_FACE_CLIPS, _FACE_FRAMES = {"train": 28, "val": 14, "test": 14}, 5
_SUBJECT_FRAMES = 16
_FACES_LOOKED_FOR = sum(_FACE_CLIPS.values()) * _FACE_FRAMES


@dataclass(frozen=True)
class AuCheck:
    """Pearson correlation of planted intensity and reading over all frames, planted `alone` or `mixed` with others."""

    aus: tuple[str, ...]
    blendshapes: tuple[str, ...]
    alone: float
    mixed: float
    reading_at_1: float
    """Mean rise of the reading when the AU is planted at 1."""
    subjects: float
    """Median over subjects, as clips show them, of the correlation within each one's frames, planted alone."""

    @property
    def limit(self) -> str:
        """Why an AU that is read badly is read badly; empty for one that is read well."""
        return "" if self.alone >= ENOUGH else _LIMITS.get(self.aus[0], "")


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. `identities` holds each face's residual reading; `face_rate` is over `face_frames`."""

    aus: tuple[AuCheck, ...]
    frames: int
    identities: dict[str, float]
    face_rate: float
    face_frames: int

    def as_json(self) -> dict[str, object]:
        """Plain values, as ``ray-fer synth --check --json`` prints them."""
        rows = [{**dataclasses.asdict(row), "limit": row.limit} for row in self.aus]
        return {**dataclasses.asdict(self), "aus": rows}


def check(options: SynthOptions, frames: int = 200, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read planted AUs back on the photographs that are most neutral, and look for faces in `gccfer` frames.

    `frames` (a multiple of 4) are rendered per AU on four photographs, with the head pose, light and noise of usual
    clips; and 16 on each of six subjects, two of each split. About a minute for 200. Raises ValueError when `frames`
    is no multiple of 4, or fewer than four photographs look straight ahead.
    """
    if frames < 4 or frames % _IDENTITIES:
        raise ValueError(f"{frames} frames cannot be shared by {_IDENTITIES} faces; give a multiple of {_IDENTITIES}")
    names = [name for split in SPLITS for name in options.photos()[split]]
    photos = load_photos(names)
    chosen = sorted((photo for photo in photos.values() if photo.blendable), key=lambda one: one.residual)[:_IDENTITIES]
    if len(chosen) < _IDENTITIES:
        raise ValueError(f"{len(chosen)} photographs look straight ahead; --check needs {_IDENTITIES}")
    faces = [build_identity(plain_subject(photo.name, "test"), photos) for photo in chosen]
    people = [build_identity(subject, photos) for subject in _people(options)]
    per_face = frames // _IDENTITIES
    total = (len(CHECKED) + 1) * frames + len(CHECKED) * len(people) * _SUBJECT_FRAMES + _FACES_LOOKED_FOR
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    rng = np.random.default_rng(options.seed)
    with FaceFinder(max_faces=1) as finder:

        def read(shown: list[Identity], planted: list[np.ndarray]) -> list[np.ndarray]:
            """Planted AUs [M,20] of each face -> readings [M,20] of each, NaN where no face was found."""
            readings = []
            for face, aus in zip(shown, planted, strict=True):
                readings.append(_read(finder, face, aus, int(rng.integers(2**31))))
                tick(len(aus))
            return readings

        mixes = [rng.random((per_face, len(AU_NAMES))) * (rng.random((per_face, len(AU_NAMES))) < 0.3) for _ in faces]
        for mix in mixes:
            mix[:, AU_NAMES.index("AU02")] = mix[:, AU_NAMES.index("AU01")]  # read as one, so planted as one
        mixed = np.concatenate(read(faces, mixes))
        rows = []
        for aus in CHECKED:
            columns = [AU_NAMES.index(au) for au in aus]
            levels = [rng.permutation(np.linspace(0, 1, per_face)) for _ in faces]
            alone = read(faces, [np.isin(AU_NAMES, aus) * level[:, None] for level in levels])
            x, y = np.concatenate(levels), np.concatenate(alone)[:, columns].mean(1)
            own = np.linspace(0, 1, _SUBJECT_FRAMES)
            apart = read(people, [np.isin(AU_NAMES, aus) * own[:, None] for _ in people])
            within = [_correlation(own, readings[:, columns].mean(1)) for readings in apart]
            seen = ~np.isnan(y)
            rows.append(
                AuCheck(
                    aus, tuple(shape for au in aus for shape in AU_FROM_BLENDSHAPES[au]), _correlation(x, y),
                    _correlation(np.concatenate(mixes)[:, columns].mean(1), mixed[:, columns].mean(1)),
                    round(float(np.polyfit(x[seen], y[seen], 1)[0]), 3), round(float(np.median(within)), 3),
                )
            )  # fmt: skip
        found = _face_rate(finder, options, tick)
    residuals = {photo.name: photo.residual for photo in chosen}
    return CheckReport(tuple(rows), frames, residuals, found, _FACES_LOOKED_FOR)


def _people(options: SynthOptions) -> list[Subject]:
    """Two subjects of each split, as the clips of a plan show them."""
    specs = plan(_FACE_CLIPS, replace(options, preset="balanced"))
    found: list[Subject] = []
    for split in SPLITS:
        found += list(dict.fromkeys(spec.subject for spec in specs if spec.subject.split == split))[:2]
    return found


def plant(face: Identity, aus: np.ndarray, seed: int) -> Take:
    """A take of `face` that shows AUs [M,20] on both sides, one row per frame, under the conditions of usual clips."""
    spec = ClipSpec("check", face.subject, "A", ("Neutral",), seed, strength=0.0, fps=1, seconds=float(len(aus)))
    take = make_take(spec, face)
    turns = take.weights[:, SIDES * len(AU_NAMES) :]
    return replace(take, weights=np.hstack([aus, aus, turns]).astype(np.float32))


def _read(finder: FaceFinder, face: Identity, aus: np.ndarray, seed: int) -> np.ndarray:
    images = render([plant(face, aus, seed)], np.arange(len(aus))[None])[0].permute(0, 2, 3, 1).numpy()
    readings = np.full((len(aus), len(AU_NAMES)), np.nan)
    for number, image in enumerate(images):
        found = finder.find(image)
        if found is not None:
            readings[number] = aus_from_blendshapes(found.blendshapes)
    return readings


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    seen = ~np.isnan(y)
    if seen.sum() < 2 or y[seen].std() < 1e-6:
        return 0.0
    return round(float(np.corrcoef(x[seen], y[seen])[0, 1]), 3)


def _face_rate(finder: FaceFinder, options: SynthOptions, tick: Callable[[int], None]) -> float:
    """Share of frames of preset `gccfer` without occlusion in which a face is found."""
    specs = plan(_FACE_CLIPS, replace(options, preset="gccfer", occlusion=0.0))
    photos = load_photos([name for spec in specs for name in spec.subject.photos])
    identities = {subject: build_identity(subject, photos) for subject in {spec.subject for spec in specs}}
    found = 0
    for spec in specs:
        index = np.linspace(0, spec.frames - 1, _FACE_FRAMES).astype(int)[None]
        images = render([make_take(spec, identities[spec.subject])], index)[0].permute(0, 2, 3, 1)
        found += sum(finder.find(image) is not None for image in images.numpy())
        tick(_FACE_FRAMES)
    return found / (_FACES_LOOKED_FOR)
