"""Mixtures: the sizes of the EiLA paper's Table 3, from its class counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ray_fer.datasets.mixture import mix

# Table 9 (training). The paper gives no class counts of its 1,362 validation clips, only their sum and Table 3's sizes;
# these counts have that sum and lose as many clips to rounding as Table 3 says (133, 406 and 680 clips).
EILA_TRAIN = {"Angry": 944, "Disgust": 96, "Fear": 76, "Happy": 1053, "Neutral": 2516, "Sad": 122, "Surprise": 45}
EILA_VAL = {"Angry": 207, "Disgust": 22, "Fear": 16, "Happy": 302, "Neutral": 770, "Sad": 38, "Surprise": 7}
FER2013 = {"train": 28_709, "val": 3_589, "test": 3_589}
SFEW = {"train": 891, "val": 431}


def clips(dataset: str, counts: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    return [
        {"clip_id": f"{dataset}/{split}/{label}/{number}", "split": split, "label": label, "fold": None}
        for split, labels in counts.items() for label, count in labels.items() for number in range(count)
    ]  # fmt: skip


EILA = clips("eila", {"train": EILA_TRAIN, "val": EILA_VAL, "test": {"Sad": 815}})


@pytest.mark.parametrize(
    ("base", "fraction", "train", "val"),
    [
        (SFEW, 0.1, 1373, 564), (SFEW, 0.3, 2342, 837), (SFEW, 0.5, 3316, 1111), (SFEW, 1.0, 5743, 1793),
        (FER2013, 0.1, 29_191, 7311), (FER2013, 0.3, 30_160, 7584), (FER2013, 0.5, 31_134, 7858),
        (FER2013, 1.0, 33_561, 8540), (SFEW, 0.0, 891, 431), (FER2013, 0, 28_709, 7178),
    ],
)  # fmt: skip
def test_sizes_of_table_3(base: dict[str, int], fraction: float, train: int, val: int) -> None:
    assert sum(EILA_TRAIN.values()) == 4852
    assert sum(EILA_VAL.values()) == 1362
    mixed = mix(clips("base", {split: {"Happy": count} for split, count in base.items()}), EILA, fraction, seed=3)
    assert Counter(row["split"] for row in mixed) == {"train": train, "val": val, "test": 815}
    assert all(row["clip_id"].startswith("eila") for row in mixed if row["split"] == "test")


def test_draws_are_by_seed_without_repeats() -> None:
    base = clips("base", {"train": {"Sad": 3}})
    first, again, other = (mix(base, EILA, 0.3, seed) for seed in (1, 1, 2))
    assert first == again
    assert {row["clip_id"] for row in first} != {row["clip_id"] for row in other}
    assert len({row["clip_id"] for row in first}) == len(first)
    assert mix(base, EILA[::-1], 0.3, 1) == first


def test_a_fraction_is_taken_exactly() -> None:
    """0.29 of 100 clips are 29; in binary floating point 0.29 * 100 is 28.999..."""
    extra = clips("e", {"train": {"Sad": 100}, "test": {"Sad": 1}})
    assert Counter(row["split"] for row in mix([], extra, 0.29, 0))["train"] == 29


def test_mixtures_that_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="is in both manifests"):
        mix(EILA, EILA, 0.5, 0)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        mix([], EILA, 1.5, 0)
    with pytest.raises(ValueError, match="have no split"):
        mix([], [row | {"split": None} for row in EILA], 0.5, 0)
