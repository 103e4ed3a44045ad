"""Options and recipes: what goes together, what is refused, and that a card repeats its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from ray_fer.training.progress import append, follow, progress_line
from ray_fer.training.recipe import RECIPES, Recipe, cafer
from ray_fer.training.run import TrainOptions


def test_cafer_has_the_papers_values() -> None:
    recipe = cafer()
    assert (recipe.learning_rate, recipe.batch_size, recipe.gradient_clip) == (1e-5, 8, 1.0)
    assert (recipe.label_smoothing, recipe.focal_gamma) == (0.1, 2.0)
    assert recipe.model_config_["embedding_dim"] == 128
    assert (recipe.transform.size, recipe.transform.frames, recipe.transform.zoom) == (224, 16, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name]()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_typos_and_nonsense_in_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="learnin_rate"):
        Recipe.model_validate({"name": "x", "learnin_rate": 1.0})
    with pytest.raises(ValidationError, match="greater than 0"):
        Recipe(name="x", learning_rate=-1.0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"recipe": "sota"}, "unknown recipe 'sota'"),
        ({}, "either --store"),
        ({"store": Path("s"), "synthfer": "demo"}, "either --store"),
        ({"synthfer": "huge"}, "unknown SynthFER size"),
        ({"store": Path("s")}, "needs --priors"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrainOptions(output=Path("out"), **{"recipe": "cafer-small", **options}).check()  # type: ignore[arg-type]


def test_the_command_of_the_card_repeats_the_run() -> None:
    options = TrainOptions(output=Path("my model"), synthfer="demo", seed=7, work=Path("/tmp/w"))
    assert options.command() == "python jobs/train_cafer.py --synthfer demo --seed 7 --output 'my model'"
    assert options.resolved().seed == 7


def test_progress_is_followed_line_by_line(tmp_path: Path) -> None:
    path, heard = tmp_path / "runs" / "p.jsonl", []
    path.parent.mkdir()
    with follow(path, heard.append):
        append(path, {"epoch": 1, "loss": 1.5, "clips_per_s": 10.0})
        append(path, {"epoch": 2, "loss": 1.25, "clips_per_s": 10.0, "val_uar": 0.5, "val_war": 0.25})
    assert [line["epoch"] for line in heard] == [1, 2]
    assert progress_line(heard[1], 9) == "epoch 2/9  loss 1.250  10.0 clips/s  val UAR 0.500  WAR 0.250"
    assert json.loads(path.read_text().splitlines()[0])["loss"] == 1.5
