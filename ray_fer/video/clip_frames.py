"""Frames of a manifest's clip, as a `Sampling` chooses them: from a video, a folder of images, or one image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.video.container import check_file
from ray_fer.video.decode import Frame, read_frames
from ray_fer.video.frame_folder import frame_files
from ray_fer.video.images import decode_image
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits, MediaError
from ray_fer.video.sampling import Sampling

_MISSING_AT_END = 0.05
"""Share of a clip's range that may lie behind the video's end: decoders disagree on the last frames."""


def clip_frames(
    row: Mapping[str, Any],
    sampling: Sampling | int,
    rng: np.random.Generator | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> list[Frame]:
    """The T frames of a manifest row's clip that `sampling` (a number: that many, uniformly) chooses.

    A frame that is chosen several times (padding) is one and the same object, so that work on it need be done once.
    `end_frame` is exclusive; `index` counts from the start of the file or folder, and the `pts_us` of images is their
    position in the clip. Raises MediaError with file and reason.
    """
    if isinstance(sampling, int):
        sampling = Sampling(frames=sampling)
    path = Path(row["path"])
    start, end = row["start_frame"] or 0, row["end_frame"]
    if start < 0 or (end is not None and end <= start):
        raise MediaError(str(path), f"the clip's range {start}..{end} holds no frame; correct the manifest")
    if row["media"] == "video":
        chosen: list[int] = []

        def choose(available: int) -> list[int]:
            there = _end_of_video(path, start, end, available) - start
            chosen[:] = (start + _indices(path, sampling, there, rng)).tolist()
            return sorted(set(chosen))

        decoded = {frame.index: frame for frame in read_frames(path, choose, limits)}
        return [decoded[index] for index in chosen]
    files = _files(row["media"], path)
    if row["media"] == "frames":
        end = len(files) if end is None else end
        if not start < end <= len(files):
            raise MediaError(str(path), f"the clip's range {start}..{end} is not within its {len(files)} frames")
        files = files[start:end]
    positions = _indices(path, sampling, len(files), rng).tolist()
    images = {
        position: Frame(start + position, position, read_image(files[position], limits)) for position in set(positions)
    }
    return [images[position] for position in positions]


def read_image(file: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> np.ndarray:
    """uint8 [H,W,3] RGB of a JPEG or PNG file. Raises MediaError."""
    check_file(str(file), limits.max_image_bytes, "max_image_bytes")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MediaError(str(file), f"cannot be opened: {error.strerror}") from error
    return decode_image(data, str(file), limits)


def _end_of_video(path: Path, start: int, end: int | None, available: int) -> int:
    end = available if end is None else end
    if start >= available or end - available > _MISSING_AT_END * (end - start):
        raise MediaError(str(path), f"ends before frame {end - 1} of the clip: it has {available} frames")
    return min(end, available)


def _indices(path: Path, sampling: Sampling, available: int, rng: np.random.Generator | None) -> np.ndarray:
    try:
        return sampling.indices(available, rng)
    except ValueError as error:
        raise MediaError(str(path), f"too short: {error}") from error


def _files(media: str, path: Path) -> list[Path]:
    try:
        files = frame_files(path) if media == "frames" else [path]
    except OSError as error:
        raise MediaError(str(path), f"cannot be listed: {error.strerror}") from error
    if not files:
        raise MediaError(str(path), "the folder is missing or holds no .jpg or .png frame")
    return files
