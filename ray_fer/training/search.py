"""Search for settings of a recipe with Ray Tune: every trial trains on Ray Train, ASHA ends those that lag behind.

Trials train on the training clips and are compared on validation clips; test clips are never read. OUTPUT/search.json
has the outcome, OUTPUT/trials/ID is a trial's run (log, TensorBoard), OUTPUT/tune what Ray Tune needs to go on. All
nodes must share OUTPUT.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.data import DataContext
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from ray_fer import storage
from ray_fer.action_units.profiles import Priors, read_priors
from ray_fer.models import create
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.bundles import model_arguments
from ray_fer.training.crossval import slots
from ray_fer.training.data import Reading, check_clips
from ray_fer.training.fit import CHECKPOINTS, TrainingClips, fit, prepare_run
from ray_fer.training.fold_priors import AuStats
from ray_fer.training.mailbox import Record
from ray_fer.training.orphans import free_orphans
from ray_fer.training.parts import classes_of, cultures_of, folds, held_out
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.search_outcome import outcome, outcome_rows
from ray_fer.training.space import Dimension, check_space, parse_space, settings_of
from ray_fer.training.tracking import trackers

SEARCH, _PLAN, TRIALS, _TUNE = "search.json", "plan.json", "trials", "tune"
_FIGURE = "figure"
_SECONDS_TO_FREE = 1.0
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the runs have logs of their own
    "RAY_AIR_NEW_OUTPUT": "0",  # or there is a banner on standard output
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # or ctrl-C ends the search as if it were finished
}


@dataclass(frozen=True)
class SearchOptions:
    """Which clips and recipe, what is searched, and how long."""

    store: str
    output: Path
    space: tuple[str, ...]
    recipe: str = "cafer-small"
    settings: tuple[str, ...] = ()
    trials: int = 20
    fold: str | None = None
    """Search in the training clips of this fold of the manifest; in split "train" when None."""
    aus: str | None = None
    priors: Path | None = None
    grace: int | None = None
    """Epochs that every trial gets before ASHA may end it; a fifth of them when None."""
    seed: int = 42
    """Of what is drawn."""
    parallel: int | None = None
    resume: bool = False
    overwrite: bool = False
    tensorboard: bool = True
    mlflow: str | None = None

    def check(self) -> tuple[Recipe, dict[str, Dimension]]:
        """The recipe and the space. Raises ValueError for what does not go together, before anything is started."""
        if self.aus is not None and self.priors is not None:
            raise ValueError("give --aus (profiles of the training clips) or --priors")
        if self.resume and self.overwrite:
            raise ValueError("--resume goes on with a search and --overwrite removes it; give one of them")
        if self.trials < 1 or (self.parallel or 1) < 1 or (self.grace or 1) < 1:
            raise ValueError("trials, trials at once and epochs of grace are 1 or more")
        recipe, space = overridden(recipe_named(self.recipe), self.settings), parse_space(self.space)
        check_space(recipe, space)
        return recipe, space


@dataclass(frozen=True)
class Work:
    """What all trials of a search have in common."""

    recipe: Recipe
    clips: TrainingClips
    priors: Priors | None
    folder: Path
    tensorboard: bool
    mlflow: str | None


def search(options: SearchOptions, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Search on the current Ray; returns what search.json holds, the best trial first.

    Raises ValueError, FileNotFoundError or FileExistsError for what the user has to mend, also when no trial got as
    far as a validation.
    """
    recipe, space = options.check()
    clips, priors = search_clips(read_index(options.store), recipe, options)
    create(recipe.model, **model_arguments(recipe, clips, priors))  # or every trial would fail
    output = options.output.resolve()
    begun = _prepare(output, _described(recipe, space, clips, priors, options), options)
    work = Work(recipe, clips, priors, output, options.tensorboard, options.mlflow)
    for name, value in _TUNE_SETTINGS.items():
        os.environ.setdefault(name, value)
    # Its workers claim CPUs and GPUs. Ray Tune wants a claim of the trial itself, too: a byte of memory.
    trainable = tune.with_resources(tune.with_parameters(_trial, work=work), {"memory": 1})
    say(f"{options.trials} draws of {', '.join(f'{field}={one}' for field, one in space.items())}")
    results = _tuner(trainable, recipe, space, options, output, begun, say).fit()
    rows = outcome_rows(output / TRIALS, recipe, list(results))
    summary = outcome(rows, recipe)
    storage.write_bytes(output / SEARCH, (json.dumps(summary, indent=1) + "\n").encode())
    if summary["best"] is None:
        reason = next((row["error"] for row in rows if row["error"]), "none was validated")
        raise ValueError(f"no trial of the search got as far as a validation: {reason}")
    return summary


def search_clips(
    index: ClipIndex, recipe: Recipe, options: SearchOptions
) -> tuple[TrainingClips, Priors | None]:  # fmt: skip
    """What trials train and validate on, and the AU profiles; without any test clip."""
    if options.fold is not None:
        parts = {fold.name.removeprefix("fold-"): fold for fold in folds(index, "folds")}
        if options.fold.removeprefix("fold-") not in parts:
            raise ValueError(f"{options.store}: no fold {options.fold!r}; there are {', '.join(parts)}")
        train, given = index.where(parts[options.fold.removeprefix("fold-")].train), False
    else:
        train, given = index.split("train"), "val" in index.column("split")
    train, val = (train, index.split("val")) if given else held_out(train, recipe.val_share, recipe.seed)
    priors = None if options.priors is None else read_priors(options.priors)
    cultures = cultures_of(index) if priors is None else priors.cultures
    clips = TrainingClips(train, val, classes_of(index), cultures)
    for part in (train, val):
        check_clips(part, Reading.of(recipe, clips.classes, clips.cultures))
    if options.aus is not None:
        priors = AuStats.read(options.aus).priors(train, cultures, "the search")
    return clips, priors


