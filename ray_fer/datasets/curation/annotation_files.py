"""The CSV files of a curation: annotators' answers, estimates and overrides.

All have a header with a column `clip_id` (the manifest's). A file that cannot be used as a whole raises DatasetError; a
row that cannot be used is passed over and reported with file and line. Of two rows that say the same of one clip the
first counts; of two that contradict each other, none does.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ray_fer.datasets.curation.ethnicity import ClipEstimate, Override
from ray_fer.datasets.ethnic_groups import GroupScheme
from ray_fer.datasets.reading import DatasetError, Report
from ray_fer.datasets.tables import Row, read_csv

CLIP = "clip_id"
RATER_COLUMN = re.compile(r"(annotator|rater|coder)[ _]?\w")
"""Columns annotator_1, rater_b, coder2 ... hold one annotator's answers; other columns are ignored."""

Resolve = Callable[[str], str | None]


@dataclass(frozen=True)
class Answers:
    """`by_clip[clip_id][annotator]` is a name, or None where the cell is empty or names nothing known."""

    raters: tuple[str, ...]
    by_clip: Mapping[str, Mapping[str, str | None]]


def read_answers(
    path: Path,
    report: Report,
    resolve: Resolve,
    accepted: str,
    clips: Container[str],
    raters: int | None = None,
    unknown: str | None = None,
) -> Answers:
    """Annotators' answers: `clip_id` and one column per annotator (`RATER_COLUMN`); an empty cell is no answer.

    `resolve` turns a cell into a name or None, `accepted` lists the names for messages, `clips` are the manifest's.
    A cell that names nothing known is reported and becomes `unknown`.
    Raises DatasetError when there are not exactly `raters` annotators (None: two or more).
    """
    rows = read_csv(path, report, [CLIP])
    header = list(rows[0].cells) if rows else []
    names = tuple(name for name in header if RATER_COLUMN.fullmatch(name))
    if len(names) < 2 or (raters is not None and len(names) != raters):
        wanted = "two or more" if raters is None else str(raters)
        raise DatasetError(
            f"{path}: needs {wanted} columns annotator_1, annotator_2, ... and rows; it has {', '.join(header)}"
        )
    answers: dict[str, dict[str, str | None]] = {}
    for row in _usable(rows, clips, report):
        answers[row[CLIP]] = {}
        for name in names:
            answer = resolve(row[name]) if row[name] else None
            if row[name] and answer is None:
                report.problem(path, row.line, f"{name}: {row[name]!r} is not one of {accepted}")
                answer = unknown
            answers[row[CLIP]][name] = answer
    return Answers(names, answers)


def read_estimates(path: Path, report: Report, scheme: GroupScheme, clips: Container[str]) -> dict[str, ClipEstimate]:
    """Estimates: columns clip_id, culture, confidence (0 to 1) and, optional, category.

    An empty culture stands for a face whose category is no group of the study; it does not vote.
    """
    estimates: dict[str, ClipEstimate] = {}
    for row in _usable(read_csv(path, report, [CLIP, "culture", "confidence"]), clips, report):
        culture, confidence = scheme.resolve(row["culture"]), _confidence(row["confidence"])
        if row["culture"] and culture is None:
            report.problem(path, row.line, f"culture {row['culture']!r} is not one of {scheme.accepted()}")
        elif confidence is None:
            report.problem(
                path, row.line, f"confidence {row['confidence']!r} is not between 0 and 1 (divide percent by 100)"
            )
        else:
            estimates[row[CLIP]] = ClipEstimate(culture, confidence, row.get("category"))
    return estimates


def write_estimates(path: Path, estimates: Mapping[str, ClipEstimate]) -> Path:
    """Write what `read_estimates` reads, so that an estimator need not run twice."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow([CLIP, "culture", "confidence", "category"])
        for clip_id, estimate in estimates.items():
            # repr keeps every digit: rounded, 0.7499999 would vote on the second run and not on the first.
            writer.writerow([clip_id, estimate.culture or "", repr(float(estimate.confidence)), estimate.category])
    return path


def read_overrides(path: Path, report: Report, scheme: GroupScheme, clips: Container[str]) -> dict[str, Override]:
    """Corrections by hand: columns clip_id, culture and, optional, note."""
    overrides: dict[str, Override] = {}
    for row in _usable(read_csv(path, report, [CLIP, "culture"]), clips, report):
        culture = scheme.resolve(row["culture"])
        if culture is None:
            report.problem(path, row.line, f"culture {row['culture']!r} is not one of {scheme.accepted()}")
        else:
            overrides[row[CLIP]] = Override(culture, row.get("note"))
    return overrides


def _usable(rows: list[Row], clips: Container[str], report: Report) -> Iterator[Row]:
    """Rows that name a clip of the manifest, and are the only ones or the first of equal ones to do so."""
    first: dict[str, Row] = {}
    torn: set[str] = set()
    for row in rows:
        clip_id = row[CLIP]
        if clip_id not in clips:
            report.problem(row.file, row.line, f"clip {clip_id!r} is not in the manifest")
            continue
        before = first.setdefault(clip_id, row)
        if before.cells != row.cells:
            torn.add(clip_id)
            report.problem(row.file, row.line, f"clip {clip_id!r} differs from line {before.line}; neither counts")
        elif before is not row:
            report.problem(row.file, row.line, f"clip {clip_id!r} stands in line {before.line} already, which counts")
    yield from (row for clip_id, row in first.items() if clip_id not in torn)


def _confidence(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1 else None
