"""What a manifest holds: clips by label, culture, split and fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_fer.labels import COMPOUND_EXPRESSIONS, MICRO_EXPRESSIONS


@dataclass(frozen=True)
class CrossTable:
    """Counts of labels (rows) against values of one other column."""

    column: str
    values: list[str]
    counts: dict[str, list[int]]


def cross_table(rows: Iterable[Mapping[str, Any]], column: str) -> CrossTable | None:
    """Clips by label and by `column` (culture, split, fold, media); None when the column is empty throughout."""
    pairs = Counter((row["label"] or "(none)", _text(row[column])) for row in rows)
    values = sorted({value for _, value in pairs}, key=_by_number)
    if not pairs or values == ["(none)"]:
        return None
    labels = sorted({label for label, _ in pairs}, key=_label_order)
    return CrossTable(column, values, {label: [pairs[label, value] for value in values] for label in labels})


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain counts for `--json`: clips, subjects, and clips by label, culture, split, fold, media and dataset."""
    subjects = {row["subject_id"] for row in rows if row["subject_id"] is not None}
    counts: dict[str, Any] = {"clips": len(rows), "subjects": len(subjects)}
    for column in ("dataset", "label", "culture", "split", "fold", "media"):
        counts[column] = dict(sorted(Counter(_text(row[column]) for row in rows).items()))
    return counts


def _text(value: Any) -> str:
    return "(none)" if value is None else str(value)


def _by_number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (-1, text)


def _label_order(label: str) -> tuple[int, str]:
    known = (*COMPOUND_EXPRESSIONS, *MICRO_EXPRESSIONS)
    return (known.index(label) if label in known else len(known), label)