def _trial(config: dict[str, Any], work: Work) -> None:
    """In a process of Ray Tune: train one draw, and report every validation."""
    DataContext.get_current().enable_progress_bars = False
    recipe = overridden(work.recipe, settings_of(config))
    run = work.folder / TRIALS / tune.get_context().get_trial_id()
    prepare_run(run, recipe, work.clips, resume=True)
    params = recipe.model_dump(mode="json")
    listening = trackers(run, f"{recipe.name}-search", params, work.tensorboard, work.mlflow, lambda _: None)

    def heard(record: Record) -> None:
        for tracker in listening:
            tracker.heard(record)
        if record["event"] == "epoch" and f"val_{recipe.monitor}" in record:
            tune.report({"epoch": record["epoch"], _FIGURE: record[f"val_{recipe.monitor}"]})

    error: str | None = "interrupted"
    try:
        fit(recipe, work.clips, model_arguments(recipe, work.clips, work.priors), run, heard)
        error = None
    except Exception as raised:
        error = str(raised)
        raise
    finally:
        for tracker in listening:
            tracker.close(error)
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)  # only the figures are wanted


def _tuner(
    trainable: Any,
    recipe: Recipe,
    space: dict[str, Dimension],
    options: SearchOptions,
    output: Path,
    begun: bool,
    say: Callable[[str], None],
) -> tune.Tuner:
    param_space = {field: one.to_tune() for field, one in space.items()}
    if begun and tune.Tuner.can_restore(str(output / _TUNE)):
        say("going on with the search that is there")
        return tune.Tuner.restore(
            str(output / _TUNE), trainable=trainable, param_space=param_space, restart_errored=True
        )  # fmt: skip
    epochs = recipe.epochs if "epochs" not in space else max(space["epochs"].examples())
    at_once = options.parallel or slots(recipe)
    return tune.Tuner(
        trainable,
        param_space=param_space,
        tune_config=tune.TuneConfig(
            metric=_FIGURE, mode=recipe.monitor_mode, num_samples=options.trials,
            search_alg=BasicVariantGenerator(max_concurrent=at_once, random_state=options.seed),
            scheduler=ASHAScheduler(
                time_attr="epoch", max_t=epochs + 1, grace_period=min(epochs, options.grace or max(1, epochs // 5)),
                reduction_factor=3,
            ),
        ),
        run_config=tune.RunConfig(
            name=_TUNE, storage_path=str(output), verbose=0, callbacks=[_Lines(f"val_{recipe.monitor}")]
        ),
    )  # fmt: skip


class _Lines(tune.Callback):
    """Lines about trials on standard error, beside what programs read; and what ended trials held is given back."""

    def __init__(self, figure: str) -> None:
        self._figure = figure
        self._freed = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        if time.monotonic() - self._freed >= _SECONDS_TO_FREE:  # Ray Tune kills the trials that it ends
            free_orphans()
            self._freed = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        _tell(trial, " ".join(settings_of(trial.config)))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        if _FIGURE in result:
            _tell(trial, f"epoch {result['epoch']}  {self._figure} {result[_FIGURE]:.3f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        _tell(trial, "ended")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        _tell(trial, "failed")


def _tell(trial: Any, line: str) -> None:
    print(f"{trial.trial_id}: {line}", file=sys.stderr, flush=True)


def _described(
    recipe: Recipe, space: dict[str, Dimension], clips: TrainingClips, priors: Priors | None, options: SearchOptions
) -> dict[str, Any]:
    profiles = None if priors is None else hashlib.sha256(priors.model_dump_json().encode()).hexdigest()
    return {
        "recipe": json.loads(recipe.model_dump_json()), "search": {field: str(one) for field, one in space.items()},
        "clips": clips.digest(), "priors": profiles, "trials": options.trials, "seed": options.seed,
    }  # fmt: skip


def _prepare(output: Path, described: dict[str, Any], options: SearchOptions) -> bool:
    """Make the folder ready; returns whether a search goes on there. Raises FileExistsError with advice."""
    plan = output / _PLAN
    if output.is_dir() and any(output.iterdir()):
        if not plan.is_file():
            raise FileExistsError(f"{output} is not the folder of a search, so nothing is done; choose another")
        if options.resume:
            before = json.loads(plan.read_text())
            changed = [name for name in described if before.get(name) != described[name]]
            if changed:
                raise FileExistsError(
                    f"{output} holds a search of something else ({', '.join(changed)} changed); start anew with "
                    "--overwrite"
                )
            return True
        if not options.overwrite:
            raise FileExistsError(f"{output} holds a search; go on with --resume, start anew with --overwrite")
        for name in (TRIALS, _TUNE):
            shutil.rmtree(output / name, ignore_errors=True)
        (output / SEARCH).unlink(missing_ok=True)
    storage.write_bytes(plan, (json.dumps(described, indent=1) + "\n").encode())
    return False
