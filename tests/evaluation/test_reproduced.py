"""Published tables made again from answers by hand: figures against scikit-learn, and what stands beside what."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.evaluation.published_tables import table
from ray_fer.evaluation.reproduced import Source, can_count, composition, reproduced
from ray_fer.evaluation.tables import SYNTHETIC, TEST_FOLD, Comparison, render
from ray_fer.labels import EXPRESSIONS, MICRO_EXPRESSIONS

FORMATS = ("markdown", "latex", "csv")
EILA = Source(["eila"])


def answers(
    count: int,
    seed: int,
    right: float = 0.7,
    classes: Sequence[str] = EXPRESSIONS,
    cultures: Sequence[str] = ("A", "B"),
    dataset: str = "dfew",
) -> Predictions:
    """So many clips, one class after the other; about the share `right` is right."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % len(classes)
    said = np.where(rng.random(count) < right, truth, rng.integers(0, len(classes), count))
    rows = [
        dict.fromkeys(COLUMNS)
        | {
            "clip_id": f"{seed}-{n}",
            "dataset": dataset,
            "label": classes[truth[n]],
            "culture": cultures[n % len(cultures)],
        }
        for n in range(count)
    ]
    clips = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in COLUMNS]))
    shares = np.eye(len(classes), dtype=np.float32)[said]
    return Predictions("m", list(classes), clips, shares, np.zeros((count, 0), np.float32))


def folds(seed: int, count: int = 5, **more: Any) -> list[tuple[str, Predictions]]:
    return [(f"fold-{number}", answers(28 + 7 * number, 10 * seed + number, **more)) for number in range(count)]


def pooled(parts: list[tuple[str, Predictions]]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.concatenate([getattr(one, name) for _, one in parts]) for name in ("truth", "predicted"))  # type: ignore[return-value]


def rows(made: Comparison, block: int = 0) -> dict[str, dict[str, Any]]:
    return {one["Row"].text: one for one in made.blocks[block].rows}


def test_over_folds_it_is_their_mean_and_by_class_of_all_answers() -> None:
    parts = folds(1)
    found = Measured({1: parts}, "5-fold")
    uars = [balanced_accuracy_score(one.truth, one.predicted) for _, one in parts]
    assert found.figure("uar") == (pytest.approx(np.mean(uars)), pytest.approx(np.std(uars, ddof=1)))
    truth, predicted = pooled(parts)
    f1 = f1_score(truth, predicted, average=None)
    for place, name in enumerate(EXPRESSIONS):
        assert found.figure("f1", name) == (pytest.approx(f1[place]), None)
        assert found.figure("count", name) == ((truth == place).sum(), None)
    assert found.figure("weighted_f1")[0] == pytest.approx(f1_score(truth, predicted, average="weighted"))
    assert found.figure("count") == (sum(len(one) for _, one in parts), None)


def test_under_loso_it_is_of_all_answers() -> None:
    parts = folds(1, classes=MICRO_EXPRESSIONS)
    truth, predicted = pooled(parts)
    uf1 = f1_score(truth, predicted, average="macro")
    assert Measured({1: parts}, "loso").figure("macro_f1") == (pytest.approx(uf1), None)
    means = np.mean([f1_score(one.truth, one.predicted, average="macro") for _, one in parts])
    assert Measured({1: parts}, "5-fold").figure("macro_f1")[0] == pytest.approx(means)


def test_of_several_seeds_it_is_the_mean_of_their_figures() -> None:
    seeds = {seed: folds(seed, right=0.5 + seed / 10) for seed in (1, 2, 3)}
    wars = [np.mean([accuracy_score(one.truth, one.predicted) for _, one in parts]) for parts in seeds.values()]
    found = Measured(seeds, "5-fold")
    assert found.figure("war") == (pytest.approx(np.mean(wars)), pytest.approx(np.std(wars, ddof=1)))
    assert found.figure("count")[1] is None


