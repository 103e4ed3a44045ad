"""A model and a recipe so small that training them takes seconds; for tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray_fer.models.transform import TransformConfig
from ray_fer.preprocessing.store_index import read_index
from ray_fer.training.fit import TrainingClips
from ray_fer.training.parts import classes_of, cultures_of
from ray_fer.training.recipe import OptimizerConfig, Recipe, overridden

TINY_MODEL: dict[str, Any] = {
    "conditioning": "none",
    "dropout": 0.0,
    "vivit": {
        "size": 32, "patch": 8, "frames": 4, "tubelet": 2, "dim": 16, "spatial_depth": 1, "temporal_depth": 1,
        "heads": 2, "mlp_dim": 32,
    },
}  # fmt: skip


def tiny_recipe(*settings: str) -> Recipe:
    """CA-FER with 12,000 parameters, for stores of `tests.clip_stores.colour_store`; without dropout."""
    recipe = Recipe(
        name="tiny", model="cafer", model_config_=TINY_MODEL, epochs=3, batch_size=8, cpus_per_worker=0.5,
        transform=TransformConfig(frames=4, canvas=32, size=32), optimizer=OptimizerConfig(lr=3e-3),
    )  # fmt: skip
    return overridden(recipe, settings)


def tiny_settings(system: bool = True, **changes: Any) -> tuple[str, ...]:
    """What makes any recipe of CA-FER the tiny one, with one epoch on one worker.

    Without `system` it stays how the model is conditioned, and whether it is told the culture of test clips.
    """
    fields = tiny_recipe().model_dump(mode="json") | {"epochs": 1, "workers": 1, "cpus_per_worker": 1} | changes
    fields |= {f"model_config_.{name}": value for name, value in fields.pop("model_config_").items()}
    left = () if system else ("tell_culture", "model_config_.conditioning")
    return tuple(f"{name}={json.dumps(value)}" for name, value in fields.items() if name not in left)


def training_clips(store: Path) -> TrainingClips:
    """Splits "train" and "val" of a store."""
    index = read_index(store)
    return TrainingClips(index.split("train"), index.split("val"), classes_of(index), cultures_of(index))
