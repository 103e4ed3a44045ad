"""Folds: by the dataset's column, by subject, or made here; and what is said of clips that do not allow them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.parts import Fold, chosen, folds, protocol_name
from tests.clip_stores import colour_store


def clips(*rows: dict[str, Any]) -> ClipIndex:
    """An index of clips "0", "1", ... that differ from a happy one of nobody in what `rows` say."""
    usual = {"dataset": "d", "label": "Happy", "culture": "A", "subject_id": None, "split": "train", "fold": None}
    table = [{"clip_id": str(number), "path": f"{number}.mp4"} | usual | row for number, row in enumerate(rows)]
    schema = pa.schema([(name, pa.int32() if name == "fold" else pa.string()) for name in table[0]])
    return ClipIndex("the store", pa.Table.from_pylist(table, schema))


def by_name(found: list[Fold]) -> dict[str, list[int]]:
    return {fold.name: fold.test.tolist() for fold in found}


def test_the_fold_of_a_clip_is_the_one_that_tests_it() -> None:
    found = folds(clips({"fold": 2}, {"fold": 1}, {"fold": 10}, {"fold": 2}), "folds")
    assert by_name(found) == {"fold-1": [1], "fold-2": [0, 3], "fold-10": [2]}
    assert [fold.train.tolist() for fold in found] == [[0, 2, 3], [1, 2], [0, 1, 3]]


def test_loso_leaves_out_one_subject_of_one_dataset() -> None:
    owners = [("casme2", "01"), ("samm", "01"), ("casme2", "02"), ("casme2", "01")]
    index = clips(*({"dataset": dataset, "subject_id": subject} for dataset, subject in owners))
    assert by_name(folds(index, "loso")) == {"casme2-01": [0, 3], "casme2-02": [2], "samm-01": [1]}


def test_subjects_name_folders_whatever_they_are_called() -> None:
    index = clips({"subject_id": "Ann/1"}, {"subject_id": "Ann_1"}, {"subject_id": ".."}, {"subject_id": "ann_1"})
    names = [fold.name for fold in folds(index, "loso")]
    assert len({name.casefold() for name in names}) == 4
    assert all(Path(name).name == name for name in names)


def test_folds_made_here_are_stratified_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    index = read_index(colour_store(tmp_path / "store", {"train": 140}))
    found = folds(index, 5, seed=1)
    assert [fold.name for fold in found] == [f"fold-{number}" for number in range(1, 6)]
    for fold in found:
        labels = index.where(fold.test).column("label")
        assert {labels.count(label) for label in set(labels)} == {4}
    assert by_name(folds(index, 5, seed=1)) == by_name(found) != by_name(folds(index, 5, seed=2))


def test_by_subject_nobody_is_in_two_folds(tmp_path: Path) -> None:
    index = read_index(colour_store(tmp_path / "store", {"train": 70}, subjects=5))
    for fold in folds(index, 5, by_subject=True):
        there, elsewhere = (set(index.where(part).column("subject_id")) for part in (fold.test, fold.train))
        assert not there & elsewhere


def test_a_fixed_split_is_its_own_fold() -> None:
    index = clips({"split": "test"}, {"split": "train"}, {"split": "val"}, {"split": None, "label": None})
    (fold,) = folds(index, "fixed")
    assert fold.val is not None
    assert (fold.name, fold.train.tolist(), fold.val.tolist(), fold.test.tolist()) == ("fixed", [1], [2], [0])
    assert protocol_name("fixed", [fold], [fold]) == "fixed"


def test_folds_are_chosen_by_number_and_named_as_in_the_papers() -> None:
    five = folds(clips(*({"fold": number} for number in (1, 2, 3, 4, 5))), "folds")
    for only, name in (((), "5-fold"), ((2,), "fold 2 of 5"), ((4, 1), "folds 1, 4 of 5"), ((1, 2, 3, 4, 5), "5-fold")):
        assert protocol_name("folds", five, chosen(five, only)) == name
    assert protocol_name(5, five, five) == "5-fold"
    people = folds(clips({"subject_id": "ann"}, {"subject_id": "bob"}), "loso")
    assert protocol_name("loso", people, people) == "loso"
    assert protocol_name("loso", people, chosen(people, [2])) == "fold 2 of 2, loso"
    with pytest.raises(ValueError, match=r"no fold 3; there are 1 \(ann\), 2 \(bob\)"):
        chosen(people, [3])


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("xyz")), min_size=12, max_size=40))
def test_every_clip_is_tested_once(owners: list[tuple[str, str]]) -> None:
    index = clips(*({"dataset": dataset, "subject_id": subject} for dataset, subject in [("A", "a"), *owners]))
    for protocol in ("loso", 3):
        found = folds(index, protocol)
        assert sorted(np.concatenate([fold.test for fold in found]).tolist()) == list(range(len(index)))
        assert all(sorted([*fold.train, *fold.test]) == list(range(len(index))) for fold in found)


@pytest.mark.parametrize(
    ("rows", "protocol", "said"),
    [
        ([{}, {}], "folds", "the store: the clips have no folds; make folds here with --protocol 5"),
        ([{"fold": 1}, {}], "folds", "1 of 2 clips have no fold;"),
        ([{"fold": 3}, {"fold": 3}], "folds", "all clips are in fold 3"),
        ([{"subject_id": "a"}, {}], "loso", "1 of 2 clips have no subject_id, so nobody can be left out"),
        ([{"subject_id": "a"}, {"subject_id": "a"}], "loso", "all clips are of one subject"),
        ([{}, {}, {}], 4, "3 clips are too few for 4 folds"),
        ([{}, {}, {}], 1, "cannot split into 1 folds"),
        ([{"label": None}, {}], 2, "1 of 2 clips have no label"),
        ([{}, {}], "fixed", r"no clip is in split 'test' \(there are train\), which protocol fixed needs; make splits"),
        ([{"label": None}, {"split": "test"}], "fixed", "1 of 2 clips have no label"),
        ([{}], "megc", "unknown protocol 'megc'; expected folds, loso, fixed, or a number"),
    ],
)
def test_what_clips_do_not_allow(rows: list[dict[str, Any]], protocol: str | int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        folds(clips(*rows), protocol)
