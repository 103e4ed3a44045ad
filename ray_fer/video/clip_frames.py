"""Frames of a manifest's clip, spread uniformly: from a video, a folder of images, or one image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.video.decode import Frame, MediaError, count_frames, decode_image, iter_frames
from ray_fer.video.frame_folder import frame_files
from ray_fer.video.sampling import uniform_indices


def clip_frames(row: Mapping[str, Any], frames: int) -> list[Frame]:
    """At most `frames` different frames of a manifest row's clip, in order; a shorter clip gives all it has.

    `end_frame` is exclusive. The `pts_us` of images is their position. Raises MediaError with file and reason.
    """
    path = Path(row["path"])
    if row["media"] == "video":
        start = row["start_frame"] or 0
        end = row["end_frame"] if row["end_frame"] is not None else count_frames(path)
        if end <= start:
            raise MediaError(str(path), f"the clip's range {start}..{end} holds no frame")
        wanted = start + _distinct(end - start, frames)
        decoded = list(iter_frames(path, wanted=wanted.tolist()))
        if len(decoded) < len(wanted):
            raise MediaError(str(path), f"ends before frame {int(wanted.max())} of the clip")
        return decoded
    files = frame_files(path) if row["media"] == "frames" else [path]
    if not files:
        raise MediaError(str(path), "the folder is missing or holds no .jpg or .png frame")
    if row["media"] == "frames":
        start, end = row["start_frame"] or 0, len(files) if row["end_frame"] is None else row["end_frame"]
        if not start < end <= len(files):
            raise MediaError(str(path), f"the clip's range {start}..{end} is not within its {len(files)} frames")
        files = files[start:end]
    chosen = _distinct(len(files), frames).tolist()
    return [Frame(position, position, read_image(files[position])) for position in chosen]


def read_image(file: Path) -> np.ndarray:
    """uint8 [H,W,3] RGB of a JPEG or PNG file. Raises MediaError."""
    if not file.is_file():
        raise MediaError(str(file), "no such file")
    return decode_image(file.read_bytes(), str(file))


def _distinct(available: int, wanted: int) -> np.ndarray:
    return np.unique(uniform_indices(available, wanted))
