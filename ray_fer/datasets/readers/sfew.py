"""SFEW 2: aligned faces of movie frames in folders by expression (Dhall et al. 2015); 891 train, 431 validation."""

from __future__ import annotations

from pathlib import Path

from ray_fer.datasets.label_maps import BASIC_WORDS
from ray_fer.datasets.readers.class_folders import read_class_folders
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import Reading, Report

_SPLIT_FOLDERS = {
    "train": ("Train_Aligned_Faces", "Train/Train_Aligned_Faces", "Train"),
    "val": ("Val_Aligned_Faces_new", "Val/Val_Aligned_Faces_new", "Val_Aligned_Faces", "Val"),
}


def read_sfew(root: Path, options: ReadOptions) -> Reading:
    """Read SFEW: `split` is train or val."""
    report = Report()
    return Reading("sfew", "folders", read_class_folders("sfew", root, _SPLIT_FOLDERS, BASIC_WORDS, report), report)
