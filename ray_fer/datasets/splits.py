"""Splits and folds: who is trained on and who is tested.

All are deterministic by seed and do not depend on the order of the rows. Folds count from 1; the fold of a clip is the
one that tests it. With `by_subject` no person is in two folds (or splits), which the papers' protocols do not ask for.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

Rows = list[dict[str, Any]]


class SplitError(ValueError):
    """A split that these clips do not allow; the message says which and why."""


def kfold(rows: Rows, folds: int, seed: int, by_subject: bool = False) -> Rows:
    """Rows with `fold` set, stratified on expression x culture (papers/cafer_gccfer.md, section II.C).

    Raises SplitError when a clip lacks a label (or a subject, with `by_subject`), or there are too few.
    """
    ordered = _ordered(rows)
    strata = [f"{row['label']} x {row['culture']}" for row in ordered]
    if by_subject:
        numbers = _group_folds(strata, [row["subject_id"] for row in ordered], folds, seed)
    else:
        _check_count(len(ordered), folds, "clips")
        numbers = _folds(StratifiedKFold(folds, shuffle=True, random_state=seed), strata, None)
    return _with(rows, ordered, "fold", [number + 1 for number in numbers])


def loso(rows: Rows) -> Rows:
    """Leave one subject out: one fold per subject, numbered in the order of their names.

    On a composite of datasets this is the composite database evaluation (CDE) of MEGC and papers/ethnicmer.md.
    """
    ordered = _ordered(rows, label_needed=False)
    subjects = sorted({_subject(row) for row in ordered})
    _check_count(len(subjects), 2, "subjects")
    number = {subject: position for position, subject in enumerate(subjects, start=1)}
    return _with(rows, ordered, "fold", [number[row["subject_id"]] for row in ordered])


def fixed(rows: Rows, shares: Mapping[str, float], seed: int, by_subject: bool = False) -> Rows:
    """Rows with `split` set to train, val or test in about these shares, stratified on expression x culture."""
    ordered = _ordered(rows)
    strata = [f"{row['label']} x {row['culture']}" for row in ordered]
    groups = [_subject(row) for row in ordered] if by_subject else None
    return _with(rows, ordered, "split", group_split(strata, groups, shares, seed))


def group_split(
    strata: Sequence[str], groups: Sequence[str | None] | None, shares: Mapping[str, float], seed: int
) -> list[str]:
    """Split name per item, in about these shares of each stratum; no group is in two splits.

    Made of equal folds, as many as bring the shares out (at most 20, and no more than there are groups). Raises
    SplitError when the shares do not add up to 1 or leave nothing for train, or there are too few groups.
    """
    wanted = {name: share for name, share in shares.items() if share > 0}
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0 or "train" not in wanted:
        raise SplitError(f"shares {dict(shares)} must be positive, add up to 1, and leave some for train")
    items = len(strata) if groups is None else len(set(groups))
    _check_count(items, max(2, len(wanted)), "clips" if groups is None else "subjects")
    folds = min(items, next((n for n in range(2, 20) if all(_whole(share * n) for share in wanted.values())), 20))
    if groups is None:
        numbers = _folds(StratifiedKFold(folds, shuffle=True, random_state=seed), strata, None)
    else:
        numbers = _group_folds(strata, groups, folds, seed)
    names: list[str] = []
    for name, share in wanted.items():
        if name != "train":
            names += [name] * max(1, round(share * folds))
    names += ["train"] * (folds - len(names))
    worst = max(abs(names.count(name) / folds - share) for name, share in wanted.items())
    if "train" not in names or (worst > 0.05 and items >= 20):
        raise SplitError(f"shares {dict(shares)} cannot be made of {folds} equal parts; ask for multiples of 0.05")
    return [names[number] for number in numbers]


def _whole(number: float) -> bool:
    return number >= 0.5 and abs(number - round(number)) < 0.02


def _group_folds(strata: Sequence[str], groups: Sequence[str | None], folds: int, seed: int) -> list[int]:
    if any(group is None for group in groups):
        raise SplitError("some clips have no subject_id; a split by subject needs one for every clip")
    _check_count(len(set(groups)), folds, "subjects")
    return _folds(StratifiedGroupKFold(folds, shuffle=True, random_state=seed), strata, groups)


def _folds(splitter: Any, strata: Sequence[str], groups: Sequence[Any] | None) -> list[int]:
    """Fold (from 0) of each item. Strata that are all smaller than the folds are joined: to expressions, to one."""
    folds = splitter.get_n_splits()
    levels = (list(strata), [stratum.split(" x ")[0] for stratum in strata], [""] * len(strata))
    level = next(level for level in levels if max(Counter(level).values()) >= folds)
    numbers = np.zeros(len(strata), np.int64)
    with warnings.catch_warnings():
        # A single stratum with fewer clips than folds is spread as far as it goes.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, test) in enumerate(splitter.split(np.zeros(len(strata)), level, groups)):
            numbers[test] = number
    return [int(number) for number in numbers]


def _check_count(count: int, needed: int, what: str) -> None:
    if needed < 2:
        raise SplitError(f"cannot split into {needed} folds; ask for 2 or more")
    if count < needed:
        raise SplitError(f"{count} {what} are too few for {needed} folds")


def _ordered(rows: Rows, label_needed: bool = True) -> Rows:
    unlabelled = sum(row["label"] is None for row in rows) if label_needed else 0
    if unlabelled:
        raise SplitError(f"{unlabelled} clips have no label; a stratified split needs one for every clip")
    return sorted(rows, key=lambda row: row["clip_id"])


def _subject(row: dict[str, Any]) -> str:
    if row["subject_id"] is None:
        raise SplitError(f"clip {row['clip_id']} has no subject_id; a split by subject needs one for every clip")
    return str(row["subject_id"])


def _with(rows: Rows, ordered: Rows, column: str, values: Sequence[Any]) -> Rows:
    by_clip = {row["clip_id"]: value for row, value in zip(ordered, values, strict=True)}
    return [row | {column: by_clip[row["clip_id"]]} for row in rows]
