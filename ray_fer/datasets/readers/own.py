"""A user's own data: folders by expression, or a CSV."""

from __future__ import annotations

from pathlib import Path

from ray_fer.datasets.clip_media import media_of
from ray_fer.datasets.ethnic_groups import GCC_FER
from ray_fer.datasets.label_maps import MAFW_WORDS, NamedLabels
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.readers.class_folders import read_class_folders, read_split
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import ClipRows, DatasetError, Reading, Report
from ray_fer.datasets.tables import Row, read_csv
from ray_fer.labels import UNKNOWN_CULTURE

SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
SPLITS = tuple(SPLIT_FOLDERS)
_NUMBERS = ("fold", "start_frame", "end_frame", "onset", "apex", "offset")
COLUMNS = ("path", "label", "clip_id", "culture", "subject_id", "split", *_NUMBERS)
"""Columns of a user's CSV; the first two are required, and frames count from 0."""


def read_folder(root: Path, options: ReadOptions) -> Reading:
    """``[train|val|test/]expression/clip``, where a clip is a video, an image or a folder of frames."""
    report = Report()
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    labels = _labels(options, report)
    if any((root / name).is_dir() for names in SPLIT_FOLDERS.values() for name in names):
        clips = read_class_folders("folder", root, SPLIT_FOLDERS, labels, report)
        return Reading("folder", "splits", clips, report)
    return Reading("folder", "flat", read_split("folder", None, root, labels, report), report)


def read_own_csv(root: Path, options: ReadOptions) -> Reading:
    """A CSV of `COLUMNS`; paths are relative to the CSV's folder."""
    report = Report()
    labels = _labels(options, report)
    clips = ClipRows(report)
    if not root.is_file():
        raise DatasetError(f"{root}: not a CSV file; `ray-fer import folder` reads folders")
    rows = read_csv(root, report, ["path", "label"])
    ignored = [name for name in (rows[0].cells if rows else {}) if name not in COLUMNS]
    if ignored:
        report.note(f"columns {', '.join(ignored)} are not read; known are {', '.join(COLUMNS)}")
    for row in rows:
        clip = _clip(row, labels, report)
        if clip is not None:
            clips.add(clip, root, row.line)
    return Reading("csv", root.name, clips.clips(), report)


def _clip(row: Row, labels: NamedLabels, report: Report) -> Clip | None:
    label, path = labels.resolve(row["label"]), row.file.parent / row["path"]
    media = media_of(path) if row["path"] else None
    numbers: dict[str, int | None] = {}
    if label is None:
        text = f"label {row['label']!r} is not {labels.accepted()}; say what your labels mean with --label-map FILE"
        report.problem(row.file, row.line, text)
        return None
    if media is None:
        report.problem(row.file, row.line, f"no video, image or folder of frames at {path}")
        return None
    if row.get("split") not in ("", *SPLITS):
        report.problem(row.file, row.line, f"split {row.get('split')!r} is not one of {', '.join(SPLITS)}")
        return None
    for name in _NUMBERS:
        text = row.get(name)
        if text and not (text.isascii() and text.isdigit() and len(text) < 10):
            report.problem(row.file, row.line, f"{name} {text!r} is no number of a frame or fold")
            return None
        numbers[name] = int(text) if text else None
    start, end = numbers["start_frame"], numbers["end_frame"]
    if end is not None and end <= (start or 0):
        report.problem(row.file, row.line, f"frames {start or 0} to {end} hold nothing; end_frame is exclusive")
        return None
    part = "" if start is None and end is None else f"#{start or 0}-{'' if end is None else end}"
    return Clip(
        clip_id=row.get("clip_id") or row["path"] + part,
        dataset="csv",
        path=str(path.resolve()),
        media=media,
        label=label,
        culture=GCC_FER.resolve(row.get("culture")) or row.get("culture") or UNKNOWN_CULTURE,
        subject_id=row.get("subject_id") or None,
        split=row.get("split") or None,
        fold=numbers["fold"],
        start_frame=numbers["start_frame"],
        end_frame=numbers["end_frame"],
        onset=numbers["onset"],
        apex=numbers["apex"],
        offset=numbers["offset"],
    )


def _labels(options: ReadOptions, report: Report) -> NamedLabels:
    """The names of expressions, or the user's own words after a CSV of `label,expression`."""
    if options.label_map is None:
        return MAFW_WORDS
    words: dict[str, str] = {}
    for row in read_csv(options.label_map, report, ["label", "expression"]):
        if not row["label"] or not row["expression"] or row["expression"].isdigit():
            raise DatasetError(f"{options.label_map}:{row.line}: needs a label and the name of its expression")
        expression = MAFW_WORDS.resolve(row["expression"]) or row["expression"]
        if words.setdefault(row["label"].casefold(), expression) != expression:
            raise DatasetError(f"{options.label_map}:{row.line}: label {row['label']!r} has two meanings")
    return NamedLabels(str(options.label_map), words)
