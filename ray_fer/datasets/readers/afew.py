"""AFEW (EmotiW): movie clips in folders by emotion, or the lists of face frames that travel with Former-DFER.

Results are reported on the validation set, since the labels of the test set are not public.
"""

from __future__ import annotations

from pathlib import Path

from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.label_maps import BASIC_WORDS, DFEW_ZERO_BASED
from ray_fer.datasets.readers.class_folders import read_class_folders
from ray_fer.datasets.readers.fold_lists import (
    Layout,
    agrees_with_path,
    class_path,
    combine,
    find_layout,
    read_lists,
    with_media,
)
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
_SPLIT_WORDS = {"train": ("train", "train_afew"), "val": ("validation", "val", "val_afew")}


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
    for entry in read_lists("afew", layout, files, class_path, report):
        said = entry.clip.split("/")[0].casefold()
        if said not in _SPLIT_WORDS[entry.split]:
            report.problem(entry.row.file, entry.row.line, f"clip {entry.clip} is listed for split {entry.split}")
        elif agrees_with_path(entry, report):
            entries.append(entry)
    return Reading("afew", layout.name, with_media("afew", combine(entries, report), folder, report), report)
