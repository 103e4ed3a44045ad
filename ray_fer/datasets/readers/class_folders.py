"""Folders by class, ``split/Class/clip``: AFEW, SFEW, FER2013's folder layout, and users' own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ray_fer.datasets.clip_media import media_of
from ray_fer.datasets.label_maps import NamedLabels
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.reading import DatasetError, Report


def read_class_folders(
    dataset: str, root: Path, splits: Mapping[str, Sequence[str]], labels: NamedLabels, report: Report
) -> list[Clip]:
    """Clips of each split's folder (the first of its names that exists), one subfolder per class.

    A class folder whose name is no label is reported with the number of clips in it; so is anything that is no clip.
    Raises DatasetError when no split folder exists.
    """
    found = {}
    for split, names in splits.items():
        folder = next((root / name for name in names if _holds_folders(root / name)), None)
        if folder is not None:
            found[split] = folder
    if not found:
        looked = ", ".join(name for names in splits.values() for name in names)
        raise DatasetError(f"{root}: none of the folders {looked} is there with one folder per expression in it")
    for path in sorted(root.iterdir()):
        read = any(folder == path or path in folder.parents for folder in found.values())
        if not read and (_holds_folders(path) or media_of(path) is not None or labels.resolve(path.name) is not None):
            names = ", ".join(folder.name for folder in found.values())
            report.problem(path, None, f"not read: it lies beside the folders of splits ({names})")
    missing = [split for split in splits if split not in found]
    if missing:
        report.note(f"no folder of split {', '.join(missing)} in {root}")
    return [clip for split, folder in found.items() for clip in read_split(dataset, split, folder, labels, report)]


def read_split(dataset: str, split: str | None, folder: Path, labels: NamedLabels, report: Report) -> list[Clip]:
    """Clips of the class folders in `folder`."""
    clips = []
    for class_folder in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if not class_folder.is_dir():
            if media_of(class_folder) is not None:
                report.problem(class_folder, None, "lies in no folder of an expression")
            continue
        entries = sorted(path for path in class_folder.iterdir() if not path.name.startswith("."))
        label = labels.resolve(class_folder.name)
        if label is None:
            text = f"{len(entries)} clips in a folder that is no expression; expected {labels.accepted()}"
            report.problem(class_folder, None, text)
            continue
        for path in entries:
            media = media_of(path)
            if media is None:
                report.problem(path, None, "no video, image or folder of frames")
                continue
            name = "/".join(part for part in (split, class_folder.name, path.name) if part)
            clips.append(Clip(f"{dataset}/{name}", dataset, str(path.resolve()), media=media, label=label, split=split))
    return clips


def _holds_folders(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())
