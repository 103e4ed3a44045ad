"""DFEW: 11,697 single-labelled clips in five folds (Jiang et al. 2020), from the official release and its copies.

The official lists count labels from 1, the copies that travel with S2D, DFER-CLIP, Former-DFER and MAE-DFER from 0.
Which one a file is follows from its layout, and the numbers in it must agree.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.label_maps import DFEW_OFFICIAL, DFEW_ZERO_BASED
from ray_fer.datasets.readers.fold_lists import Entry, Layout, clip_number, combine, find_layout, read_lists, with_media
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading, Report

PUBLISHED_FOLDS: dict[int, tuple[int, int]] = {
    1: (9356, 2341), 2: (9356, 2341), 3: (9357, 2340), 4: (9358, 2339), 5: (9361, 2336),
}  # fmt: skip
"""Clips in train and test of each fold, as released (11,697 in all)."""

# The release writes `train(single_labeled)`, most code `train(single-labeled)`.
_SPELLINGS = ("(single_labeled)", "(single-labeled)", "")

LAYOUTS = (
    Layout(
        "official",
        {split: tuple(f"{split}{spelling}/set_{{fold}}.csv" for spelling in _SPELLINGS) for split in ("train", "test")},
        DFEW_OFFICIAL,
    ),
    Layout(
        "s2d",
        {
            split: tuple(f"{split}{spelling}/{split}_set_{{fold}}.csv" for spelling in _SPELLINGS)
            for split in ("train", "test")
        },
        DFEW_ZERO_BASED,
    ),
    Layout(
        "dfer-clip",
        {split: (f"DFEW_set_{{fold}}_{split}.txt", f"set_{{fold}}_{split}.txt") for split in ("train", "test")},
        DFEW_ZERO_BASED,
        columns=("video_name", "frames", "label"),
    ),
    Layout(
        "mae-dfer",
        # val.csv repeats test.csv there, so it is not read.
        {split: (f"split0{{fold}}/{split}.csv",) for split in ("train", "test")},
        DFEW_ZERO_BASED,
        columns=("video_name", "label"),
    ),
    Layout(
        "jiangxingxun",
        {split: (f"single_{split}set_{{fold}}.csv",) for split in ("train", "test")},
        DFEW_ZERO_BASED,
    ),
)

_LIST_FOLDERS = (
    "", "EmoLabel_DataSplit", "DFEW/EmoLabel_DataSplit", "data/DFEW/EmoLabel_DataSplit", "annotation", "label", "org",
    "data/dfew/org", "saved/data/dfew/org",
)  # fmt: skip
_MEDIA_FOLDERS = (
    "Clip/clip_224x224", "Clip/clip_224x224_16f", "Clip/jpg_256", "Clip/original", "clip_224x224",
    "clip_224x224_16f", "DFEW_Frame_Face", "data", "original",
)  # fmt: skip


def read_dfew(root: Path, options: ReadOptions) -> Reading:
    """Read DFEW; `fold` is the fold that tests the clip."""
    report = Report()
    base = options.lists or root
    layout, files = find_layout(LAYOUTS, [base / name for name in _LIST_FOLDERS], options.variant)
    folder = media_folder(root, options.media, _MEDIA_FOLDERS, report)
    entries = read_lists("dfew", layout, files, clip_number, report)
    _check_fold_sizes(entries, report)
    if folder.name.endswith("_16f"):
        report.note(
            f"{folder.name} holds clips interpolated in time to 16 frames; results differ from those on original frames"
        )
    return Reading("dfew", layout.name, with_media("dfew", combine(entries, report), folder, report), report)


def _check_fold_sizes(entries: list[Entry], report: Report) -> None:
    sizes = Counter((entry.fold, entry.split) for entry in entries)
    folds = {entry.fold for entry in entries}
    for fold, published in PUBLISHED_FOLDS.items():
        found = (sizes[fold, "train"], sizes[fold, "test"])
        if found == published:
            report.note(f"fold {fold}: {found[0]} train, {found[1]} test, as published")
        elif fold in folds or len(folds) > 1:  # a single fold may be all that somebody wants
            differs = "fold {}: {} train, {} test; published are {} train, {} test"
            report.differences.append(differs.format(fold, *found, *published))
