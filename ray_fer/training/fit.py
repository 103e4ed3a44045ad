"""Clip store + AU priors -> bundle, on Ray Train."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import TorchTrainer
from safetensors.torch import load_file

import ray_fer
from ray_fer.action_units.profiles import Priors
from ray_fer.bundle import BundleConfig, save_bundle
from ray_fer.models import create
from ray_fer.training.card import model_card
from ray_fer.training.data import clip_dataset
from ray_fer.training.loop import evaluate, train_worker
from ray_fer.training.progress import follow, progress_line
from ray_fer.training.recipe import Recipe


def fit(
    recipe: Recipe,
    store: str | Path,
    output: str | Path,
    classes: list[str],
    priors: Priors,
    command: str,
    runs: str | Path,
    test_split: str | None = "test",
    say: Callable[[str], None] = print,
) -> Path:
    """Train on split "train", validate on "val", test on `test_split`, and write the bundle to `output`.

    Ray Train keeps its checkpoints and state below `runs`. `command` goes into the model card: the one line that makes
    this bundle again. `say` gets a line per epoch. Raises ValueError for an empty split and
    `ray.train.TrainingFailedError` when a worker fails.
    """
    output = Path(output).resolve()
    train = clip_dataset(store, "train", recipe.transform, classes, priors.cultures)
    val = clip_dataset(store, "val", recipe.transform, classes, priors.cultures)
    count = train.count()
    steps = count // recipe.workers // max(1, recipe.batch_size // recipe.workers)
    if steps == 0:
        raise ValueError(f"{count} training clips do not fill one batch of {recipe.batch_size}; use more clips")
    arguments = model_arguments(recipe, classes, priors)
    started = time.monotonic()
    name = f"{recipe.name}-{time.time_ns()}"  # a used name would make Ray Train resume that run
    progress_file = Path(runs).resolve() / f"{name}.jsonl"
    progress_file.parent.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={
            "recipe": recipe.model_dump(),
            "model_arguments": arguments,
            "classes": classes,
            "steps_per_epoch": steps,
            "progress_file": str(progress_file),
            "threads": max(1, (os.cpu_count() or 1) // recipe.workers),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=recipe.workers,
            use_gpu=recipe.use_gpu,
            resources_per_worker={"CPU": recipe.cpus_per_worker} | ({"GPU": 1} if recipe.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(name=name, storage_path=str(Path(runs).resolve())),
        datasets={"train": train, "val": val},
        dataset_config=ray.train.DataConfig(datasets_to_split=["train"]),
    )
    with follow(progress_file, lambda line: say(progress_line(line, recipe.epochs))):
        result = trainer.fit()
    seconds = time.monotonic() - started
    assert result.checkpoint is not None
    assert result.metrics is not None
    model = create(recipe.model, **arguments)
    with result.checkpoint.as_directory() as folder:
        model.load_state_dict(load_file(str(Path(folder) / "model.safetensors")))
    metrics: dict[str, Any] = {
        "training": {key: value for key, value in result.metrics.items() if _plain(value)},
        "training_seconds": round(seconds, 1),
        "clips": {"train": count, "val": val.count()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seed": recipe.seed,
        "versions": {"ray_fer": ray_fer.__version__, "ray": ray.__version__, "torch": torch.__version__},
    }
    if test_split is not None:
        test = clip_dataset(store, test_split, recipe.transform, classes, priors.cultures)
        metrics["test"] = evaluate(model, test, recipe, classes)
        metrics["clips"][test_split] = test.count()
    config = BundleConfig(
        name=output.name,
        version=ray_fer.__version__,
        model=recipe.model,
        model_config_=arguments,
        classes=classes,
        cultures=priors.cultures,
        preprocessing=recipe.transform,
    )
    card = model_card(config, recipe, metrics, priors, command)
    return save_bundle(output, config, model, metrics, priors.model_dump(), card)


def model_arguments(recipe: Recipe, classes: list[str], priors: Priors) -> dict[str, Any]:
    """The model's keyword arguments: the recipe's, and what the data decides (classes, cultures, AU profiles)."""
    arguments = dict(recipe.model_config_)
    arguments |= {"classes": len(classes), "cultures": len(priors.cultures)}
    arguments["profiles"] = [priors.normalised[name] for name in priors.cultures]
    arguments["global_profile"] = priors.global_profile
    return arguments


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, dict)) or value is None
