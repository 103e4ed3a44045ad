"""Tables of mixtures of datasets, with trials that answer at once instead of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from ray_fer.evaluation.evaluated import LAST
from ray_fer.evaluation.published_tables import table
from ray_fer.evaluation.reproduced import Source
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.crossval_plan import trial_folder
from ray_fer.training.mixtures import mixed_clips
from ray_fer.training.reproduce import reproduce
from ray_fer.training.reproduce_mixtures import counted_mixtures, mixed_index, mixture_of
from ray_fer.training.reproduce_plan import ReproduceOptions
from ray_fer.training.systems import mixed_datasets, of_mixtures
from tests.clip_stores import colour_store, still_store
from tests.finished_trials import answers
from tests.training.test_mixtures import CLASSES, REST, TRAIN, index
from tests.training.test_reproduce import Trials, row, texts

TINY = (
    "model_config_.width=8", "model_config_.blocks=[2, 2, 2, 2]", "transform.canvas=32", "transform.size=32",
    "workers=0", "select=last", "early_stopping=null",
)  # fmt: skip
GROUPS = ("Black", "White", "Mixed")
FIVE, SIX = "eila-table-5", "eila-table-6"


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EiLA and SFEW, without FER2013, and one dataset that the paper does not have."""
    return still_store(
        tmp_path_factory.mktemp("stills"), GROUPS, eila={"train": 70, "val": 28, "test": 42},
        sfew={"train": 21, "val": 14}, rafdb={"train": 7},
    )  # fmt: skip


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    fake = Trials()
    monkeypatch.setattr("ray_fer.training.crossval.run_trials", fake)
    monkeypatch.setattr("ray_fer.training.crossval.write_reports", lambda *_: {})
    return fake


def options(name: str, data: Path, output: Path, **more: Any) -> ReproduceOptions:
    return ReproduceOptions(name, str(data), output, **({"settings": TINY} | more))


def test_every_row_is_the_mixture_of_its_name() -> None:
    found = [one for one in map(table, ("eila-table-3", FIVE, SIX)) if of_mixtures(one)]
    assert len(found) == 3
    for one in found:
        assert [mixture_of(row, "eila").name("eila") for row in one.rows] == [row.name for row in one.rows]
        assert mixed_datasets(one) == ["eila", "fer2013", "sfew"]
    assert not of_mixtures(table("eila-table-7"))


def test_rows_of_the_datasets_there_are_are_trained_and_the_next_table_shares_them(
    stills: Path, tmp_path: Path, trials: Trials
) -> None:
    said = list[str]()
    made = reproduce(options(FIVE, stills, tmp_path), say=said.append)
    assert [trial.name for trial in trials.tried] == [
        "EiLA-only-seed-42", "SFEW-only-seed-42", "SFEW-10-EiLA-seed-42", "SFEW-30-EiLA-seed-42",
        "SFEW-50-EiLA-seed-42", "SFEW-100-EiLA-seed-42",
    ]  # fmt: skip
    assert "system 6 of 6: ResNet50V2, SFEW + 100% EiLA" in said
    for name in ("FER2013 only", "FER2013 + 10% EiLA"):
        assert row(made, name)["%Accuracy here"].value is None
        assert any(line.startswith(f"not trained: {name}: ") and "holds no clip of fer2013" in line for line in said)
    assert [len(one.clips.train) for one in trials.tried] == [70, 21, 28, 42, 56, 91]
    for name, trial in zip((one.name for one in table(FIVE).rows), trials.tried, strict=False):
        assert set(trial.test.column("dataset")) == {"eila"}
        found = answers(trial)
        cells = row(made, name)
        f1 = f1_score(found.truth, found.predicted, average="weighted")
        assert cells["Weighted F1 score here"].value == pytest.approx(f1)
        assert cells["Weighted F1 score difference"].value == pytest.approx(
            f1 - table_value(FIVE, name, "Weighted F1 score")
        )
        wrong = 1 - accuracy_score(found.truth, found.predicted)
        assert cells["Loss here"].value == pytest.approx(-wrong * np.log(1e-7), rel=1e-6)
    text = texts(made)[".md"]
    assert "Here: tested on eila alone. Recipe multidataset: 15 + 35 epochs, from random weights." in text
    assert "Not the same clips: 42 were tested here, 815 in the paper." in text
    assert f"Here: fixed, epoch chosen on: {LAST}." in text
    assert (tmp_path / "systems" / "eila-resnet50v2-SFEW-30-EiLA" / "summary.json").is_file()

    six = reproduce(options(SIX, stills, tmp_path), say=lambda _: None)
    assert len(trials.tried) == 6, "nothing is trained twice"
    found = answers(trials.tried[2])
    right = found.predicted == found.truth
    groups = [100 * right[np.array(found.column("culture")) == name].mean() for name in GROUPS]
    cells = row(six, "SFEW + 10% EiLA")
    assert [cells[f"%Acc({name}) here"].value for name in GROUPS] == pytest.approx(groups)
    assert cells["%Std here"].value == pytest.approx(np.std(groups, ddof=1))
    assert cells["%Std difference"].value == pytest.approx(np.std(groups, ddof=1) - 8.65)


