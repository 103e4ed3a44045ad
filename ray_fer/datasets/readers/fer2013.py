"""FER2013: 35,887 grey faces of 48 x 48 pixels inside a CSV (Goodfellow et al. 2013), with FER2013's or FER+'s labels.

Read from ``fer2013.csv`` or ``icml_face_data.csv`` (with the column Usage, some copies with stray spaces in the
header), Kaggle's ``train.csv`` (without Usage), or folders by class. Pixels of a CSV are written as PNG files, which
the manifest then names. FER+ (Barsoum et al. 2016) gives ten votes per row of the same CSV.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ray_fer.datasets.label_maps import BASIC_WORDS, FER2013, is_integer
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.readers.class_folders import read_class_folders
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import DatasetError, Reading, Report
from ray_fer.datasets.tables import Row, read_csv

SIDE = 48
USAGES = {"training": "train", "publictest": "val", "privatetest": "test"}
FERPLUS_COLUMNS = {
    "neutral": "Neutral", "happiness": "Happy", "surprise": "Surprise", "sadness": "Sad", "anger": "Angry",
    "disgust": "Disgust", "fear": "Fear", "contempt": "Contempt", "unknown": None, "nf": None,
}  # fmt: skip
"""FER+'s vote columns; `unknown` and `NF` (not a face) are no expressions."""

_TABLES = ("fer2013.csv", "icml_face_data.csv", "fer2013/fer2013.csv", "train.csv")
_FERPLUS_TABLES = ("fer2013new.csv", "FERPlus/fer2013new.csv", "ferplus/fer2013new.csv")
_FOLDERS = {
    "train": ("train", "Training"),
    "val": ("val", "validation", "valid", "PublicTest"),
    "test": ("test", "PrivateTest"),
}

Labeller = Callable[[int, Row], tuple[str | None, str | None]]
"""(row position, row) -> (label, annotations); a label of None leaves the row out (already reported or counted)."""


def read_fer2013(root: Path, options: ReadOptions) -> Reading:
    """Read FER2013. Variants: `csv`, `ferplus` (same CSV, FER+'s majority label) and `folders`."""
    report = Report()
    if options.variant not in (None, "csv", "ferplus", "folders"):
        raise DatasetError(f"unknown variant {options.variant!r}; expected one of csv, ferplus, folders")
    table = root if root.is_file() else next((root / name for name in _TABLES if (root / name).is_file()), None)
    if options.variant == "folders" or (options.variant is None and table is None):
        return Reading("fer2013", "folders", read_class_folders("fer2013", root, _FOLDERS, BASIC_WORDS, report), report)
    if table is None:
        raise DatasetError(f"{root}: none of {', '.join(_TABLES)} is there")
    if options.images is None:
        raise DatasetError(f"{table}: the images lie inside the table; say where to write them with --images FOLDER")
    rows = read_csv(table, report, ["emotion", "pixels"])
    if options.variant == "ferplus":
        labeller = _ferplus_labeller(_ferplus_table(root, options), rows, report)
    else:
        FER2013.check((row["emotion"] for row in rows), table)
        labeller = _fer2013_labeller(report)
    clips = [clip for at, row in enumerate(rows) if (clip := _clip(at, row, labeller, options.images, report))]
    return Reading("fer2013", options.variant or "csv", clips, report)


def _clip(at: int, row: Row, labeller: Labeller, images: Path, report: Report) -> Clip | None:
    usage = row.cells.get("usage")  # Kaggle's train.csv has no such column
    split = "train" if usage is None else USAGES.get(usage.replace(" ", "").casefold())
    if split is None:
        report.problem(row.file, row.line, f"Usage {usage!r} is not one of Training, PublicTest, PrivateTest")
        return None
    pixels = _pixels(row["pixels"])
    if pixels is None:
        report.problem(row.file, row.line, f"pixels are not {SIDE * SIDE} integers from 0 to 255")
        return None
    label, annotations = labeller(at, row)
    if label is None:
        return None
    name = f"fer{row.line - 2:07d}"
    path = images / split / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise DatasetError(f"{path}: cannot be written; is the disk full?")
    return Clip(
        f"fer2013/{name}", "fer2013", str(path.resolve()), media="image", label=label, split=split,
        annotations=annotations,
    )  # fmt: skip


def _pixels(text: str) -> np.ndarray | None:
    words = text.split()
    if len(words) != SIDE * SIDE or not all(word.isascii() and word.isdigit() and len(word) <= 3 for word in words):
        return None
    values = np.array(words, np.int64)
    return values.astype(np.uint8).reshape(SIDE, SIDE) if values.max() <= 255 else None


def _fer2013_labeller(report: Report) -> Labeller:
    def label(at: int, row: Row) -> tuple[str | None, str | None]:
        found = FER2013.resolve(row["emotion"])
        if found is None:
            report.problem(row.file, row.line, f"label {row['emotion']!r} is not {FER2013.accepted()}")
        return found, None

    return label


def _ferplus_table(root: Path, options: ReadOptions) -> Path:
    base = options.lists or (root.parent if root.is_file() else root)
    found = next((base / name for name in _FERPLUS_TABLES if (base / name).is_file()), None)
    if found is None:
        raise DatasetError(f"{base}: no fer2013new.csv; download FER+'s labels, and pass --lists FOLDER")
    return found


def _ferplus_labeller(table: Path, rows: list[Row], report: Report) -> Labeller:
    """Majority label: more than half of the votes. The two tables must name the same rows in the same order."""
    votes = read_csv(table, report, ["Usage", "Image name", *FERPLUS_COLUMNS])
    if len(votes) != len(rows) or report.problems:
        raise DatasetError(
            f"{table}: {len(votes)} votes for {len(rows)} images, {len(report.problems)} bad rows; the rows of both "
            "tables must correspond, so both must be whole"
        )

    def label(at: int, row: Row) -> tuple[str | None, str | None]:
        vote = votes[at]
        if row.get("usage") and vote["usage"].casefold() != row.get("usage").casefold():
            raise DatasetError(
                f"{table}:{vote.line}: Usage {vote['usage']} for row {row.line} of {row.file}, which says "
                f"{row.get('usage')}; the tables do not correspond"
            )
        named = vote["image name"]
        if named and named != f"fer{at:07d}.png":
            raise DatasetError(f"{table}:{vote.line}: {named} where fer{at:07d}.png is expected; the order was changed")
        counts = {column: vote[column] for column in FERPLUS_COLUMNS}
        if not all(is_integer(count) and int(count) >= 0 for count in counts.values()):
            report.problem(table, vote.line, "votes are not integers")
            return None, None
        numbers = {column: int(count) for column, count in counts.items()}
        winner = max(numbers, key=lambda column: numbers[column])
        if 2 * numbers[winner] <= sum(numbers.values()):
            report.left_out["FER+: no label has more than half of the votes"] += 1
            return None, None
        if FERPLUS_COLUMNS[winner] is None:
            report.left_out[f"FER+: {'not a face' if winner == 'nf' else 'unknown expression'}"] += 1
        return FERPLUS_COLUMNS[winner], json.dumps({"votes": numbers})

    return label
