"""FERV39k: 38,935 clips of 22 scenes with one fixed split (Wang et al. 2022).

The path of a clip, ``Scene/Emotion/number``, names its emotion, so every list is checked against it: the official
words, and the integers of S2D (alphabetical) and of DFER-CLIP, Former-DFER and MAE-DFER (DFEW's order).
"""

from __future__ import annotations

from pathlib import Path

from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.label_maps import BASIC_WORDS, DFEW_ZERO_BASED, FERV39K_ALPHABETICAL
from ray_fer.datasets.readers.fold_lists import (
    Layout,
    agrees_with_path,
    class_path,
    combine,
    find_layout,
    read_lists,
    with_media,
)
from ray_fer.datasets.readers.index_file import check_index_file
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading, Report

LAYOUTS = (
    Layout(
        "official",
        {split: (f"{split}_All.csv",) for split in ("train", "test")},
        BASIC_WORDS,
        columns=("path", "label"),
        clip="path",
    ),
    Layout(
        "s2d",
        {split: (f"Annotation/{split}.csv",) for split in ("train", "test")},
        FERV39K_ALPHABETICAL,
        clip="path",
        label="id",
    ),
    Layout(
        "dfer-clip",
        {split: (f"FERV39K_{split}.txt", f"FERV39k_{split}.txt") for split in ("train", "test")},
        DFEW_ZERO_BASED,
        columns=("path", "frames", "label"),
        clip="path",
    ),
    Layout(
        "mae-dfer",
        {split: (f"all_scenes/{split}.csv",) for split in ("train", "test")},
        DFEW_ZERO_BASED,
        columns=("path", "label"),
        clip="path",
    ),
)

_LIST_FOLDERS = (
    "", "4_setups/All_scenes", "All_scenes", "data/FERV39K", "annotation", "ferv39k", "data/ferv39k",
    "saved/data/ferv39k",
)  # fmt: skip
_MEDIA_FOLDERS = ("2_ClipsforFaceCrop/2_ClipsforFaceCrop", "2_ClipsforFaceCrop", "1_ClipsforScene", "0_ClipsforScene")


def read_ferv39k(root: Path, options: ReadOptions) -> Reading:
    """Read FERV39k; `split` is train or test."""
    report = Report()
    base = options.lists or root
    layout, files = find_layout(LAYOUTS, [base / name for name in _LIST_FOLDERS], options.variant)
    folder = media_folder(root, options.media, _MEDIA_FOLDERS, report)
    check_index_file(files[0][0].parent / "label_index.txt", FERV39K_ALPHABETICAL, BASIC_WORDS, report)
    entries = read_lists("ferv39k", layout, files, class_path, report)
    agreeing = [entry for entry in entries if agrees_with_path(entry, report)]
    return Reading("ferv39k", layout.name, with_media("ferv39k", combine(agreeing, report), folder, report), report)
