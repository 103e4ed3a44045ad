"""Mixtures of the datasets of one store: the sizes of Table 3, the figures of Tables 5 and 6 by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_fer.evaluation.mixture_report import markdown, sweep_figure
from ray_fer.evaluation.predictions import Predictions
from ray_fer.evaluation.published_tables import table
from ray_fer.preprocessing.store_index import COLUMNS, ClipIndex
from ray_fer.training.mixtures import Mixture, SweepOptions, answered, mixed_clips, mixtures

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
# Tables 7 to 9, the classes of the training sets in this order, and the sizes of Tables 3 and 4.
TRAIN = {
    "fer2013": (3995, 436, 4097, 7215, 4965, 4830, 3171), "sfew": (178, 52, 78, 184, 144, 161, 94),
    "eila": (944, 96, 76, 1053, 2516, 122, 45),
}  # fmt: skip
REST = {"fer2013": ("test", 7178), "sfew": ("val", 431), "eila": ("val", 1362)}


def index(rows: list[dict[str, object]]) -> ClipIndex:
    table = pa.Table.from_pylist([{**dict.fromkeys(COLUMNS), **row} for row in rows])
    places = pa.array(range(len(rows)))
    return ClipIndex("store", table.append_column("shard", places).append_column("row", places))


@pytest.fixture(scope="module")
def published() -> ClipIndex:
    """As many clips as the three datasets have."""
    rows: list[dict[str, object]] = []
    for dataset, counts in TRAIN.items():
        split, rest = REST[dataset]
        labels = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
        parts = [("train", name) for name in labels] + [(split, CLASSES[n % 7]) for n in range(rest)]
        if dataset == "eila":
            parts += [("test", CLASSES[n % 7]) for n in range(815)]
        rows += [
            {"clip_id": f"{dataset}/{n}", "dataset": dataset, "split": split, "label": label}
            for n, (split, label) in enumerate(parts)
        ]
    return index(rows)


def test_the_rows_and_training_sizes_are_those_of_table_3(published: ClipIndex) -> None:
    options = SweepOptions("store", Path("out"))
    found = mixtures(published.column("dataset"), options)
    names = [one.name("eila") for one in found]
    assert set(names) == {row.name for row in table("eila-table-3").rows}
    assert [row.name for row in table("eila-table-5").rows] == names
    sizes = {row.name: row.values for row in table("eila-table-3").rows}
    for one in found:
        clips, test = mixed_clips(published, one, "eila", seed=42)
        printed = sizes[one.name("eila")]["Training Set Size"]
        assert len(clips.train) == printed, one
        assert len(test) == 815
        assert set(test.column("dataset")) == {"eila"}
        if one.fraction in (0.0, 1.0):
            assert len(clips.val) == sizes[one.name("eila")]["Validation Set Size"], one
        assert not set(clips.train.column("clip_id")) & set(clips.val.column("clip_id"))


def test_a_seed_draws_the_clips_of_a_mixture(published: ClipIndex) -> None:
    some = Mixture("sfew", 0.1)
    drawn = [set(mixed_clips(published, some, "eila", seed)[0].train.column("clip_id")) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_stores_that_do_not_allow_it(published: ClipIndex) -> None:
    datasets = published.column("dataset")
    with pytest.raises(ValueError, match=r"holds no clip of affectnet; its datasets are eila, fer2013, sfew"):
        mixtures(datasets, SweepOptions("s", Path("o"), bases=("affectnet",)))
    with pytest.raises(ValueError, match=r"fractions \(0.0, 2.0\) must be above 0"):
        mixtures(datasets, SweepOptions("s", Path("o"), fractions=(0.0, 2.0)))
    other = mixtures(["a", "b", "c"], SweepOptions("s", Path("o"), target="b", fractions=(0.5,)))
    assert [one.name("b") for one in other] == ["b only", "a only", "a + 50% b", "c only", "c + 50% b"]
    alone = published.where(lambda row: row["split"] != "test" or row["dataset"] != "eila")
    with pytest.raises(ValueError, match='SFEW only has no clip in split "test"'):
        mixed_clips(alone, Mixture("sfew", 0.0), "eila", 1)


def predictions() -> Predictions:
    """Five clips of two groups and one of none: White 2 of 3 right, Black 1 of 2."""
    labels, cultures = ["a", "a", "b", "a", "b", "b"], ["White", "White", "White", "Black", "Black", None]
    clips = pa.table({
        "clip_id": [str(n) for n in range(6)], "dataset": ["eila"] * 6, "label": labels,
        "culture": pa.array(cultures, pa.string()), "subject_id": pa.array([None] * 6, pa.string()), "path": ["x"] * 6,
    })  # fmt: skip
    first = np.array([0.9, 0.6, 0.8, 0.7, 0.5 + 1e-6, 0.25], np.float32)
    return Predictions("m", ["a", "b"], clips, np.stack([first, 1 - first], axis=1), np.zeros((6, 2), np.float32))


def test_figures_by_hand() -> None:
    found = answered(predictions())
    assert found["groups"] == pytest.approx({"Black": 1 / 2, "White": 2 / 3})
    assert found["counts"] == {"Black": 2, "White": 3}
    assert found["std"] == pytest.approx(np.std([1 / 2, 2 / 3], ddof=1))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["loss"] == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.2, 0.7, 0.5, 0.75])), abs=1e-5)
    # a: 3 right of 5 given and 3 there; b: 1 right of 1 given and 3 there
    assert found["weighted_f1"] == pytest.approx((3 * 6 / 8 + 3 * 2 / 4) / 6)


def test_the_paper_s_figures_stand_beside_ours() -> None:
    one = {"clips": {"train": 1373, "val": 564, "test": 815}, "seed": 1, **answered(predictions())}
    other = {**one, "accuracy": 0.5, "seed": 2}
    content = {
        "target": "EiLA", "recipe": {"name": "multidataset", "epochs": [15, 35], "weights": []},
        "rows": {"SFEW + 10% EiLA": [one, other], "a only": []},
    }  # fmt: skip
    text = markdown(content)
    assert "| SFEW + 10% EiLA | 1,373 | 564 | 0.625 ± 0.000 (0.278) | 58.3 ± 11.8 (34.0) |" in text
    assert "(45.4)" in text, "Black, Table 6"
    assert "| a only |  |  | – | – | – |" in text
    axes = sweep_figure(content).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SFEW + 10% EiLA"]