def table_value(name: str, row: str, column: str) -> float:
    (found,) = (one.values[column] for one in table(name).rows if one.name == row)
    return float(str(found))


def test_seeds_and_failures(stills: Path, tmp_path: Path, trials: Trials) -> None:
    rows = ("EiLA only", "SFEW + 30% EiLA")
    chosen = options(FIVE, stills, tmp_path, rows=rows, seeds=(1, 2))
    trials.failing = lambda trial: trial.name == "SFEW-30-EiLA-seed-2"
    made = reproduce(chosen, say=lambda _: None)
    assert made.failed == {"ResNet50V2, SFEW + 30% EiLA, SFEW-30-EiLA-seed-2": "a worker died"}
    assert row(made, rows[1])["%Accuracy here"].value is not None, "of the seed that is finished"
    trials.failing = lambda _: False
    again = reproduce(chosen, say=lambda _: None)
    assert [one.name for one in trials.tried[4:]] == ["SFEW-30-EiLA-seed-2"]
    drawn = [set(one.clips.train.column("clip_id")) for one in (trials.tried[2], trials.tried[3])]
    assert drawn[0] != drawn[1], "a seed draws the clips"
    assert row(again, rows[1])["%Accuracy here"].std == 0
    assert trial_folder(tmp_path / "systems" / "eila-resnet50v2-SFEW-30-EiLA", trials.tried[3]).is_dir()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (FIVE, {"aus": "x"}, "eila-table-5 trains mixtures of datasets without AU profiles, .*; leave out --aus"),
        (SIX, {"priors": Path("x"), "paper_protocol": True}, "leave out --priors and --paper-protocol"),
        (FIVE, {"rows": ("FER2013 only",)}, "no row .* can be trained on .*FER2013 only: .* holds no clip of fer2013"),
        (FIVE, {"recipe": "hdf"}, "no row of eila-table-5 can be trained .*recipe hdf trains hdf and not resnet50v2"),
        (FIVE, {"seeds": (1, 1)}, "give each seed once"),
        (FIVE, {"data": "synthfer"}, "SynthFER has none; give --data a clip store that holds eila, fer2013, sfew"),
        ("eila-table-3", {"data": "synthfer"}, "eila-table-3 is about mixtures of datasets, and SynthFER has none"),
        (
            "eila-table-3",
            {"rows": ("FER2013 only",)},
            "can be counted in .*: .* holds no clip of fer2013; its datasets",
        ),
    ],
)
def test_what_cannot_work_is_said_first(
    name: str, change: dict[str, Any], said: str, stills: Path, tmp_path: Path, trials: Trials
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        reproduce(replace(options(name, stills, tmp_path / "out"), **change), say=lambda _: None)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_tested_dataset_has_to_be_there(tmp_path: Path, trials: Trials) -> None:
    store = still_store(tmp_path / "store", sfew={"train": 14, "val": 7})
    said = "holds no clip of eila, which all of eila-table-5 needs; give --data a clip store that holds eila, fer2013"
    with pytest.raises(ValueError, match=said):
        reproduce(options(FIVE, store, tmp_path / "out", any_dataset=True))


def test_clips_of_other_classes_have_a_table_of_their_own(tmp_path: Path, trials: Trials) -> None:
    eleven = (*CLASSES, "Contempt")
    store = colour_store(
        tmp_path / "store", {"train": 16, "val": 8, "test": 16}, frames=1, dataset="eila", cultures=GROUPS,
        classes=eleven,
    )  # fmt: skip
    chosen = options(FIVE, store, tmp_path / "out", rows=("EiLA only",))
    with pytest.raises(ValueError, match=r"the classes of the clips are .*Contempt.*, and not Angry.*--any-dataset"):
        reproduce(chosen, say=lambda _: None)
    made = reproduce(replace(chosen, any_dataset=True), say=lambda _: None)
    assert made.table.columns == ["Row", "Settings", "weighted F1", "WAR", "cross-entropy"]
    assert not any("published" in column for column in made.table.columns)
    assert "0.267" not in texts(made)[".md"]


@pytest.fixture(scope="module")
def as_published() -> ClipIndex:
    """As many clips as the three datasets have, and some of another."""
    rows: list[dict[str, object]] = [{"clip_id": "x", "dataset": "rafdb", "split": "train", "label": "Contempt"}]
    for dataset, counts in TRAIN.items():
        split, rest = REST[dataset]
        parts = [("train", name) for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
        parts += [(split, CLASSES[n % 7]) for n in range(rest)]
        parts += [("test", CLASSES[n % 7]) for n in range(815 if dataset == "eila" else 0)]
        rows += [
            {"clip_id": f"{dataset}/{n}", "dataset": dataset, "split": split, "label": label}
            for n, (split, label) in enumerate(parts)
        ]
    return index(rows)


def test_table_3_is_counted(as_published: ClipIndex) -> None:
    three = table("eila-table-3")
    kept = mixed_index(three, as_published)
    assert set(kept.column("dataset")) == {"eila", "fer2013", "sfew"}
    made = counted_mixtures(three, three.rows, Source(["eila"]), kept)
    cells = {one["Row"].text: one for one in made.blocks[0].rows}
    assert len(cells) == 11
    for one in three.rows:
        assert cells[one.name]["Training Set Size here"].value == one.values["Training Set Size"]
        assert cells[one.name]["Training Set Size difference"].value == 0
    # 1,362 validation images of EiLA, evenly of seven classes: 194 or 195 of each, of which 30 % are 58
    assert cells["SFEW + 30% EiLA"]["Validation Set Size here"].value == 431 + 7 * 58
    clips, _ = mixed_clips(kept, mixture_of(three.rows[3], "eila"), "eila", seed=9)
    assert len(clips.val) == cells[three.rows[3].name]["Validation Set Size here"].value, "whatever the seed"


def test_what_is_not_there_is_not_counted(stills: Path, tmp_path: Path, trials: Trials) -> None:
    made = reproduce(options("eila-table-3", stills, tmp_path), say=lambda _: None)
    assert row(made, "SFEW + 50% EiLA")["Training Set Size here"].value == 21 + 35
    assert row(made, "SFEW + 50% EiLA")["Validation Set Size difference"].value == 14 + 14 - 1111
    assert row(made, "FER2013 only")["Training Set Size here"].value is None
    left_out = next(note for note in made.table.notes if note.startswith("Not counted: FER2013 only, FER2013 + 10% E"))
    assert "holds no clip of fer2013; its datasets are eila, sfew." in left_out
    assert trials.tried == []
    assert not (tmp_path / "systems").exists()
