"""Which clips train, which validate and which test."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from ray_fer.datasets import splits
from ray_fer.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS, UNKNOWN_CULTURE
from ray_fer.preprocessing.store_index import ClipIndex


def classes_of(clips: ClipIndex) -> list[str]:
    """The smallest of the field's class lists that holds all labels; else the labels themselves, sorted."""
    labels = {str(name) for name in clips.column("label")}
    for known in (EXPRESSIONS, COMPOUND_EXPRESSIONS):
        if labels <= set(known):
            return list(known)
    return sorted(labels)


def cultures_of(clips: ClipIndex) -> list[str]:
    """Culture groups that are known of some clip, sorted."""
    return sorted({name for name in clips.column("culture") if name not in (None, UNKNOWN_CULTURE)})


def held_out(clips: ClipIndex, share: float = 0.1, seed: int = 42) -> tuple[ClipIndex, ClipIndex]:
    """(training, validation) clips: about `share` of the clips are held out, stratified by label.

    Where subjects are known, none is in both parts. With a share of 0 all clips are in both: nothing is held out.
    Raises ValueError when there are too few clips or subjects.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"a share of {share:g} cannot be held out; give 0.5 at most")
    if not share:
        return clips, clips
    folds = round(1 / share)
    labels = np.array(clips.column("label"), str)
    subjects = clips.column("subject_id")
    known = all(name is not None for name in subjects)
    groups = np.array(subjects if known else np.arange(len(clips)), str)
    if len(set(groups.tolist())) < 2:
        raise ValueError(
            f"{clips.store}: {len(clips)} clips of {len(set(groups.tolist()))} subject leave none for validation; give "
            "clips of more subjects, or mark some with split 'val'"
        )
    folds = min(folds, len(set(groups.tolist())))
    if max(Counter(labels.tolist()).values()) < folds:
        labels = np.full(len(labels), "")  # too few clips of every class: there is nothing to stratify by
    kind = StratifiedGroupKFold if known else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    train, val = next(iter(splitter.split(labels, labels, groups)))
    return clips.where(np.sort(train)), clips.where(np.sort(val))


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: int64 places in the index of the clips that it trains on and tests.

    `name` is fit for a folder: "fold-1", the subject that is left out, or "fixed".
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    number: int = 1
    """By which it is chosen: the dataset's own where it has folds, else counted from 1."""
    val: np.ndarray | None = None
    """Clips that the dataset itself sets apart for validation."""


def folds(clips: ClipIndex, protocol: str | int, seed: int = 42, by_subject: bool = False) -> list[Fold]:
    """The folds of a protocol, in their order.

    "fixed" is one that trains on split "train" and tests "test". In all others every clip is tested once, and its split
    does not matter: "folds" takes the fold column (the fold of a clip is the one that tests it), "loso" leaves out one
    subject of one dataset at a time, a number makes that many folds, stratified by expression x culture, with `seed`;
    `by_subject` keeps these folds' subjects apart. Raises ValueError with advice when the clips do not allow it.
    """
    if protocol == "fixed":
        return [_fixed_split(clips)]
    rows = clips.table.select(["clip_id", "dataset", "label", "culture", "subject_id", "fold"]).to_pylist()
    _check_labels(clips, rows)
    if protocol == "folds":
        numbers = _given_folds(clips, rows)
        names = {number: f"fold-{number}" for number in numbers}
    elif protocol == "loso":
        numbers, names = _subject_folds(clips, rows)
    elif isinstance(protocol, int):
        if by_subject:
            rows = _with_owners(clips, rows)
        try:
            numbers = [row["fold"] for row in splits.kfold(rows, protocol, seed, by_subject)]
        except splits.SplitError as error:
            raise ValueError(f"{clips.store}: {error}") from error
        names = {number: f"fold-{number}" for number in numbers}
    else:
        raise ValueError(f"unknown protocol {protocol!r}; expected folds, loso, fixed, or a number such as 5")
    which = np.array(numbers)
    return [
        Fold(names[number], np.flatnonzero(which != number), np.flatnonzero(which == number), number)
        for number in sorted(set(numbers))
    ]


