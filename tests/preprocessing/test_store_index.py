"""The index of a clip store: choose clips, and read them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_fer.preprocessing.store_index import read_index, read_rows
from tests.clip_stores import colour_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": 25, "test": 6}, shard_rows=10)


def test_all_clips_are_there_in_order(store: Path) -> None:
    index = read_index(store)
    assert len(index) == 31
    assert index.column("clip_id")[:2] == ["train-0000", "train-0001"]
    assert index.column("shard") == [0] * 10 + [1] * 10 + [2] * 10 + [3]
    assert index.column("row")[9:12] == [9, 0, 1]


def test_chosen_clips_are_the_ones_that_are_read(store: Path) -> None:
    chosen = read_index(store).where(np.array([3, 4, 15, 30, 2]))
    assert chosen.by_shard() == [(0, [3, 4]), (1, [5]), (3, [0]), (0, [2])]
    read = [
        name
        for shard, rows in chosen.by_shard()
        for name in read_rows(store, shard, rows, ["clip_id"]).column("clip_id").to_pylist()
    ]
    assert read == chosen.column("clip_id")


def test_a_split_that_is_not_there_is_told_with_those_that_are(store: Path) -> None:
    index = read_index(store)
    assert len(index.split("test")) == 6
    with pytest.raises(ValueError, match="no usable clip in split 'val'; there are test, train"):
        index.split("val")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ray-fer preprocess"):
        read_index(tmp_path / "nothing")
