"""AFEW (EmotiW): movie clips in folders by emotion, or the lists of face frames that travel with Former-DFER.

Results are reported on the validation set, since the labels of the test set are not public.
"""

from __future__ import annotations

import re
from pathlib import Path

from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.label_maps import BASIC_WORDS, DFEW_ZERO_BASED
from ray_fer.datasets.readers.class_folders import read_class_folders
from ray_fer.datasets.readers.fold_lists import Layout, combine, find_layout, read_lists, with_media
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import DatasetError, Reading, Report

LISTS = Layout(
    "former-dfer",
    {
        "train": ("AFEW_train.txt", "train.txt"),
        "val": ("AFEW_validation.txt", "validation.txt"),
    },
    DFEW_ZERO_BASED,
    columns=("path", "frames", "label"),
    clip="path",
)

_SPLIT_FOLDERS = {
    "train": ("train", "Train", "Train_AFEW", "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces"),
    "val": ("validation", "Val", "val", "Val_AFEW", "Val_AFEW/AlignedFaces_LBPTOP_Points_Val/Faces"),
}


def read_afew(root: Path, options: ReadOptions) -> Reading:
    """Read AFEW: `split` is train or val."""
    report = Report()
    places = [options.lists] if options.lists is not None else [root, root / "annotation"]
    if options.variant not in (None, "folders", LISTS.name):
        raise DatasetError(f"unknown variant {options.variant!r}; expected one of folders, {LISTS.name}")
    listed = any((place / names[0]).is_file() for place in places for names in LISTS.lists.values())
    if options.variant == "folders" or (options.variant is None and not listed):
        return Reading("afew", "folders", read_class_folders("afew", root, _SPLIT_FOLDERS, BASIC_WORDS, report), report)
    layout, files = find_layout([LISTS], places, LISTS.name)
    folder = media_folder(root, options.media, ("AFEW_Face", "AFEW_Face_Retina", "faces", "."), report)
    entries = []
    for entry in read_lists(layout, files, clip_path, report):
        said = BASIC_WORDS.resolve(entry.clip.split("/")[1])
        if said == entry.label:
            entries.append(entry)
        else:
            report.problem(entry.row.file, entry.row.line, f"clip {entry.clip} is labelled {entry.label}")
    return Reading("afew", layout.name, with_media("afew", combine(entries, report), folder, report), report)


def clip_path(text: str) -> str | None:
    """``split/Emotion/clip`` from that or from any path that ends so; None otherwise."""
    match = re.fullmatch(r"(?:.*[/\\])?(\w+)[/\\](\w+)[/\\]([\w-]+)", text.strip(), re.ASCII)
    return "/".join(match.groups()) if match else None
