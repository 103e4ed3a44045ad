"""From clips to a table of the papers, with trials that answer at once instead of training."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from ray_fer.action_units.profiles import Priors
from ray_fer.evaluation.predictions import Predictions
from ray_fer.evaluation.published_tables import table, tables
from ray_fer.evaluation.tables import SYNTHETIC
from ray_fer.labels import EXPRESSIONS, MICRO_EXPRESSIONS
from ray_fer.models.cafer import CONDITIONINGS
from ray_fer.training.crossval import News
from ray_fer.training.reproduce import Reproduced, reproduce
from ray_fer.training.reproduce_plan import QUICK, ReproduceOptions
from ray_fer.training.synthfer import Rendered, SynthFerSize
from ray_fer.training.systems import can_be_made, refusal, reproducible, why_not
from ray_fer.training.trial import Trial, TrialKeeping, finished
from tests.clip_stores import au_table, colour_store
from tests.finished_trials import answers, finish
from tests.training_runs import tiny_settings

CLIPS = 70
FIGURE_7 = ("Culture-agnostic baseline", "Global prior", "Culture-specific priors")


@pytest.fixture(scope="module")
def dfew(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("dfew") / "store", {"train": CLIPS}, folds=5, dataset="dfew")


@pytest.fixture(scope="module")
def aus(dfew: Path) -> str:
    return levels(dfew.parent / "aus", dfew)


def levels(folder: Path, store: Path) -> str:
    return au_table(folder, store, lambda row: {"A": 0.2, "B": 0.6}[row["culture"]])


def every(trial: Trial) -> int:
    """Of so many answers of a trial one is wrong: the better its system, the fewer."""
    return {"none": 2, "global": 3}.get(trial.recipe.model_config_.get("conditioning", ""), 5)


class Trials:
    """Takes the place of `run_trials`: remembers what was tried, and fails what it is told to fail."""

    def __init__(self) -> None:
        self.tried: list[Trial] = []
        self.failing: Callable[[Trial], bool] = lambda _: False

    def __call__(
        self,
        trials: list[Trial],
        folders: list[Path],
        parallel: int | None,
        keeping: TrialKeeping,
        watch: Callable[[News], None],
        say: Callable[[str], None],
    ) -> dict[str, str]:
        failed = {}
        for number, (trial, folder) in enumerate(zip(trials, folders, strict=True), start=1):
            if finished(trial, folder) is not None:
                continue
            self.tried.append(trial)
            if self.failing(trial):
                failed[trial.name] = "a worker died"
                continue
            finish(trial, folder.parents[1], every(trial))
            watch(News(trial.name, "finished", "", number, len(trials)))
        return failed


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    fake = Trials()
    monkeypatch.setattr("ray_fer.training.crossval.run_trials", fake)
    monkeypatch.setattr("ray_fer.training.crossval.write_reports", lambda *_: {})  # tested in test_crossval
    return fake


def options(name: str, data: Path | str, output: Path, **more: Any) -> ReproduceOptions:
    return ReproduceOptions(name, str(data), output, settings=tiny_settings(system=False), **more)


def row(made: Reproduced, name: str) -> dict[str, Any]:
    return next(one for block in made.table.blocks for one in block.rows if one["Row"].text == name)


def texts(made: Reproduced) -> dict[str, str]:
    return {path.suffix: path.read_text() for path in made.files if path.suffix != ".png"}


def figures(made: list[Predictions]) -> list[float]:
    return [100 * float(balanced_accuracy_score(one.truth, one.predicted)) for one in made]


def test_each_row_has_our_figure_beside_the_published(dfew: Path, aus: str, tmp_path: Path, trials: Trials) -> None:
    said, heard = list[str](), list[News]()
    made = reproduce(options("cafer-figure-7", dfew, tmp_path / "out", aus=aus), heard.append, said.append)
    assert len(trials.tried) == 15
    assert [(news.done, news.total) for news in heard] == [(number, 15) for number in range(1, 16)]
    assert [line for line in said if line.startswith("system ")] == [
        "system 1 of 3: Culture-Agnostic ViViT", "system 2 of 3: CA-FER, global prior", "system 3 of 3: CA-FER",
    ]  # fmt: skip
    for name, conditioning, published in zip(FIGURE_7, ("none", "global", "au"), (53.14, 58.9, 63.93), strict=True):
        mine = [one for one in trials.tried if one.recipe.model_config_["conditioning"] == conditioning]
        uars = figures([answers(one, every(one)) for one in mine])
        cells = row(made, name)
        assert cells["UAR here"].value == pytest.approx(np.mean(uars))
        assert cells["UAR here"].std == pytest.approx(np.std(uars, ddof=1))
        assert cells["UAR published"].value == published
        assert cells["UAR difference"].value == pytest.approx(np.mean(uars) - published)
        assert all(one.recipe.tell_culture for one in mine)
        assert all(one.priors is not None for one in mine)
    files = texts(made)
    assert set(files) == {".md", ".tex", ".csv", ".json"}
    assert "53.14" in files[".md"]
    assert "Here: 5-fold, epoch chosen on: validation." in files[".md"]
    assert ". 5-fold, epoch chosen on: not stated" in files[".md"], "the paper's selection"
    assert "were tested here, 11697 in the paper" in files[".md"]
    assert json.loads(files[".json"])["systems"][1]["title"] == "CA-FER, global prior"
    assert made.failed == {}


def test_tables_share_their_systems_and_a_second_run_trains_nothing(
    dfew: Path, aus: str, tmp_path: Path, trials: Trials
) -> None:
    made = reproduce(options("cafer-figure-7", dfew, tmp_path, aus=aus, rows=FIGURE_7[:1]), say=lambda _: None)
    assert (len(trials.tried), len(made.table.blocks[0].rows)) == (5, 1)
    again = reproduce(options("cafer-figure-6", dfew, tmp_path, aus=aus), say=lambda _: None)
    others = ("onehot", "heads", "au")
    assert [one.recipe.model_config_["conditioning"] for one in trials.tried[5:]] == [
        n for n in others for _ in "12345"
    ]
    assert {path.name for path in (tmp_path / "systems").iterdir()} == {
        f"dfew-cafer-conditioning-{name}" for name in ("none", *others)
    }
    assert row(again, "Culture-agnostic baseline")["UAR here"] == row(made, "Culture-agnostic baseline")["UAR here"]
    reproduce(options("cafer-figure-6", dfew, tmp_path, aus=aus), say=lambda _: None)
    assert len(trials.tried) == 20
    changed = options("cafer-figure-6", dfew, tmp_path, aus=aus)
    with pytest.raises(FileExistsError, match="epochs was 1 and is 2"):
        reproduce(replace(changed, settings=(*changed.settings, "epochs=2")), say=lambda _: None)
    assert len(trials.tried) == 20


def test_one_fold_by_class_where_a_table_has_two_datasets(dfew: Path, aus: str, tmp_path: Path, trials: Trials) -> None:
    made = reproduce(options("cafer-table-6", dfew, tmp_path, aus=aus), say=lambda _: None)
    (trial,) = trials.tried
    assert (trial.fold, set(trial.test.column("fold"))) == ("fold-2", {2})
    found = answers(trial, every(trial))
    precision, recall, f1, support = precision_recall_fscore_support(found.truth, found.predicted, labels=range(7))
    here = {one["Row"].text: one for one in made.table.blocks[0].rows}
    assert list(here) == list(EXPRESSIONS)
    for place, name in enumerate(EXPRESSIONS):
        cells = here[name]
        assert cells["DFEW Precision"].value == pytest.approx(100 * precision[place])
        assert cells["DFEW Recall"].value == pytest.approx(100 * recall[place])
        assert cells["DFEW F1"].value == pytest.approx(100 * f1[place])
        assert cells["DFEW Samples"].value == support[place]
        assert "GCC-FER Recall" not in cells
    assert any("nothing here for GCC-FER Precision" in note for note in made.table.notes)
    assert [block.published for block in made.table.blocks] == [False, True, False]


def test_a_system_that_fails_is_left_out(dfew: Path, aus: str, tmp_path: Path, trials: Trials) -> None:
    trials.failing = lambda one: one.fold == "fold-3" and one.recipe.model_config_["conditioning"] == "global"
    chosen = options("cafer-figure-7", dfew, tmp_path, aus=aus, rows=FIGURE_7[:2])
    made = reproduce(chosen, say=lambda _: None)
    assert made.failed == {"CA-FER, global prior, fold-3-seed-42": "a worker died"}
    assert row(made, "Global prior")["UAR here"].value is None
    assert row(made, "Culture-agnostic baseline")["UAR here"].value is not None
    assert "CA-FER, global prior, fold-3-seed-42 failed: a worker died." in texts(made)[".md"]
    trials.failing = lambda _: False
    made = reproduce(chosen, say=lambda _: None)
    assert len(trials.tried) == 11
    assert row(made, "Global prior")["UAR here"].value is not None


def test_folds_are_made_where_the_clips_have_none(tmp_path: Path, trials: Trials) -> None:
    store = colour_store(tmp_path / "store", {"train": CLIPS}, dataset="dfew")
    made = reproduce(options("cafer-figure-7", store, tmp_path / "out"), say=lambda _: None)
    assert len(trials.tried) == 5, "without AU profiles only the baseline can be trained"
    assert "five were made here, stratified by expression x culture" in texts(made)[".md"]
    assert "Global prior is not trained: this conditioning needs AU profiles" in texts(made)[".md"]


def published_figures(name: str) -> list[str]:
    numbers = [value for one in table(name).rows for value in one.values.values() if isinstance(value, float)]
    assert numbers
    return [text for number in numbers for text in (f"{number:.2f}", str(number))]


def check_alone(made: Reproduced, name: str) -> None:
    for text in texts(made).values():
        numbers = set(re.findall(r"\d+\.\d+", text))
        assert not [number for number in published_figures(name) if number in numbers]
    assert not [column for column in made.table.columns if "published" in column]
    assert not [block for block in made.table.blocks if block.published]


def test_another_dataset_is_refused_or_has_a_table_of_its_own(tmp_path: Path, aus: str, trials: Trials) -> None:
    store = colour_store(tmp_path / "store", {"train": CLIPS}, folds=3, dataset="mafw")
    with pytest.raises(ValueError, match="the clips are of mafw, and cafer-figure-7 is about DFEW; give a clip store"):
        reproduce(options("cafer-figure-7", store, tmp_path / "out"), say=lambda _: None)
    assert not (tmp_path / "out").exists()
    more = {"aus": levels(tmp_path / "aus", store), "any_dataset": True}
    made = reproduce(options("cafer-figure-7", store, tmp_path / "out", **more), say=lambda _: None)
    check_alone(made, "cafer-figure-7")
    assert made.table.columns == ["Row", "Settings", "UAR"]
    assert [one["Settings"].text for one in made.table.blocks[0].rows] == [
        f"cafer: conditioning={name}" for name in ("none", "global", "au")
    ]
    assert "Here: 3-fold" in texts(made)[".md"]
    by_culture = reproduce(options("cafer-table-5", store, tmp_path / "out", **more), say=lambda _: None)
    check_alone(by_culture, "cafer-table-5")
    assert [one["Row"].text for one in by_culture.table.blocks[0].rows] == ["A", "B"]
    assert sum(one["clips"].value for one in by_culture.table.blocks[0].rows) == CLIPS


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, SynthFerSize, str]]:
    """Stands for rendering SynthFER; (strength, size, folder) of what was rendered."""
    asked: list[tuple[float, SynthFerSize, str]] = []

    def render(size: SynthFerSize, recipe: Any, work: Path, say: Any, strength: float, preset: str) -> Rendered:
        asked.append((strength, size, work.name))
        frames = recipe.transform.frames
        more: dict[str, Any] = {"scene": preset == "scene"}
        if preset == "micro":
            more |= {"flow": True, "classes": MICRO_EXPRESSIONS, "subjects": 6}
        store = colour_store(work / "clips", {"train": CLIPS}, frames=frames, dataset="synthfer", **more)
        priors = Priors(extractor="", cultures=[], clips={}, profiles={}, normalised={}, global_profile=[], anova=[])
        return Rendered(str(store), levels(work / "aus", store), priors, {}, {}, 1.0 if strength < 1 else 0.43)

    monkeypatch.setattr("ray_fer.training.reproduce.synthfer_clips", render)
    return asked


@pytest.mark.parametrize("name", ["cafer-figure-7", "cafer-table-6"])
def test_a_table_of_synthfer_has_a_column_for_each_strength_and_no_published_figure(
    name: str, tmp_path: Path, trials: Trials, rendered: list[tuple[float, SynthFerSize, str]]
) -> None:
    made = reproduce(ReproduceOptions(name, "synthfer", tmp_path, quick=True, seeds=(2,)), say=lambda _: None)
    assert rendered == [(strength, QUICK.size("balanced"), f"strength-{strength:g}") for strength in (0, 0.5, 1)]
    check_alone(made, name)
    assert all(SYNTHETIC in text for suffix, text in texts(made).items() if suffix not in (".tex", ".png"))
    assert "compare to nothing published" in texts(made)[".tex"]
    assert made.table.title == f"SynthFER (synthetic): the systems of {name}"
    assert made.table.columns[-3:] == ["strength 0", "strength 0.5", "strength 1"]
    assert any("at most 100.0 at strength 0, 100.0 at strength 0.5, 43.0 at strength 1" in n for n in made.table.notes)
    figure_of = 3 if name == "cafer-figure-7" else 1
    assert len(trials.tried) == 3 * figure_of * QUICK.folds, "all folds, where the paper has one"
    for trial in trials.tried:
        assert (trial.recipe.name, trial.recipe.in_process, trial.recipe.select) == ("cafer-quick", True, "last")
        assert not set(trial.test.column("subject_id")) & set(trial.clips.train.column("subject_id"))
    assert (tmp_path / f"{name}.png").is_file() == (name == "cafer-figure-7")
    systems = {path.name for path in (tmp_path / "systems").iterdir()}
    assert "synthfer-strength-0.5-cafer-conditioning-au" in systems


def test_where_no_model_knows_culture_one_strength_is_enough(
    tmp_path: Path, trials: Trials, rendered: list[tuple[float, SynthFerSize, str]]
) -> None:
    made = reproduce(ReproduceOptions("hdf-table-3", "synthfer", tmp_path, quick=True), say=lambda _: None)
    assert [(strength, folder) for strength, _, folder in rendered] == [(0.5, "strength-0.5")]
    tried = {(one.recipe.model_config_["dam"], one.recipe.model_config_["dsm"]) for one in trials.tried}
    assert tried == {("none", False), ("both", False), ("none", True), ("both", True)}
    assert made.table.columns[-1:] == ["strength 0.5"]


def test_a_table_whose_models_read_scenes_is_made_on_clips_with_scenes(
    tmp_path: Path, trials: Trials, rendered: list[tuple[float, SynthFerSize, str]]
) -> None:
    made = reproduce(ReproduceOptions("ous-table-5", "synthfer", tmp_path, quick=True), say=lambda _: None)
    assert [(strength, folder) for strength, _, folder in rendered] == [(0.5, "scene-strength-0.5")]
    streams = [one.recipe.model_config_.get("streams", "both") for one in trials.tried]
    assert streams.count("face") == QUICK.folds * len(QUICK.seeds), "a row that the paper does not have"
    assert row(made, "Face alone")["strength 0.5"].value is not None
    assert any("synthfer-scene-strength-0.5" in path.name for path in (tmp_path / "systems").iterdir())


def test_a_table_of_micro_expressions_leaves_one_subject_out_of_clips_with_flow(
    tmp_path: Path, trials: Trials, rendered: list[tuple[float, SynthFerSize, str]]
) -> None:
    chosen = ReproduceOptions("ethnicmer-table-5", "synthfer", tmp_path, quick=True, strengths=(0.0, 1.0))
    made = reproduce(chosen, say=lambda _: None)
    assert rendered == [(s, QUICK.size("micro"), f"micro-strength-{s:g}") for s in (0, 1)]
    assert all(len(set(one.test.column("subject_id"))) == 1 for one in trials.tried)
    assert len(trials.tried) == 2 * 4 * 6, "strengths, rows and subjects"
    assert {one.recipe.name for one in trials.tried} == {"ethnicmer-quick"}
    labels = [block.label for block in made.table.blocks]
    assert labels == ["Negative F1", "Positive F1", "Surprise F1", "macro F1", "macro F1 less that of ResNet-18"]
    assert len(made.table.blocks[-1].rows) == 3
    assert any("over draws of subjects" in note for note in made.table.notes)


def test_table_3_of_synthfer_has_all_conditionings(
    tmp_path: Path, trials: Trials, rendered: list[tuple[float, SynthFerSize, str]]
) -> None:
    chosen = ReproduceOptions("cafer-table-3", "synthfer", tmp_path, quick=True, strengths=(1.0,), seeds=(7,))
    made = reproduce(chosen, say=lambda _: None)
    tried = {(one.recipe.model, one.recipe.model_config_.get("conditioning")) for one in trials.tried}
    assert {conditioning for model, conditioning in tried if model == "cafer"} == set(CONDITIONINGS)
    assert len({model for model, _ in tried} - {"cafer"}) >= 3
    assert all(one.recipe.tell_culture for one in trials.tried if one.recipe.model == "cafer")
    assert row(made, "Global prior")["strength 1"].value is not None
    assert "cafer-quick: backbone r3d_18, 8 frames of 32 px, 16 epochs, from nothing." in made.table.notes


def test_clips_are_counted_without_training(tmp_path: Path, trials: Trials) -> None:
    store = colour_store(
        tmp_path / "store", {"train": 70}, dataset="gccfer", cultures=("African", "Caucasian", "East Asian")
    )  # fmt: skip
    made = reproduce(options("cafer-table-2", store, tmp_path / "out"), say=lambda _: None)
    here = {one["Row"].text: one for one in made.table.blocks[0].rows}
    assert here["Total"]["Total"].value == 70
    assert here["Total"]["Happy"].value == 10
    assert here["South Asian"]["Total"].value == 0
    assert sum(here[name]["Fear"].value for name in ("African", "Caucasian", "East Asian")) == 10
    assert {one["Row"].text: one for one in made.table.blocks[2].rows}["Total"]["Happy"].value == 10 - 5424
    assert trials.tried == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("cafer-figure-8", {}, "no published table 'cafer-figure-8'; there are cafer-table-2"),
        (
            "cafer-figure-7",
            {"rows": ("CA-FER",)},
            "cafer-figure-7 has no row 'CA-FER'; there are Culture-agnostic base",
        ),
        ("eila-table-4", {}, "counts other things than clips by expression; tables that can be made: cafer-table-2"),
        ("cafer-figure-7", {"recipe": "sota"}, "unknown recipe 'sota'"),
        ("cafer-figure-7", {"settings": ("epoch=3",)}, "epoch: no such field; there are name"),
        ("cafer-figure-7", {"data": "synthfer", "aus": "x"}, "makes AU profiles of its own"),
        ("cafer-figure-7", {"quick": True}, "--quick is a small form of --data synthfer"),
        ("cafer-figure-7", {"data": "synthfer", "strengths": (1.0, 1.0)}, "give each once"),
        ("cafer-figure-7", {"data": "synthfer", "strengths": (1.5,)}, "strength 1.5 is not between 0"),
        (
            "cafer-figure-7",
            {"rows": FIGURE_7[1:]},
            "no row .* can be trained on .*Global prior, Culture-specific priors: ",
        ),
    ],
)
def test_what_cannot_work_is_said_first(
    name: str, change: dict[str, Any], said: str, dfew: Path, tmp_path: Path, trials: Trials
) -> None:
    with pytest.raises(ValueError, match=said):
        reproduce(replace(options(name, dfew, tmp_path / "out"), **change), say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_somebody_elses_folder_and_other_folds_are_refused(dfew: Path, tmp_path: Path, trials: Trials) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is not the folder of reproduced tables"):
        reproduce(options("cafer-figure-7", dfew, tmp_path))
    three = colour_store(tmp_path / "store", {"train": CLIPS}, folds=3, dataset="DFEW")
    with pytest.raises(ValueError, match="the clips have 3 folds, and the paper five"):
        reproduce(options("cafer-figure-7", three, tmp_path / "out"))


def test_what_this_version_can_make() -> None:
    assert can_be_made(table("cafer-figure-7")) == list(FIGURE_7)
    assert can_be_made(table("cafer-table-2"))[-1] == "Total"
    assert can_be_made(table("eila-table-4")) == []
    assert set(reproducible()) <= {one.id for one in tables()}
    rows = {one.name: one for one in (*table("eila-table-5").rows, *table("cafer-section-5-c-2").rows)}
    assert refusal(rows["EiLA only"]) is None
    for name in ("eila-table-3", "eila-table-5", "eila-table-6", "ethnicmer-table-4"):
        assert can_be_made(table(name)) == [row.name for row in table(name).rows]
        assert why_not(table(name)) == {}
        assert name in reproducible()
    unheard = rows["ViViT"].model_copy(update={"model": "sota"})
    assert "sota is not among this version's models" in str(refusal(unheard))
    assert can_be_made(table("ethnicmer-table-5")) == [row.name for row in table("ethnicmer-table-5").rows]
    assert refusal(rows["ViViT"]) is None
    wrong = rows["ViViT"].model_copy(update={"settings": {"model_config_.backbone": "resnet"}})
    assert "cafer: backbone=resnet is refused: unknown backbone 'resnet'" in str(refusal(wrong))
