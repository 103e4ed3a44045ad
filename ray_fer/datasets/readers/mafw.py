"""MAFW: 9,172 single-labelled clips of eleven expressions in five folds (Liu et al. 2022).

Three orders of the eleven classes are in use (`label_maps`), beside the release's words. A list of integers is read
only in the layout that belongs to its order.
"""

from __future__ import annotations

from pathlib import Path

from ray_fer.datasets.clip_media import media_folder
from ray_fer.datasets.label_maps import MAFW_ALPHABETICAL, MAFW_DFER_CLIP, MAFW_MAE_DFER, MAFW_WORDS
from ray_fer.datasets.readers.fold_lists import Layout, clip_number, combine, find_layout, read_lists, with_media
from ray_fer.datasets.readers.index_file import check_index_file
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading, Report

LAYOUTS = (
    Layout(
        "official",
        {split: (f"single/no_caption/set_{{fold}}/{split}.txt",) for split in ("train", "test")},
        MAFW_WORDS,
        columns=("video_name", "label"),
        release="official",
    ),
    Layout(
        "captions",
        {split: (f"single/with_caption/set_{{fold}}/{split}.txt",) for split in ("train", "test")},
        MAFW_WORDS,
        columns=("video_name", "label", "chinese", "english"),
        separator="\t",
        encodings=("utf-8", "gb18030"),
        release="official",
    ),
    Layout(
        "s2d",
        {split: (f"single/no_caption/set_{{fold}}/{split}.csv",) for split in ("train", "test")},
        MAFW_ALPHABETICAL,
        columns=("video_name", "label"),
        separator=",",
        release="official",
    ),
    Layout(
        "dfer-clip",
        {split: (f"MAFW_set_{{fold}}_{split}.txt",) for split in ("train", "test")},
        MAFW_DFER_CLIP,
        columns=("video_name", "frames", "label"),
    ),
    Layout(
        "mae-dfer",
        {split: (f"split0{{fold}}/{split}.csv",) for split in ("train", "test")},
        MAFW_MAE_DFER,
        columns=("video_name", "label"),
    ),
)

_LIST_FOLDERS = (
    "", "Train & Test Set", "anno", "data/MAFW/anno", "annotation", "single", "data/mafw/single",
    "saved/data/mafw/single",
)  # fmt: skip
_MEDIA_FOLDERS = (
    "data/clips", "clips", "data/frames/frames_crop_align_224", "frames_crop_align_224", "data/frames", "frames",
    "data/faces", "faces", "clips_faces",
)  # fmt: skip


def read_mafw(root: Path, options: ReadOptions) -> Reading:
    """Read MAFW; `fold` is the fold that tests the clip. Lists of words are preferred to lists of integers."""
    report = Report()
    base = options.lists or root
    layout, files = find_layout(LAYOUTS, [base / name for name in _LIST_FOLDERS], options.variant)
    folder = media_folder(root, options.media, _MEDIA_FOLDERS, report)
    if layout.name == "s2d":
        check_index_file(files[0][0].parents[1] / "id_to_calss.txt", MAFW_ALPHABETICAL, MAFW_WORDS, report)
    entries = read_lists("mafw", layout, files, clip_number, report)
    return Reading("mafw", layout.name, with_media("mafw", combine(entries, report), folder, report), report)
