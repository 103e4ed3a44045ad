"""EiLA, "Emotions in LatAm": annotated frames of nine videos, by up to three annotators (papers/eila_multidataset.md,
3.1).

Boxes are percent of the frame; the manifest has pixels. One row is one person in one frame. Every split that follows
the number of annotators puts the same people into training and test: `split_rule` "group" keeps each person in one
split.
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from ray_fer.datasets.label_maps import BASIC_WORDS, is_integer
from ray_fer.datasets.manifest import Clip
from ray_fer.datasets.readers.options import ReadOptions
from ray_fer.datasets.reading import ClipRows, DatasetError, Reading, Report
from ray_fer.datasets.splits import group_split
from ray_fer.datasets.tables import Row, read_csv
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.video.decode import count_frames, video_size
from ray_fer.video.limits import MediaError

SPLIT_RULES: dict[str, dict[int, str]] = {
    "released": {1: "train", 2: "val", 3: "test"},
    "section-3.1": {3: "train", 2: "val", 1: "test"},
    "group": {},
}
"""Split by number of annotations. The paper contradicts itself: its Tables 3 and 4 (4,852 / 1,362 / 815) have the sizes
that the authors' code gives, and section 3.1 writes the same rule the other way round. The tables' is the default."""

RACES = {"W": "White", "B": "Black", "M": "Mixed"}
NO_ANNOTATION = "No annotation"
_COLUMNS = ("Video Tag", "Clip Id", "Labels", "Frame Number", "X", "Y", "Width", "Height", "Person Id")
_GROUP_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def read_eila(root: Path, options: ReadOptions) -> Reading:
    """Read EiLA. `culture` is the perceived race (White, Black, Mixed); `subject_id` the person over all videos."""
    rule = options.split_rule or "released"
    if rule not in SPLIT_RULES:
        raise DatasetError(f"unknown split rule {rule!r}; expected one of {', '.join(SPLIT_RULES)}")
    report = Report()
    places = [options.lists] if options.lists else [root, root / "EiLA"]
    base = next((place for place in places if (place / "Annotations").is_dir()), places[0])
    rows = read_csv(base / "Annotations" / "annotations.csv", report, _COLUMNS)
    people = _people(base / "Extra" / "demographics.csv", report)
    videos = _Videos(options.media or base / "Videos")
    table = ClipRows(report)
    for row in rows:
        clip = _clip(row, people, videos, rule, report)
        if clip is not None:
            table.add(clip, row.file, row.line)
    found = table.clips()
    if rule == "group" and found:
        splits = group_split([c.label or "" for c in found], [c.subject_id or "" for c in found], _GROUP_SHARES, seed=0)
        found = [replace(clip, split=split) for clip, split in zip(found, splits, strict=True)]
    _note_leak(found, report)
    unlisted = len({clip.subject_id for clip in found if (clip.subject_id or "").count("/") > 1})
    if people and unlisted:
        report.note(
            f"{unlisted} people are not in the demographics: culture Unknown, and told apart within a clip only"
        )
    return Reading("eila", rule, found, report)


def _clip(
    row: Row, people: dict[tuple[str, ...], tuple[str, str]], videos: _Videos, rule: str, report: Report
) -> Clip | None:
    annotations = _annotations(row["labels"])
    if annotations is None:
        report.problem(row.file, row.line, f"labels {row['labels']!r} are not three lists or '{NO_ANNOTATION}'")
        return None
    if not annotations:
        report.left_out["no annotator gave a label"] += 1
        return None
    label = BASIC_WORDS.resolve(truth(annotations))
    if label is None:
        report.problem(row.file, row.line, f"label {truth(annotations)!r} is not {BASIC_WORDS.accepted()}")
        return None
    if not is_integer(row["frame number"]) or int(row["frame number"]) < 0:
        report.problem(row.file, row.line, f"frame number {row['frame number']!r} is no integer")
        return None
    frame = int(row["frame number"])
    key = (row["video tag"], row["clip id"], row["person id"])
    try:
        path, width, height, frames = videos.of(row["video tag"])
    except MediaError as error:
        report.problem(row.file, row.line, str(error))
        return None
    if frame >= frames:
        report.problem(row.file, row.line, f"frame {frame} of {path}, which has {frames} frames")
        return None
    box = pixel_box([row[name] for name in ("x", "y", "width", "height")], width, height)
    if box is None:
        report.problem(row.file, row.line, "the box is not four percentages with an area inside the frame")
        return None
    person, race = people.get(key, ("/".join(key), UNKNOWN_CULTURE))
    return Clip(
        clip_id="/".join(("eila", *key, str(frame))),
        dataset="eila",
        path=str(path.resolve()),
        media="video",
        label=label,
        culture=race,
        subject_id=f"eila/{person}",
        split=SPLIT_RULES[rule].get(len(annotations)),
        start_frame=frame,
        end_frame=frame + 1,
        bbox=box,
        annotations=json.dumps({"annotators": ast.literal_eval(row["labels"])}),
    )


def _annotations(text: str) -> list[str] | None:
    """Labels that annotators gave, in their order; None when the cell is not in EiLA's form."""
    if len(text) > 500:
        return None
    try:
        cell = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(cell, list) or not 1 <= len(cell) <= 3:
        return None
    given = []
    for entry in cell:
        if entry == NO_ANNOTATION:
            continue
        if not isinstance(entry, list) or not entry or not all(isinstance(word, str) for word in entry):
            return None
        given.append(entry[0])
    return given


