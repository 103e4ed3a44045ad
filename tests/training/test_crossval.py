"""Cross-validation and search without a cluster: figures worked by hand, what is refused, what may be searched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.evaluated import LAST, TEST_FOLD, VALIDATION
from ray_fer.evaluation.predictions import COLUMNS, Predictions, joined, read_predictions
from ray_fer.preprocessing.store_index import read_index
from ray_fer.training.aggregate import spread, summarised
from ray_fer.training.crossval import cross_validate
from ray_fer.training.crossval_plan import CrossValOptions, plan_cross_validation, plan_trials, trial_folder
from ray_fer.training.fold_priors import AuStats
from ray_fer.training.parts import folds
from ray_fer.training.search import SearchOptions, search_clips
from ray_fer.training.search_outcome import outcome
from ray_fer.training.space import KINDS, Dimension, check_space, parse_space, settings_of
from ray_fer.training.trial import Trial, TrialKeeping, finished
from tests.clip_stores import au_table, colour_store
from tests.finished_trials import finish
from tests.training_runs import tiny_recipe, tiny_settings

CLIPS = 42


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": CLIPS}, folds=3)


def planned(store: Path, **changes: Any) -> list[Trial]:
    recipe = tiny_recipe(*changes.pop("settings", ()))
    return plan_trials(read_index(store), recipe, CrossValOptions(str(store), Path("out"), **changes)).trials


# Figures


def answers(truth: str, predicted: str) -> Predictions:
    """One clip per letter: a (class 0) or b (class 1)."""
    rows = [
        dict.fromkeys(COLUMNS) | {"clip_id": str(number), "dataset": "d", "label": label}
        for number, label in enumerate(truth)
    ]
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    probabilities = np.array([[letter == "a", letter == "b"] for letter in predicted], np.float32)
    return Predictions("m", ["a", "b"], pa.Table.from_pylist(rows, schema), probabilities, np.zeros((len(truth), 0)))


def record(fold: str, seed: int, uar: float, war: float = 0.5, macro_f1: float = 0.5) -> dict[str, Any]:
    return {
        "trial": f"{fold}-seed-{seed}", "described": {"fold": fold, "seed": seed}, "clips": {}, "training": {},
        "test": {"uar": uar, "war": war, "macro_f1": macro_f1}, "ended": "finished", "seconds": 1.0, "bundle": None,
    }  # fmt: skip


def test_standard_deviations_are_of_a_sample() -> None:
    assert spread([0.2, 0.4]) == {"mean": pytest.approx(0.3), "sd": pytest.approx(0.02**0.5), "count": 2}
    assert spread([0.5]) == {"mean": 0.5, "sd": None, "count": 1}
    assert spread([]) == {"mean": None, "sd": None, "count": 0}


def test_pooled_figures_are_not_means_of_folds() -> None:
    # Fold 1: 3 of 4 right, a: 2/3, b: 1/1. Fold 2: a 1/1, b 0/1.
    parts = [answers("aaab", "aabb"), answers("ab", "aa")]
    records = [record("fold-1", 1, (2 / 3 + 1) / 2, 3 / 4), record("fold-2", 1, 0.5, 0.5)]
    found = summarised(records, {1: joined(parts)}, {1: 2})
    seed = found["seeds"]["1"]
    assert seed["complete"]
    assert seed["folds"]["uar"] == {
        "mean": pytest.approx((5 / 6 + 1 / 2) / 2), "sd": pytest.approx((1 / 3) / 2**0.5), "count": 2
    }  # fmt: skip
    # Together: a 3 of 4 right and b called a once (precision 3/4), b 1 of 2 right and a called b once (precision 1/2).
    pooled = seed["pooled"]
    assert (pooled["uar"], pooled["war"]) == (pytest.approx((3 / 4 + 1 / 2) / 2), pytest.approx(4 / 6))
    assert pooled["macro_f1"] == pytest.approx((2 * 3 / (2 * 3 + 1 + 1) + 2 * 1 / (2 * 1 + 1 + 1)) / 2)
    assert pooled["unit"] == "clip", "no subject is known"
    interval = pooled["intervals"]["war"]
    assert interval["value"] == pytest.approx(4 / 6)
    assert interval["low"] < interval["value"] < interval["high"]


def test_figures_over_seeds_are_of_seeds_that_are_complete() -> None:
    right, wrong = answers("ab", "ab"), answers("ab", "ba")
    records = [
        record("fold-1", 1, 1.0), record("fold-2", 1, 0.6), record("fold-1", 2, 0.4), record("fold-2", 2, 0.2),
        record("fold-1", 3, 0.1),
    ]  # fmt: skip
    pooled = {1: joined([right, right]), 2: joined([right, wrong]), 3: wrong}
    found = summarised(records, pooled, {1: 2, 2: 2, 3: 2})
    assert [one["complete"] for one in found["seeds"].values()] == [True, True, False]
    assert found["over_seeds"]["folds"]["uar"]["mean"] == pytest.approx((0.8 + 0.3) / 2)
    assert found["over_seeds"]["folds"]["uar"]["sd"] == pytest.approx(0.5 / 2**0.5)
    assert found["over_seeds"]["pooled"]["war"]["mean"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["folds"]["fold-1"]["uar"]["mean"] == pytest.approx((1.0 + 0.4 + 0.1) / 3)
    assert found["folds"]["fold-2"]["uar"]["count"] == 2


def test_nothing_finished_is_a_summary_too() -> None:
    found = summarised([], {}, {1: 5})
    assert (found["seeds"], found["trials"], found["over_seeds"]["pooled"]["uar"]["count"]) == ({}, [], 0)


# Trials


def test_trials_are_folds_times_seeds(store: Path) -> None:
    trials = planned(store, seeds=(1, 2))
    assert [trial.name for trial in trials] == [f"fold-{fold}-seed-{seed}" for seed in (1, 2) for fold in (1, 2, 3)]
    assert [trial.recipe.seed for trial in trials] == [1, 1, 1, 2, 2, 2]


def test_the_test_fold_validates_only_with_the_paper_protocol(store: Path) -> None:
    for trial in planned(store):
        train, val, test = (set(one.column("clip_id")) for one in (trial.clips.train, trial.clips.val, trial.test))
        assert (len(train | val | test), train & val, train & test, val & test) == (CLIPS, set(), set(), set())
        subjects = [set(one.column("subject_id")) for one in (trial.clips.train, trial.clips.val)]
        assert not subjects[0] & subjects[1]
        assert trial.selection == VALIDATION == "validation"
    for trial in planned(store, paper_protocol=True):
        assert trial.clips.val.column("clip_id") == trial.test.column("clip_id")
        assert len(trial.clips.train) + len(trial.test) == CLIPS
        assert trial.selection == TEST_FOLD == "test fold (paper protocol)"
    last = planned(store, settings=('select="last"',))
    assert {trial.selection for trial in last} == {LAST}, "no clip has a say in it"


def test_folds_made_here_are_the_same_for_all_seeds(store: Path) -> None:
    one, two = planned(store, protocol=2, seeds=(1,)), planned(store, protocol=2, seeds=(2,))
    assert [trial.test.column("clip_id") for trial in one] == [trial.test.column("clip_id") for trial in two]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": ("optimizer.lr=0.5",)}, r"optimizer was \{'name'.*'lr': 0.003.* and is .*'lr': 0.5"),
        ({"paper_protocol": True}, r"selection was validation and is test fold \(paper protocol\); the training or"),
        (
            {"settings": ("val_share=0.5",)},
            r"\(the training or validation clips are others; val_share was 0.1 and is 0.5\); start all trials anew",
        ),
        ({"protocol": 2}, "the training or validation clips are others; the test clips are others"),
    ],
)
def test_a_folder_of_another_trial_is_refused(store: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    before = planned(store)[0]
    (tmp_path / "trial.json").write_text(json.dumps({"described": before.described(), "test": {}}))
    assert finished(before, tmp_path) is not None
    more_workers = planned(store, settings=("workers=1", "gpus_per_worker=0.25"))[0]
    assert finished(more_workers, tmp_path) is not None, "how a trial is computed does not count"
    with pytest.raises(FileExistsError, match=said):
        finished(planned(store, **change)[0], tmp_path)


def test_an_unfinished_trial_is_known_by_its_plan(store: Path, tmp_path: Path) -> None:
    trial, other = planned(store)[0], planned(store, settings=("epochs=9",))[0]
    assert finished(trial, tmp_path) is None
    (tmp_path / "plan.json").write_text(json.dumps(trial.described()))
    assert finished(trial, tmp_path) is None
    with pytest.raises(FileExistsError, match="epochs was 3 and is 9"):
        finished(other, tmp_path)


def test_some_folds_alone_are_the_same_trials(store: Path) -> None:
    whole = {trial.name: trial.described() for trial in planned(store)}
    (trial,) = planned(store, only=(2,))
    assert trial.described() == whole[trial.name]
    with pytest.raises(ValueError, match="no fold 4; there are 1, 2, 3"):
        planned(store, only=(2, 4))


def test_the_outcome_of_some_folds_does_not_replace_that_of_all() -> None:
    all_folds, one = CrossValOptions("s", Path("out")), CrossValOptions("s", Path("out"), only=(3, 2))
    assert (all_folds.summary, all_folds.of_seed(1)) == (Path("out/summary.json"), Path("out/seed-1"))
    assert (one.summary, one.of_seed(1)) == (Path("out/summary-only-2-3.json"), Path("out/seed-1-only-2-3"))


def test_a_fixed_split_is_one_trial_for_each_seed(tmp_path: Path) -> None:
    store = colour_store(tmp_path / "store", {"train": 28, "test": 14})
    trials = planned(store, protocol="fixed", seeds=(1, 2))
    assert [trial.name for trial in trials] == ["fixed-seed-1", "fixed-seed-2"]
    for trial in trials:
        assert set(trial.test.column("split")) == {"test"}
        assert {*trial.clips.train.column("split"), *trial.clips.val.column("split")} == {"train"}
    with_val = planned(colour_store(tmp_path / "val", {"train": 28, "val": 7, "test": 14}), protocol="fixed")[0]
    assert set(with_val.clips.val.column("split")) == {"val"}
    assert len(with_val.clips.train) == 28
    tested = planned(store, protocol="fixed", paper_protocol=True)[0]
    assert set(tested.clips.val.column("split")) == {"test"}


# Reports


def test_what_was_finished_earlier_gets_a_report_that_compares(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, said = tmp_path / "cv", list[str]()
    keep = TrialKeeping(command="ray-fer crossval clips -o cv")
    changes = {"recipe": "cafer-small", "settings": tiny_settings(), "seeds": (1, 2), "keeping": keep}
    options = CrossValOptions(str(store), output, **changes)
    plan = plan_cross_validation(options)
    for trial in plan.trials[:-1]:  # the last fold of the second seed is not finished
        finish(trial, output)
    monkeypatch.setattr("ray_fer.training.crossval.run_trials", lambda *_: {})
    done = cross_validate(options, say=said.append)
    assert done.reports == {1: output / "seed-1" / "report"}
    assert done.summary["reports"] == {"1": "seed-1/report"}
    assert (done.summary["protocol"], done.summary["folds_from"]) == ("3-fold", "dataset")
    assert done.summary == json.loads((output / "summary.json").read_text())
    report = read_report(output / "seed-1" / "report")
    assert (report.protocol.name, report.protocol.selection, report.name) == ("3-fold", "validation", "tiny seed 1")
    assert report.source == "cv/seed-1"
    pooled = read_predictions(output / "seed-1" / "predictions.parquet")
    assert report.metrics.war.value == pytest.approx(accuracy_score(pooled.truth, pooled.predicted))
    assert len(report.folds or []) == 3
    page = (output / "seed-1" / "report" / "index.html").read_text()
    assert "ray-fer crossval clips -o cv" in page
    assert "data:image/jpeg" in page, "frames of mistakes"
    assert json.loads((output / "seed-1" / "report" / "report.json").read_text())["intervals"]["unit"] == "subject"

    finish(plan.trials[-1], output)
    only = CrossValOptions(str(store), output, **changes, only=(2,), faces=False)
    assert set(cross_validate(only, say=said.append).reports) == {1, 2}
    report = read_report(output / "seed-2-only-2" / "report")
    assert report.protocol.name == "fold 2 of 3"
    assert "data:image/jpeg" not in (output / "seed-2-only-2" / "report" / "index.html").read_text()
    assert not said


def test_the_report_of_one_model_that_was_kept_is_of_that_model(
    store: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "cv"
    options = CrossValOptions(str(store), output, settings=tiny_settings(), only=(1,), faces=False)
    (trial,) = plan_cross_validation(options).trials
    finish(trial, output, bundle="kept")
    shutil.copytree(tiny_bundle, trial_folder(output, trial) / "kept")
    monkeypatch.setattr("ray_fer.training.crossval.run_trials", lambda *_: {})
    report = read_report(cross_validate(options).reports[42])
    assert (report.name, report.protocol.name) == ("tiny 0", "fold 1 of 3")
    page = (output / "seed-42-only-1" / "report" / "index.html").read_text()
    assert "left out on purpose" in page, "it could be looked into"


def test_a_report_that_cannot_be_written_costs_no_figure(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, said = tmp_path / "cv", list[str]()
    options = CrossValOptions(str(store), output, settings=tiny_settings())
    for trial in plan_cross_validation(options).trials:
        finish(trial, output)
    (output / "seed-42" / "report").mkdir(parents=True)
    (output / "seed-42" / "report" / "mine.txt").touch()
    monkeypatch.setattr("ray_fer.training.crossval.run_trials", lambda *_: {})
    done = cross_validate(options, say=said.append)
    assert "the report of seed 42 is not written" in said[0]
    assert "is no report; choose another folder" in said[0]
    assert done.reports == {}
    assert json.loads((output / "summary.json").read_text())["seeds"]["42"]["complete"]


# AU profiles


def test_profiles_are_of_the_training_clips_of_the_fold(store: Path, tmp_path: Path) -> None:
    value = {"1A": 0.1, "2A": 0.2, "3A": 0.3, "1B": 0.6, "2B": 0.7, "3B": 0.8}
    table = AuStats.read(au_table(tmp_path / "aus", store, lambda row: value[f"{row['fold']}{row['culture']}"]))
    index = read_index(store)
    for number, fold in enumerate(folds(index, "folds"), start=1):
        found = table.priors(index.where(fold.train), ["A", "B"], fold.name)
        for culture in "AB":
            of_others = [found for level, found in value.items() if level.endswith(culture) and level[0] != str(number)]
            assert found.profiles[culture] == pytest.approx([sum(of_others) / 2] * 20, abs=0.02)
        assert sum(found.clips.values()) == len(fold.train)


def test_profiles_need_all_training_clips_and_all_cultures(store: Path) -> None:
    index = read_index(store)
    names = index.column("clip_id")
    place = {name: number for number, name in enumerate(names)}
    whole = AuStats("aus", "test", 0.5, place, np.ones((CLIPS, 80), np.float32))
    with pytest.raises(ValueError, match=r"training clips of fold-1: no clip with a face for culture C"):
        whole.priors(index, ["A", "B", "C"], "fold-1")
    half = AuStats("aus", "test", 0.5, {name: place[name] for name in names[:20]}, np.ones((20, 80), np.float32))
    with pytest.raises(ValueError, match="aus: 22 of the 42 training clips of fold-1 are not in this AU table"):
        half.priors(index, ["A", "B"], "fold-1")


# The space of a search


def test_a_space_as_people_write_it() -> None:
    space = parse_space([
        "optimizer.lr=loguniform(1e-6,1e-3)", "batch_size = choice(8, 16)", "schedule.warmup=uniform(0, 0.2)",
        "epochs=randint(5,20)", "model_config_.dropout=quniform(0.1, 0.5, 0.1)", "optimizer.name=grid(adamw, 'sgd')",
        "early_stopping=choice(null, 3)", "optimizer.betas=choice((0.9, 0.999), [0.8, 0.99])",
    ])  # fmt: skip
    assert space["optimizer.lr"] == Dimension("loguniform", (1e-6, 1e-3))
    assert space["optimizer.name"].values == ("adamw", "sgd")
    assert space["early_stopping"].values == (None, 3)
    assert space["optimizer.betas"].values == ([0.9, 0.999], [0.8, 0.99])
    check_space(tiny_recipe(), space)
    assert settings_of({"optimizer.lr": 1e-3, "early_stopping": None}) == ["optimizer.lr=0.001", "early_stopping=null"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.lr", "is no search; write FIELD=KIND"),
        ("=uniform(0,1)", "is no search"),
        ("optimizer.lr=1e-3", r"that is not KIND\(...\); possible are uniform"),
        ("optimizer.lr=uniform(0,", "that is not KIND"),
        ("optimizer.lr=normal(0,1)", "unknown kind 'normal'; possible are uniform.*grid"),
        ("optimizer.lr=tune.uniform(0,1)", "that is not KIND"),
        ("optimizer.lr=uniform(low=0,high=1)", "arguments have no names here"),
        ("optimizer.lr=uniform(0)", "uniform takes 2 numbers, not 1"),
        ("optimizer.lr=uniform(1,1)", "1 is not below 1"),
        ("optimizer.lr=loguniform(0,1)", "a logarithm needs numbers above 0"),
        ("optimizer.lr=uniform(0,'x')", "uniform takes numbers"),
        ("optimizer.lr=uniform(0,true)", "uniform takes numbers"),
        ("epochs=randint(1,2.5)", "randint takes whole numbers"),
        ("optimizer.lr=quniform(0,1,0)", "a step of 0 leads nowhere"),
        ("optimizer.lr=quniform(0,1,0.3)", "must be multiples of the step"),
        ("batch_size=choice()", "there is nothing to choose from"),
        ("batch_size=choice(__import__('os').getpid())", "is no number, text, list"),
        ("batch_size=choice(1e999)", "is no number, text, list"),
    ],
)
def test_spaces_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_space([text])


def test_fields_and_values_are_checked_before_anything_starts() -> None:
    with pytest.raises(ValueError, match=r"optimizer.rate: no such field; there are name, lr"):
        check_space(tiny_recipe(), parse_space(["optimizer.rate=uniform(0,1)"]))
    with pytest.raises(ValueError, match="less than 1"):
        check_space(tiny_recipe(), parse_space(["schedule.warmup=uniform(0,2)"]))
    with pytest.raises(ValueError, match="batch_size"):
        check_space(tiny_recipe(), parse_space(["batch_size=choice(8, large)"]))
    with pytest.raises(ValueError, match="searched twice"):
        parse_space(["epochs=choice(1)", "epochs=choice(2)"])


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused_in_words(text: str) -> None:
    said = ""
    try:
        parse_space([f"epochs={text}"])
    except ValueError as error:
        said = str(error)
    assert not said or "possible are" in said or "is no search" in said


_VALUES = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
                    st.none(), st.text(st.characters(codec="ascii"), max_size=8))  # fmt: skip


@given(st.sampled_from(["choice", "grid"]), st.lists(_VALUES, min_size=1, max_size=4))
def test_what_is_printed_means_the_same(kind: str, values: list[Any]) -> None:
    dimension = Dimension(kind, tuple(values))
    assert parse_space([f"x={dimension}"]) == {"x": dimension}


@given(st.floats(1e-9, 1.0), st.floats(1.5, 1e6), st.integers(0, 2**31))
def test_draws_stay_within_their_range(low: float, factor: float, seed: int) -> None:
    np.random.seed(seed)
    for kind in ("uniform", "loguniform"):
        dimension = parse_space([f"x={kind}({low!r}, {low * factor!r})"])["x"]
        drawn = dimension.to_tune().sample()
        assert low * (1 - 1e-9) <= drawn <= low * factor * (1 + 1e-9)
        assert all(low <= one <= low * factor for one in dimension.examples())


def test_every_kind_becomes_something_of_ray_tune() -> None:
    values: dict[str, tuple[Any, ...]] = {
        kind: (1, 2, 1) if kind.startswith("q") else (1, 3) for kind in KINDS
    }  # fmt: skip
    for kind in KINDS:
        domain = Dimension(kind, values[kind]).to_tune()
        assert domain == {"grid_search": [1, 3]} if kind == "grid" else 1 <= domain.sample() <= 3


# The search


def test_a_search_sees_no_test_clip(tmp_path: Path) -> None:
    whole = read_index(colour_store(tmp_path / "store", {"train": 42, "test": 14}, folds=3))
    clips, _ = search_clips(whole, tiny_recipe(), SearchOptions("store", tmp_path, ("epochs=choice(1)",)))
    seen = {*clips.train.column("split"), *clips.val.column("split")}
    assert seen == {"train"}
    options = SearchOptions("store", tmp_path, ("epochs=choice(1)",), fold="2")
    clips, _ = search_clips(whole, tiny_recipe(), options)
    assert {*clips.train.column("fold"), *clips.val.column("fold")} == {1, 3}
    with pytest.raises(ValueError, match="no fold '9'; there are 1, 2, 3"):
        search_clips(whole, tiny_recipe(), SearchOptions("store", tmp_path, ("epochs=choice(1)",), fold="9"))


def test_the_best_settings_are_arguments() -> None:
    rows = [
        {"trial": "a", "settings": {"optimizer.lr": 1e-4}, "value": 0.3, "epoch": 2, "epochs": 3},
        {"trial": "b", "settings": {"optimizer.lr": 1e-3, "augment": "x"}, "value": 0.5, "epoch": 1, "epochs": 3},
        {"trial": "c", "settings": {"optimizer.lr": 1.0}, "value": None, "epoch": None, "epochs": 0},
    ]  # fmt: skip
    found = outcome(rows, tiny_recipe())
    assert [row["trial"] for row in found["trials"]] == ["b", "a", "c"]
    assert found["best"]["arguments"] == "--set optimizer.lr=0.001 --set 'augment=\"x\"'"
    assert outcome(rows, tiny_recipe("monitor=loss"))["best"]["trial"] == "a"
    assert outcome(rows[2:], tiny_recipe())["best"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"aus": "a", "priors": Path("p")}, "give --aus .* or --priors"),
        ({"seeds": (1, 1)}, "give each seed once"),
        ({"parallel": 0}, "give 1 or more"),
        ({"by_subject": True}, "--by-subject goes with a number of folds"),
        ({"protocol": "fixed", "only": (1,)}, "--only chooses folds, and protocol fixed has none"),
        ({"settings": ("epoch=3",)}, "epoch: no such field"),
    ],
)
def test_options_of_a_cross_validation_that_do_not_go_together(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CrossValOptions("store", Path("out"), **options).check()
