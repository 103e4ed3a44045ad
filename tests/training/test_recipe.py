"""Recipes: the papers' values, what is refused, and changes from the command line."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import RECIPES, recipe
from ray_fer.training.recipes.cafer import cafer


def test_cafer_has_the_papers_values() -> None:
    made = cafer()
    assert (made.optimizer.name, made.optimizer.lr, made.batch_size) == ("adamw", 1e-5, 8)
    assert (made.optimizer.gradient_clip, made.early_stopping) == (1.0, 7)
    assert (made.loss.smoothing, made.loss.gamma) == (0.1, 2.0)
    assert made.model_config_["embedding_dim"] == 128
    assert (made.transform.size, made.transform.frames, made.transform.zoom) == (224, 16, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    made = recipe(name)
    assert Recipe.model_validate_json(made.model_dump_json()) == made


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'sota'; expected one of cafer, cafer-small"):
        recipe("sota")


def test_settings_change_fields_of_every_kind() -> None:
    settings = [
        "optimizer.lr=3e-4", "epochs=3", "augment=null", "model_config_.dropout=0.5", "precision=bf16",
        "workers=[1, 4]", "compile=true", "model_config_.vivit.dim=96", "schedule.name=cosine",
    ]  # fmt: skip
    made = overridden(recipe("cafer-small"), settings)
    assert (made.optimizer.lr, made.epochs, made.augment, made.precision) == (3e-4, 3, None, "bf16")
    assert made.model_config_["dropout"] == 0.5
    assert made.model_config_["vivit"]["dim"] == 96
    assert made.model_config_["vivit"]["patch"] == 8, "its neighbours stay"
    assert made.worker_range == (1, 4)
    assert made.compile
    assert recipe("cafer-small").model_config_["dropout"] == 0.2, "the recipe itself is not changed"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("optimizer.learning_rate=1", "no such field; there are name, lr, weight_decay"),
        ("optimiser.lr=1", "optimiser: no such field; there are name, model,"),
        ("epochs", "sets nothing; write FIELD=VALUE"),
        ("epochs.x=1", "epochs is 18 and has no fields"),
        ("epochs=many", "valid integer"),
        ("optimizer.lr=-1", "greater than 0"),
        ("workers=[3, 2]", "the fewest and the most"),
        ("optimizer.name=lion", "adamw"),
    ],
)
def test_settings_that_cannot_be_meant(setting: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        overridden(recipe("cafer-small"), [setting])


def test_typos_in_recipes_are_refused() -> None:
    with pytest.raises(ValidationError, match="learnin_rate"):
        Recipe.model_validate({"name": "x", "learnin_rate": 1.0})