def test_of_a_culture_it_is_of_its_clips() -> None:
    parts = folds(1, count=1, cultures=("Black", "White", "Mixed"))
    truth, predicted = pooled(parts)
    wars = [accuracy_score(truth[place::3], predicted[place::3]) for place in range(3)]
    found = Measured({1: parts}, "fixed")
    assert [found.figure("war", name)[0] for name in ("Black", "White", "Mixed")] == pytest.approx(wars)
    assert found.figure("std") == (pytest.approx(np.std(wars, ddof=1)), None)
    assert found.figure("war", "Yellow") == (None, None)
    assert found.figure("recall", "White") == (None, None)
    assert found.figure("epoch") == (None, None)


def test_few_columns_are_side_by_side() -> None:
    one = table("cafer-table-3")
    measured = {"CA-FER (Proposed)": Measured({1: folds(1, dataset="gccfer")}, "5-fold", "test fold (paper protocol)")}
    made = reproduced(one, one.rows, measured, Source(["gccfer"]), ["DPCNet is not trained: it is not here."])
    assert made.columns[1:4] == ["UAR (%) here", "UAR (%) published", "UAR (%) difference"]
    assert [block.label for block in made.blocks] == ["Culture-Agnostic Methods", "Culture-Adaptation Methods"]
    cells = rows(made, 1)["CA-FER (Proposed)"]
    assert cells["UAR (%) published"].value == 61.7
    assert cells["UAR (%) here"].marks == TEST_FOLD
    text = render([made], "markdown")
    value = cells["UAR (%) here"].value
    assert f"| {value:.2f} ± " in text
    assert f"| {value - 61.7:+.2f} |" in text
    assert "| DPCNet | - | 56.12 | - | - | 59.47 | - |" in text
    assert "DPCNet is not trained: it is not here." in text
    assert "the figures are optimistic" in text


def test_many_columns_are_below_each_other() -> None:
    one = table("hdf-table-1")
    parts = folds(1)
    made = reproduced(one, one.rows, {"HDF (Ours)": Measured({1: parts}, "5-fold")}, Source(["DFEW"]))
    assert [(block.label, block.published, len(block.rows)) for block in made.blocks] == [
        ("Here", False, 1), ("Published", True, 12), ("Difference: here less published", False, 1)
    ]  # fmt: skip
    truth, predicted = pooled(parts)
    here, apart = rows(made)["HDF (Ours)"], rows(made, 2)["HDF (Ours)"]
    happy = 100 * (predicted[truth == 3] == 3).mean()
    assert here["Hap."].value == pytest.approx(happy)
    assert apart["Hap."].value == pytest.approx(happy - 89.67)
    assert made.columns == ["Row", *(column.name for column in one.columns)]
    found = list(csv.DictReader(io.StringIO(render([made], "csv"))))
    assert [row["Published"] for row in found] == ["False", *["True"] * 12, "False"]


def test_fractions_stay_fractions() -> None:
    one = table("eila-table-5")
    parts = folds(1, count=1, dataset="eila")
    made = reproduced(one, one.rows[:1], {"EiLA only": Measured({1: parts}, "fixed")}, Source(["eila"]))
    truth, predicted = pooled(parts)
    cells = rows(made)["EiLA only"]
    assert cells["Weighted F1 score here"].value == pytest.approx(f1_score(truth, predicted, average="weighted"))
    assert cells["%Accuracy here"].value == pytest.approx(100 * accuracy_score(truth, predicted))
    wrong = 1 - accuracy_score(truth, predicted)
    assert cells["Loss here"].value == pytest.approx(-wrong * np.log(1e-7)), "answers are sure, as Keras clips them"
    assert cells["Loss published"].value == 2.733
    assert cells["Loss difference"].value == pytest.approx(cells["Loss here"].value - 2.733)
    assert f"{cells['Weighted F1 score difference'].value:+.3f}" in render([made], "markdown")


def test_a_deviation_over_other_groups_is_said() -> None:
    six = table("eila-table-6")
    three, two = (
        reproduced(six, six.rows[:1], {"EiLA only": Measured({1: folds(1, count=1, cultures=groups)}, "fixed")}, EILA)
        for groups in (("Black", "White", "Mixed"), ("Black", "White"))
    )
    said = "Not the same groups: the deviation is over Black, White here, over Black, Mixed, White in the paper."
    assert said in two.notes
    assert not any("Not the same groups" in note for note in three.notes)


