"""Folds and splits: stratified, deterministic, disjoint where they say so."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.datasets.splits import SplitError, fixed, group_split, kfold, loso
from ray_fer.labels import CULTURES, EXPRESSIONS

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def rows(count: int, subjects: int = 20) -> list[dict[str, Any]]:
    rng = random.Random(count)
    return [
        {
            "clip_id": f"c{number:05d}",
            "label": rng.choice(EXPRESSIONS),
            "culture": rng.choice(CULTURES),
            "subject_id": f"s{number % subjects:02d}",
            "split": None,
            "fold": None,
        }
        for number in range(count)
    ]


def test_folds_hold_each_expression_x_culture_alike() -> None:
    clips = kfold(rows(2800), folds=5, seed=42)
    cells: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for row in clips:
        cells[row["label"], row["culture"]][row["fold"]] += 1
    assert len(cells) == 28
    # Clips that 5 does not divide leave at most one clip of difference.
    assert all(max(found.values()) - min(found[fold] for fold in range(1, 6)) <= 1 for found in cells.values())


def test_the_same_seed_gives_the_same_folds_in_any_order_of_rows() -> None:
    clips = rows(200)
    shuffled = random.Random(1).sample(clips, len(clips))
    folds = {row["clip_id"]: row["fold"] for row in kfold(clips, 5, seed=7)}
    assert folds == {row["clip_id"]: row["fold"] for row in kfold(shuffled, 5, seed=7)}
    assert folds != {row["clip_id"]: row["fold"] for row in kfold(clips, 5, seed=8)}
    assert [row["clip_id"] for row in kfold(shuffled, 5, seed=7)] == [row["clip_id"] for row in shuffled]
    splits = {row["clip_id"]: row["split"] for row in fixed(clips, SHARES, seed=7)}
    assert splits == {row["clip_id"]: row["split"] for row in fixed(shuffled, SHARES, seed=7)}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(40, 120), subjects=st.integers(12, 30), seed=st.integers(0, 9))
def test_by_subject_nobody_is_in_two_places(count: int, subjects: int, seed: int) -> None:
    clips = rows(count, subjects)
    for found, column, places in (
        (kfold(clips, 4, seed, by_subject=True), "fold", 4),
        (fixed(clips, SHARES, seed, by_subject=True), "split", 3),
        (loso(clips), "fold", subjects),
    ):
        seen = defaultdict(set)
        for row in found:
            seen[row["subject_id"]].add(row[column])
        assert all(len(where) == 1 for where in seen.values())
        assert len({place for where in seen.values() for place in where}) == places


def test_loso_has_one_fold_per_subject_of_a_composite() -> None:
    clips = [
        {"clip_id": f"{dataset}/{n}", "label": None, "culture": "x", "subject_id": f"{dataset}/{n % 3}", "fold": None}
        for dataset in ("casme2", "samm") for n in range(9)
    ]  # fmt: skip
    found = loso(clips)
    assert sorted({(row["subject_id"], row["fold"]) for row in found}) == [
        ("casme2/0", 1), ("casme2/1", 2), ("casme2/2", 3), ("samm/0", 4), ("samm/1", 5), ("samm/2", 6),
    ]  # fmt: skip


def test_shares_are_kept_per_class() -> None:
    clips = fixed(rows(2800), SHARES, seed=1)
    counts = Counter(row["split"] for row in clips)
    assert {split: round(count / 2800, 2) for split, count in counts.items()} == pytest.approx(SHARES, abs=0.02)
    for label in EXPRESSIONS:
        found = Counter(row["split"] for row in clips if row["label"] == label)
        assert found["test"] / sum(found.values()) == pytest.approx(0.2, abs=0.03)


def test_splits_that_cannot_be_made() -> None:
    with pytest.raises(SplitError, match="3 clips are too few for 5 folds"):
        kfold(rows(3), 5, 0)
    with pytest.raises(SplitError, match="4 subjects are too few for 5 folds"):
        kfold(rows(40, subjects=4), 5, 0, by_subject=True)
    with pytest.raises(SplitError, match="1 subjects are too few for 2 folds"):
        loso(rows(4, subjects=1))
    unlabelled = [row | {"label": None} for row in rows(10)]
    with pytest.raises(SplitError, match="10 clips have no label"):
        kfold(unlabelled, 2, 0)
    with pytest.raises(SplitError, match="clip c00000 has no subject_id"):
        loso([row | {"subject_id": None} for row in rows(4)])
    with pytest.raises(SplitError, match="must be positive, add up to 1"):
        group_split(["a"], ["b"], {"train": 0.5, "test": 0.6}, 0)


def test_shares_that_leave_no_whole_parts() -> None:
    with pytest.raises(SplitError, match=r"ask for multiples of 0\.05"):
        fixed(rows(200), {"train": 0.02, "val": 0.49, "test": 0.49}, 0)


def test_strata_smaller_than_the_folds_are_joined() -> None:
    found = kfold([row | {"label": f"l{n}"} for n, row in enumerate(rows(10))], 5, 0)
    assert Counter(row["fold"] for row in found) == dict.fromkeys(range(1, 6), 2)
