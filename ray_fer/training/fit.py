"""Train one model on Ray Train: from chosen clips to weights, with everything that a run leaves in its folder.

A run's folder holds `run.json` (recipe and clips), `records.jsonl`, TensorBoard's files and Ray Train's checkpoints. A
run that died goes on where its last checkpoint is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import Tensor, nn

from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.cached import check_cache
from ray_fer.training.data import Reading, clip_dataset, clip_tables, label_indices, pixels_fit
from ray_fer.training.fresh import fresh_model
from ray_fer.training.loop import train_worker
from ray_fer.training.losses import inverse_frequencies
from ray_fer.training.mailbox import Record, mailbox
from ray_fer.training.optim import parameter_groups
from ray_fer.training.recipe import Recipe
from ray_fer.training.state import TrainingError, is_disk_full, load_weights

_RUN, CHECKPOINTS = "run.json", "checkpoints"
# May change between the parts of a run: they decide how it is computed and not what.
FREE_FIELDS = ("workers", "resize_every_s", "cpus_per_worker", "gpus_per_worker", "max_failures", "keep_pixels")


@dataclass(frozen=True)
class TrainingClips:
    """What a model is trained on, and what it is told of it."""

    train: ClipIndex
    val: ClipIndex
    classes: list[str]
    cultures: list[str]

    def digest(self) -> str:
        """Changes when other clips, classes or cultures are meant."""
        content = [self.train.column("clip_id"), self.val.column("clip_id"), self.classes, self.cultures]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Fitted:
    """A trained model on the CPU, the validation figures of the epoch that was chosen, and how training went."""

    model: nn.Module
    metrics: dict[str, Any]
    reason: str
    """Why training ended: "finished" or "early stopping"."""
    seconds: float


def fit(
    recipe: Recipe,
    clips: TrainingClips,
    model_arguments: dict[str, Any],
    folder: str | Path,
    heard: Callable[[Record], None] = lambda _: None,
    checkpoints: str | None = None,
    start: dict[str, Tensor] | None = None,
) -> Fitted:
    """Train on the current Ray; `heard` gets the run's records (see `tracking`).

    `start` are the weights to begin with, of a phase before this one; without it a fresh model begins. `folder` must
    have been prepared by `prepare_run`; `checkpoints` is a URL for Ray Train's, where the nodes do not share that
    folder. Raises TrainingError with advice for what would fail again: a loss that is not finite, a full disk, workers
    that die more than `max_failures` times.
    """
    folder = Path(folder).resolve()
    _check_room(recipe)
    parts, reading = {"train": clips.train, "val": clips.val}, Reading.of(recipe, clips.classes, clips.cultures)
    tables, datasets = None, None
    if recipe.in_process:
        tables = {name: clip_tables(part, reading) for name, part in parts.items()}
    else:
        pixels = recipe.keep_pixels
        if pixels is None:
            pixels = pixels_fit(len(clips.train) + len(clips.val), reading)
        datasets = {name: clip_dataset(part, reading, pixels) for name, part in parts.items()}
    labels = label_indices(clips.train, clips.classes)
    # Ray Train takes in one report each time that it polls its workers: with short epochs, every 2 s is too seldom.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    started = time.monotonic()
    with mailbox(heard) as box:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={
                "recipe": recipe.model_dump(), "model_arguments": model_arguments, "classes": clips.classes,
                "cultures": clips.cultures, "labels": labels, "mailbox": box, "tables": tables,
                "start": None if start is None else ray.put(start),
                "alpha": inverse_frequencies(labels, len(clips.classes)) if recipe.loss.alpha == "inverse" else None,
            },
            scaling_config=_scaling(recipe),
            run_config=_run_config(recipe, checkpoints or str(folder)),
            datasets=datasets,
            # Every worker may read every clip: which ones it takes is decided by `order`, batch by batch.
            dataset_config=DataConfig(datasets_to_split=[]),
        )  # fmt: skip
        result = _result(trainer)
    answer = result.return_value or {"reason": "finished", "error": None}
    if answer["error"] is not None:
        raise TrainingError(answer["error"])
    checkpoint, metrics = _chosen(result, recipe)
    # What is frozen, by the model or by a rate of 0, is not in checkpoints.
    model = fresh_model(recipe, model_arguments)
    parameter_groups(model, recipe.optimizer)
    if start is not None:
        model.load_state_dict(start)
    with checkpoint.as_directory() as there:
        load_weights(model, Path(there))
    if recipe.in_process:  # nobody else looks after its folder
        shutil.rmtree(checkpoint.path)
    return Fitted(model.eval(), metrics, answer["reason"], round(time.monotonic() - started, 1))


def check_model(
    recipe: Recipe, model_arguments: dict[str, Any], *clips: ClipIndex, say: Callable[[str], None] = lambda _: None
) -> None:
    """Raise ValueError when the model or the groups of its parameters cannot be made, before anything is started.

    Likewise for weights to start from, of which `say` is told, and for cached features of `clips`, or FileNotFoundError
    where there are none.
    """
    try:
        model = fresh_model(recipe, model_arguments, say)
    except TypeError as error:
        raise ValueError(f"model {recipe.model}: {error}; see model_config_ of recipe {recipe.name}") from error
    for part in clips:
        check_cache(recipe, model, part)
    parameter_groups(model, recipe.optimizer)  # making the optimiser itself costs two seconds of imports


def check_folder(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether the folder holds a run. Raises FileExistsError as `prepare_run` where that may not be touched."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    if not (folder / _RUN).is_file():
        raise FileExistsError(f"{folder} is not the folder of a training run, so nothing is done; choose another")
    if not (resume or overwrite):
        raise FileExistsError(
            f"{folder} holds a training run; go on with --resume, start anew with --overwrite, or choose another"
        )
    return True


def prepare_run(
    folder: str | Path, recipe: Recipe, clips: TrainingClips, resume: bool = False, overwrite: bool = False
) -> bool:
    """Make a run's folder ready; returns whether an earlier run goes on there.

    Raises FileExistsError when it holds a run and neither `resume` nor `overwrite` is set, anything else, or a run
    with another recipe or other clips, which cannot be resumed.
    """
    folder = Path(folder)
    described = {"recipe": json.loads(recipe.model_dump_json()), "clips": clips.digest()}
    if check_folder(folder, resume, overwrite):
        if resume:
            _check_same(folder, json.loads((folder / _RUN).read_text()), described)
            return True
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RUN).write_text(json.dumps(described, indent=1) + "\n")
    return False


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for old, new in [(before["recipe"], now["recipe"])]
        for name in new
        if name not in FREE_FIELDS and old.get(name) != new.get(name)
    ]
    if before["clips"] != now["clips"]:
        changed.append("the clips are others")
    if changed:
        raise FileExistsError(
            f"{folder} holds a run of something else ({'; '.join(changed)}); start anew with --overwrite"
        )


def _check_room(recipe: Recipe) -> None:
    """Ray would wait, for ever and in silence, for a node that has what the recipe asks for."""
    if recipe.in_process:
        return
    there, least = ray.cluster_resources(), recipe.worker_range[0]
    for name, each, field in (("CPU", recipe.cpus_per_worker, "cpus"), ("GPU", recipe.gpus_per_worker, "gpus")):
        has = there.get(name, 0.0)
        room = int(has / each + 1e-9) if each else least
        if room < least:
            few = max(room, 1)
            raise TrainingError(
                f"{least} workers with {each:g} {name} each do not fit on this Ray, which has {has:g}: use "
                f"--set workers={few}, or less for each with --set {field}_per_worker=...; where nodes come later, "
                f"--set 'workers=[{few}, {least}]'"
            )


def _scaling(recipe: Recipe) -> ScalingConfig:
    least, most = recipe.worker_range
    if recipe.in_process:
        return ScalingConfig(num_workers=0)
    resources = {"CPU": recipe.cpus_per_worker} | ({"GPU": recipe.gpus_per_worker} if recipe.gpus_per_worker else {})
    return ScalingConfig(
        num_workers=least if least == most else (least, most), use_gpu=recipe.gpus_per_worker > 0,
        resources_per_worker=resources, elastic_resize_monitor_interval_s=recipe.resize_every_s,
    )  # fmt: skip


def _run_config(recipe: Recipe, storage: str) -> RunConfig:
    return RunConfig(
        name=CHECKPOINTS,
        storage_path=storage,
        failure_config=FailureConfig(max_failures=recipe.max_failures),
        checkpoint_config=CheckpointConfig(
            num_to_keep=recipe.keep, checkpoint_score_attribute=f"val_{recipe.monitor}",
            checkpoint_score_order=recipe.monitor_mode,
        ),
    )  # fmt: skip


def _result(trainer: TorchTrainer) -> Result:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        if is_disk_full(error):
            raise TrainingError(
                "no space left for checkpoints: free some, or keep fewer with --set keep=1; then go on with --resume"
            ) from error
        failures: dict[int, Exception] = getattr(error, "worker_failures", {})
        what = next((str(one).strip().splitlines()[-1] for one in failures.values()), str(error).strip())
        if any(isinstance(one, ray.exceptions.RayActorError) for one in failures.values()):
            what = f"a worker died more often than max_failures allows (out of memory?): {what}"
            raise TrainingError(f"{what}; go on with --resume") from error
        raise


def _chosen(result: Result, recipe: Recipe) -> tuple[ray.train.Checkpoint, dict[str, Any]]:
    """The checkpoint whose weights are kept, and its metrics."""
    figure = f"val_{recipe.monitor}"
    kept: Sequence[tuple[ray.train.Checkpoint, dict[str, Any]]] = result.best_checkpoints or []
    scored = [(checkpoint, metrics) for checkpoint, metrics in kept if figure in metrics]
    if recipe.select == "last" or not scored:
        assert result.checkpoint is not None
        return result.checkpoint, dict(result.metrics or {})
    best = (min if recipe.monitor_mode == "min" else max)(metrics[figure] for _, metrics in scored)
    return next((checkpoint, dict(metrics)) for checkpoint, metrics in scored if metrics[figure] == best)
