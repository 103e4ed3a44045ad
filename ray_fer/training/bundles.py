"""A trained model, with its priors, test figures and card, as a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

import ray_fer
from ray_fer.action_units.profiles import Priors
from ray_fer.bundle import BundleConfig, save_bundle
from ray_fer.evaluation.infer import predict_clips
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions
from ray_fer.models import takes
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.card import model_card
from ray_fer.training.fit import Fitted, TrainingClips
from ray_fer.training.recipe import Recipe

_NEUTRAL = "Neutral"  # the class that NR-DFERNet's filter is about


@dataclass(frozen=True)
class Written:
    """A bundle's folder, and the model's answers to the test clips, if there are any."""

    path: Path
    test: Predictions | None


def model_arguments(recipe: Recipe, clips: TrainingClips, priors: Priors | None) -> dict[str, Any]:
    """The model's keyword arguments: the recipe's, and what data and transform decide (classes, input, priors)."""
    decided: dict[str, Any] = {
        **recipe.model_inputs, "classes": len(clips.classes), "cultures": len(clips.cultures),
        "class_names": clips.classes, "neutral": clips.classes.index(_NEUTRAL) if _NEUTRAL in clips.classes else None,
    }  # fmt: skip
    if priors is not None:
        decided["profiles"] = [priors.normalised[name] for name in clips.cultures]
        decided["global_profile"] = priors.global_profile
    return dict(recipe.model_config_) | {name: value for name, value in decided.items() if takes(recipe.model, name)}


def bundle_config(name: str, recipe: Recipe, clips: TrainingClips, priors: Priors | None) -> BundleConfig:
    """config.json of a model of that recipe."""
    return BundleConfig(
        name=name, version=ray_fer.__version__, model=recipe.model,
        model_config_=model_arguments(recipe, clips, priors), classes=clips.classes, cultures=clips.cultures,
        preprocessing=recipe.transform, recipe=json.loads(recipe.model_dump_json()),
    )  # fmt: skip


def write_bundle(
    output: Path,
    recipe: Recipe,
    clips: TrainingClips,
    fitted: Fitted,
    priors: Priors | None,
    command: str,
    test: ClipIndex | None,
    more: dict[str, Any] | None = None,
) -> Written:
    """Write the bundle, test it on `test` on the current Ray, and note the figures in it; `more` are further metrics.

    `command` goes into the model card: the one line that makes this bundle again.
    """
    config = bundle_config(output.name, recipe, clips, priors)
    metrics: dict[str, Any] = {
        "training": {name: value for name, value in fitted.metrics.items() if isinstance(value, int | float)},
        "ended": fitted.reason,
        "training_seconds": fitted.seconds,
        "clips": {"train": len(clips.train), "val": len(clips.val)},
        "parameters": sum(one.numel() for one in fitted.model.parameters()),
        "seed": recipe.seed,
        "versions": {"ray_fer": ray_fer.__version__, "ray": ray.__version__, "torch": torch.__version__},
        **(more or {}),
    }

    profiles = None if priors is None else priors.model_dump()

    def save(card: str) -> Path:
        return save_bundle(output, config, fitted.model, metrics, profiles, card)

    answers = None
    if test is not None:
        save("")  # the workers that test it read it from its folder
        answers = predict_clips(output, test, recipe.tell_culture, recipe.gpus_per_worker, here=recipe.in_process)
        metrics["test"] = classification_metrics(answers.truth, answers.predicted, clips.classes)
        metrics["clips"]["test"] = len(test)
    return Written(save(model_card(config, recipe, metrics, priors, command)), answers)
