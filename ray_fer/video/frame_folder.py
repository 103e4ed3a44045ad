"""Clips that are stored as image files: a folder of frames, or some files of a folder."""

from __future__ import annotations

import glob
import re
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")


def frame_files(path: str | Path) -> list[Path]:
    """Frames of a clip in the order of the numbers in their names (img9 before img10).

    `path` is a folder, or where several clips share one, a folder and patterns of file names with ``|`` between them
    (``clip/face_[0-9].jpg|face_[0-9][0-9].jpg``). Empty when there is none.
    """
    path = Path(path)
    patterns = (path.parent / name for name in path.name.split("|"))
    found = path.iterdir() if path.is_dir() else (Path(name) for one in patterns for name in glob.glob(str(one)))
    return sorted((file for file in found if is_frame(file)), key=_natural)


def has_frames(folder: str | Path) -> bool:
    """Whether a folder holds at least one frame; stops at the first."""
    folder = Path(folder)
    return folder.is_dir() and any(is_frame(file) for file in folder.iterdir())


def frame_number(file: Path) -> int | None:
    """The last number in a frame's file name: 46 for ``reg_img46.jpg``, 5562 for ``006_05562.jpg``."""
    numbers = re.findall(r"\d+", file.stem)
    return int(numbers[-1]) if numbers else None


def is_frame(file: Path) -> bool:
    """Whether a file's name is that of a frame."""
    # macOS leaves `._name.jpg` beside every file that it copies to a foreign disk.
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _natural(file: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"\d+|\D+", file.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], file.name