def chosen(parts: Sequence[Fold], only: Sequence[int]) -> list[Fold]:
    """The folds of these numbers, or all when there is none. Raises ValueError that lists the folds there are."""
    there = {fold.number: fold for fold in parts}
    unknown = [number for number in only if number not in there]
    if unknown:
        listed = ", ".join(
            str(number) if fold.name == f"fold-{number}" else f"{number} ({fold.name})"
            for number, fold in there.items()
        )
        raise ValueError(f"no fold {', '.join(map(str, unknown))}; there are {listed}")
    return [fold for fold in parts if not only or fold.number in only]


def protocol_name(protocol: str | int, parts: Sequence[Fold], taken: Sequence[Fold]) -> str:
    """What reports and published tables call it when these of all folds are taken: "5-fold", "fold 2 of 5", "loso",
    "fixed"."""
    if len(taken) == len(parts):
        return protocol if protocol in ("loso", "fixed") else f"{len(parts)}-fold"
    numbers = ", ".join(str(fold.number) for fold in taken)
    name = f"{'folds' if len(taken) > 1 else 'fold'} {numbers} of {len(parts)}"
    return f"{name}, loso" if protocol == "loso" else name


def _fixed_split(clips: ClipIndex) -> Fold:
    given = np.array([str(name) for name in clips.column("split")])
    train, val, test = (np.flatnonzero(given == name) for name in ("train", "val", "test"))
    for name, places in (("train", train), ("test", test)):
        if not len(places):
            there = ", ".join(sorted(set(given.tolist()))) or "none"
            raise ValueError(
                f"{clips.store}: no clip is in split {name!r} (there are {there}), which protocol fixed needs; make "
                "splits with `ray-fer split` and preprocess again, or make folds here with --protocol 5"
            )
    used = clips.where(np.concatenate([train, val, test]))
    _check_labels(used, used.table.select(["label"]).to_pylist())
    return Fold("fixed", train, test, val=val if len(val) else None)


def _check_labels(clips: ClipIndex, rows: splits.Rows) -> None:
    unlabelled = sum(row["label"] is None for row in rows)
    if unlabelled or not rows:
        what = f"{unlabelled} of {len(rows)} clips have no label" if rows else "no usable clip"
        raise ValueError(f"{clips.store}: {what}; cross-validation tests every clip")


def _given_folds(clips: ClipIndex, rows: splits.Rows) -> list[int]:
    numbers = [row["fold"] for row in rows]
    lacking = sum(number is None for number in numbers)
    if lacking:
        what = "the clips have no folds" if lacking == len(rows) else f"{lacking} of {len(rows)} clips have no fold"
        raise ValueError(
            f"{clips.store}: {what}; make folds here with --protocol 5 or --protocol loso, or write them into the "
            "manifest with `ray-fer split` and preprocess again"
        )
    if len(set(numbers)) < 2:
        raise ValueError(f"{clips.store}: all clips are in fold {numbers[0]}, which leaves none to train on")
    return numbers


def _subject_folds(clips: ClipIndex, rows: splits.Rows) -> tuple[list[int], dict[int, str]]:
    owned = _with_owners(clips, rows)
    if len({row["subject_id"] for row in owned}) < 2:
        raise ValueError(
            f"{clips.store}: all clips are of one subject; leaving it out leaves none to train on: use --protocol 5"
        )
    numbers = [row["fold"] for row in splits.loso(owned)]
    several = len({row["dataset"] for row in rows}) > 1
    names = {
        number: _folder_name(f"{row['dataset']}-{row['subject_id']}" if several else str(row["subject_id"]))
        for number, row in zip(numbers, rows, strict=True)
    }
    taken = Counter(name.casefold() for name in names.values())  # some file systems take both cases for one
    return numbers, {
        number: name if taken[name.casefold()] == 1 else f"{name}-{number}" for number, name in names.items()
    }


def _with_owners(clips: ClipIndex, rows: splits.Rows) -> splits.Rows:
    """Rows whose subject is told apart by its dataset, too: "01" of two datasets is two persons."""
    unknown = sum(row["subject_id"] is None for row in rows)
    if unknown:
        raise ValueError(
            f"{clips.store}: {unknown} of {len(rows)} clips have no subject_id, so nobody can be left out; use "
            "--protocol folds, or --protocol 5 without --by-subject"
        )
    return [row | {"subject_id": f"{row['dataset']}/{row['subject_id']}"} for row in rows]


def _folder_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "subject"