def test_the_loss_is_no_percentage() -> None:
    one = table("eila-table-5")
    parts = folds(1, count=1, dataset="eila")
    found = Measured({1: parts}, "fixed")
    made = reproduced(one, one.rows[:1], {"EiLA only": found}, Source(["eila"], "the classes are others"))
    cells = rows(made)["EiLA only"]
    assert set(cells) == {"Row", "Settings", "weighted F1", "WAR", "cross-entropy"}
    wrong = 1 - accuracy_score(*pooled(parts))
    assert cells["cross-entropy"].value == pytest.approx(-wrong * np.log(1e-7))
    assert cells["WAR"].value == pytest.approx(100 * (1 - wrong))
    assert found.figure("loss", "A")[0] is not None
    assert found.figure("loss", "Happy") == (None, None)
    assert "Figures are percentages, the cross-entropy is in nats." in made.notes


def test_columns_of_another_dataset_stay_empty() -> None:
    one = table("ous-table-2")
    made = reproduced(one, one.rows, {"C3D": Measured({1: folds(1)}, "5-fold")}, Source(["dfew"]))
    cells = rows(made)["C3D"]
    assert cells["DFEW UAR here"].value is not None
    assert cells["FERV39k UAR here"].value is None
    assert cells["FERV39k UAR published"].value == 22.68


@pytest.mark.parametrize("name", ["cafer-table-3", "cafer-table-6", "hdf-table-1", "ous-table-2", "eila-table-6"])
@pytest.mark.parametrize("dataset", ["synthfer", "mafw"])
def test_no_published_figure_is_beside_what_does_not_compare(name: str, dataset: str) -> None:
    one = table(name)
    measured = {row.name: Measured({1: folds(1, dataset=dataset)}, "5-fold") for row in one.rows if row.model}
    made = reproduced(one, one.rows, measured, Source([dataset], "the clips are others"))
    own = {
        f"{number:.{digits}f}"
        for block in made.blocks for row in block.rows for cell in row.values()
        for number in (cell.value, cell.std) if number is not None for digits in range(3)
    }  # fmt: skip
    printed = [value for row in one.rows for value in row.values.values() if isinstance(value, float)]
    for text in (*(render([made], form) for form in FORMATS), json.dumps(asdict(made))):  # type: ignore[arg-type]
        found = [number for number in printed if f" {number:.2f}" in text and f"{number:.2f}" not in own]
        assert not found
        assert not [data for data in ("DFEW", "FERV39k", "GCC-FER") if data in text]
    assert (SYNTHETIC in made.notes) == (dataset == "synthfer")
    assert not any(block.published for block in made.blocks)


def test_a_breakdown_of_other_clips_has_their_cultures() -> None:
    one = table("cafer-table-5")
    parts = folds(1, cultures=("x", "y", "z"), dataset="synthfer")
    measured = {row.name: Measured({1: parts}, "5-fold") for row in one.rows}
    made = reproduced(one, one.rows, measured, Source(["synthfer"], "rendered"))
    assert list(rows(made)) == ["x", "y", "z"]
    assert sum(row["clips"].value for row in rows(made).values()) == sum(len(part) for _, part in parts)


def test_clips_are_counted() -> None:
    facts = [("Happy", "African", "train"), ("Happy", "Caucasian", "test"), ("Sad", None, "test")]
    clips = [dict(zip(("label", "culture", "split"), one, strict=True)) for one in facts]
    made = composition(table("cafer-table-2"), clips, Source(["gccfer"]))
    here = rows(made)
    assert (here["African"]["Happy"].value, here["African"]["Total"].value, here["Total"]["Total"].value) == (1, 1, 3)
    assert rows(made, 2)["Total"]["Total"].value == 3 - 23934
    made = composition(table("eila-table-7"), clips, Source(["fer2013"]))
    assert rows(made)["Training set"]["Total"].value == 1
    made = composition(table("cafer-table-2"), clips, Source(["synthfer"], "rendered"))
    assert list(rows(made)) == ["African", "Caucasian", "Total"]
    assert rows(made)["Total"]["Happy clips"].value == 2
    assert can_count(table("cafer-table-2"))
    assert not can_count(table("eila-table-3"))
    assert not can_count(table("cafer-table-3"))
