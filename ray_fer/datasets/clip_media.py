"""Find the media of a clip below a dataset's folder: a video, a folder of frames, or an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ray_fer.datasets.reading import DatasetError, Report
from ray_fer.video.frame_folder import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_frames


def media_of(path: Path) -> str | None:
    """ "video", "frames" or "image" by what `path` is on disk; None when it is nothing usable."""
    if path.is_dir():
        return "frames" if has_frames(path) else None
    if path.is_file():
        suffix = path.suffix.lower()
        return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None
    return None


def find_clip(folder: Path, name: str) -> tuple[Path, str] | None:
    """Media of clip `name` (may hold slashes) in `folder`: a folder of frames, or a file with a known suffix.

    A name that leaves `folder` (``../x``) finds nothing.
    """
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    candidates = [path] if path.suffix.lower() in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES) else []
    candidates += [path, *(path.with_name(path.name + suffix) for suffix in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))]
    for candidate in candidates:
        media = media_of(candidate)
        if media is not None:
            return candidate, media
    return None


def media_folder(root: Path, given: Path | None, known: Sequence[str], report: Report) -> Path:
    """Folder that holds the clips: the one given, or the first of `known` below `root` that holds any.

    Notes which one was taken when several exist. Raises DatasetError when there is none.
    """
    if given is not None:
        if not given.is_dir():
            raise DatasetError(f"{given}: no such folder of clips")
        return given
    found = [root / name for name in known if _holds_clips(root / name)]
    if not found:
        raise DatasetError(f"{root}: no folder of clips; looked for {', '.join(known)}; pass --media FOLDER")
    if len(found) > 1:
        report.note(f"clips are taken from {found[0]}; --media chooses another ({', '.join(map(str, found[1:]))})")
    return found[0]


def _holds_clips(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() or media_of(path) is not None for path in folder.iterdir())
