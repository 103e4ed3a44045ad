"""Options: what goes together, what is refused, that a card repeats its run, and folders of earlier runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray_fer.preprocessing.store_index import read_index
from ray_fer.training.bundles import model_arguments
from ray_fer.training.fit import check_model, prepare_run
from ray_fer.training.parts import classes_of, cultures_of, held_out
from ray_fer.training.run import Keeping, TrainOptions
from tests.clip_stores import colour_store
from tests.training_runs import tiny_recipe, training_clips


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": 70, "val": 14})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"recipe": "sota", "synthfer": "demo"}, "unknown recipe 'sota'"),
        ({}, "either --store"),
        ({"store": "s", "synthfer": "demo"}, "either --store"),
        ({"synthfer": "huge"}, "unknown SynthFER size"),
        ({"store": "s", "settings": ("epoch=3",)}, "no such field"),
        ({"synthfer": "demo", "keeping": Keeping(Path("r"), resume=True)}, "needs the --work folder"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrainOptions(output=Path("out"), **options).check()  # type: ignore[arg-type]


def test_the_command_of_the_card_repeats_the_run() -> None:
    options = TrainOptions(output=Path("my model"), synthfer="demo", settings=("seed=7",), work=Path("/tmp/w"))
    expected = "python jobs/train_cafer.py --synthfer demo --output 'my model' --set seed=7"
    assert options.command() == expected
    assert options.resolved().seed == 7
    assert options.resolved().epochs == 25, "what SynthFER of that size needs"


def test_a_run_s_folder_is_not_taken_by_mistake(store: Path, tmp_path: Path) -> None:
    clips, folder = training_clips(store), tmp_path / "run"
    assert not prepare_run(folder, tiny_recipe(), clips)
    with pytest.raises(FileExistsError, match="go on with --resume, start anew with --overwrite"):
        prepare_run(folder, tiny_recipe(), clips)
    assert prepare_run(folder, tiny_recipe("workers=4"), clips, resume=True), "how many workers is free"
    with pytest.raises(FileExistsError, match="batch_size was 8 and is 16"):
        prepare_run(folder, tiny_recipe("batch_size=16"), clips, resume=True)
    fewer = replace(clips, train=clips.train.where(lambda row: row["clip_id"] != "train-0000"))
    with pytest.raises(FileExistsError, match="the clips are others"):
        prepare_run(folder, tiny_recipe(), fewer, resume=True)
    assert not prepare_run(folder, tiny_recipe("batch_size=16"), clips, overwrite=True)


def test_somebody_s_folder_is_left_alone(store: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="not the folder of a training run"):
        prepare_run(tmp_path, tiny_recipe(), training_clips(store), overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_held_out_clips_are_of_other_subjects_and_of_all_labels(store: Path) -> None:
    train = read_index(store).split("train")
    rest, val = held_out(train, 0.2)
    assert len(rest) + len(val) == len(train)
    assert not set(rest.column("subject_id")) & set(val.column("subject_id"))
    assert set(val.column("label")) == set(train.column("label"))
    again = held_out(train, 0.2)[1]
    assert again.column("clip_id") == val.column("clip_id")


def test_nothing_may_be_held_out_where_nothing_is_chosen(store: Path) -> None:
    train = read_index(store).split("train")
    assert [one.column("clip_id") for one in held_out(train, 0.0)] == [train.column("clip_id")] * 2
    with pytest.raises(ValueError, match=r"with val_share 0 nothing is held out to choose an epoch .* select=last"):
        tiny_recipe("val_share=0")
    assert tiny_recipe("val_share=0", "select=last", "early_stopping=null").val_share == 0


def test_one_subject_cannot_be_held_out(store: Path) -> None:
    one = read_index(store).where(lambda row: row["subject_id"] == "train-0")
    with pytest.raises(ValueError, match="leave none for validation"):
        held_out(one)


def test_classes_and_cultures_come_from_the_clips(store: Path, tmp_path: Path) -> None:
    index = read_index(store)
    assert classes_of(index)[:2] == ["Angry", "Disgust"]
    assert cultures_of(index) == ["A", "B"]
    few = colour_store(tmp_path / "micro", {"train": 9}, classes=("Negative", "Positive", "Surprise"))
    assert classes_of(read_index(few)) == ["Negative", "Positive", "Surprise"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["model_config_.layers=3"], "model cafer: .*layers.*; see model_config_ of recipe tiny"),
        (["model_config_.conditioning=au"], "needs AU profiles: run `ray-fer priors`"),
        (['optimizer.groups=[{"match": "head"}]'], "no parameter's name matches 'head'"),
    ],
)
def test_a_model_that_cannot_be_made_is_told_at_once(store: Path, settings: list[str], reason: str) -> None:
    recipe, clips = tiny_recipe(*settings), training_clips(store)
    with pytest.raises(ValueError, match=reason):
        check_model(recipe, model_arguments(recipe, clips, None), clips.train)