def truth(annotations: list[str]) -> str:
    """Majority label, else the first annotator's."""
    word, count = Counter(annotations).most_common(1)[0]
    return word if 2 * count > len(annotations) else annotations[0]


def pixel_box(percents: list[str], width: int, height: int) -> list[float] | None:
    """[left, top, width, height] in pixels, clipped to the frame; None when nothing is left of it."""
    try:
        x, y, w, h = (float(value) for value in percents)
    except ValueError:
        return None
    if not all(map(math.isfinite, (x, y, w, h))):
        return None
    left, top = max(0.0, x) * width / 100, max(0.0, y) * height / 100
    right, bottom = min(100.0, x + w) * width / 100, min(100.0, y + h) * height / 100
    if right - left < 1 or bottom - top < 1:
        return None
    return [left, top, right - left, bottom - top]


class _Videos:
    """Path, width, height and number of frames of each video, opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[Path, int, int, int] | MediaError] = {}

    def of(self, tag: str) -> tuple[Path, int, int, int]:
        if tag not in self._known:
            try:
                path = self._find(tag)
                self._known[tag] = (path, *video_size(path), count_frames(path))
            except MediaError as error:
                self._known[tag] = error
        known = self._known[tag]
        if isinstance(known, MediaError):
            raise known
        return known

    def _find(self, tag: str) -> Path:
        if tag in ("", ".", "..") or Path(tag).name != tag:
            raise MediaError(tag, "no name of a video")
        candidates = [self._folder / tag / "Complete.mp4", self._folder / f"{tag}.mp4"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise MediaError(str(candidates[0]), f"the video is missing, and so is {candidates[1].name} beside it")
        return found


def _people(file: Path, report: Report) -> dict[tuple[str, ...], tuple[str, str]]:
    """(video, clip, person) -> (person over all videos, race)."""
    if not file.is_file():
        report.note(f"{file} is missing: culture stays Unknown, and people are told apart within a clip only")
        return {}
    people: dict[tuple[str, ...], tuple[str, str]] = {}
    races: dict[str, str] = {}
    torn: set[str] = set()
    columns = ("Video Tag", "Clip Id", "Person Id", "Person Global Id", "Perceived Race")
    for row in read_csv(file, report, columns):
        race = RACES.get(row["perceived race"].upper())
        if race is None:
            report.problem(row.file, row.line, f"race {row['perceived race']!r} is not one of {', '.join(RACES)}")
            continue
        key = (row["video tag"], row["clip id"], row["person id"])
        person = (row["person global id"], race)
        same = races.setdefault(row["person global id"], race) == race
        if not same or people.setdefault(key, person) != person:
            report.problem(
                row.file, row.line, f"person {person[0]} ({race}) contradicts an earlier row; neither is used"
            )
            torn.add(row["person global id"])
            torn.add(people.get(key, person)[0])
    return {key: person for key, person in people.items() if person[0] not in torn}


def _note_leak(clips: list[Clip], report: Report) -> None:
    splits: dict[str | None, set[str | None]] = defaultdict(set)
    for clip in clips:
        splits[clip.subject_id].add(clip.split)
    torn = sum(len(found) > 1 for found in splits.values())
    if torn:
        report.note(
            f"leak: {torn} of {len(splits)} people are in more than one split, so a model is tested on people it was "
            "trained on; --split-rule group keeps each person in one split"
        )
