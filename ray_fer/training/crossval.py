"""Cross-validation: every fold with every seed as a trial of its own, side by side on the cluster.

OUTPUT/trials/FOLD-seed-N/ is a trial (see `trial`), OUTPUT/seed-N/predictions.parquet the pooled answers of all folds,
OUTPUT/summary.json the figures (see `aggregate`). What is finished is not done again, so the same call goes on after an
interruption; trials that were interrupted go on from their checkpoints. All nodes must share OUTPUT.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import ray

from ray_fer import storage
from ray_fer.action_units.profiles import read_priors
from ray_fer.evaluation.predictions import Predictions, joined
from ray_fer.models import create
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.aggregate import summarised
from ray_fer.training.bundles import model_arguments
from ray_fer.training.data import check_clips
from ray_fer.training.fit import TrainingClips
from ray_fer.training.fold_priors import AuStats
from ray_fer.training.mailbox import Record, mailbox
from ray_fer.training.orphans import free_orphans
from ray_fer.training.parts import Fold, classes_of, cultures_of, folds, held_out
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.trial import (
    TEST_FOLD,
    VALIDATION,
    Trial,
    TrialKeeping,
    finished,
    reason_of,
    run_trial,
    trial_predictions,
)

_SECONDS_TO_FREE, _SECONDS_TO_CANCEL = 5.0, 10.0
TRIALS, SUMMARY, PREDICTIONS = "trials", "summary.json", "predictions.parquet"


@dataclass(frozen=True)
class News:
    """What happened to a trial; `done` of `total` trials are finished."""

    trial: str
    state: Literal["started", "says", "finished", "failed", "skipped"]
    line: str
    done: int
    total: int


Watch = Callable[[News], None]


@dataclass(frozen=True)
class CrossValOptions:
    """Which clips, folds, seeds and recipe, and where the outcome goes."""

    store: str
    output: Path
    recipe: str = "cafer-small"
    settings: tuple[str, ...] = ()
    protocol: str | int = "folds"
    by_subject: bool = False
    seeds: tuple[int, ...] = ()
    """The recipe's when empty; folds that are made here are the same for all of them."""
    aus: str | None = None
    """AU table: each fold gets AU profiles of its own training clips."""
    priors: Path | None = None
    """AU profiles that are the same for all folds."""
    val_share: float = 0.1
    paper_protocol: bool = False
    parallel: int | None = None
    overwrite: bool = False
    keeping: TrialKeeping = field(default_factory=TrialKeeping)

    def check(self) -> Recipe:
        """The recipe. Raises ValueError for options that do not go together, before anything is started."""
        if self.aus is not None and self.priors is not None:
            raise ValueError("give --aus (profiles of each fold's training clips) or --priors (the same for all)")
        if self.by_subject and not isinstance(self.protocol, int):
            raise ValueError("--by-subject goes with a number of folds to make, such as --protocol 5")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {', '.join(map(str, self.seeds))}: give each seed once")
        if self.parallel is not None and self.parallel < 1:
            raise ValueError(f"{self.parallel} trials at once; give 1 or more")
        return overridden(recipe_named(self.recipe), self.settings)


@dataclass(frozen=True)
class CrossValidated:
    """`summary` as in summary.json; `failed`: reasons by trial."""

    summary: dict[str, Any]
    failed: dict[str, str]


def cross_validate(
    options: CrossValOptions, watch: Watch = lambda _: None, say: Callable[[str], None] = print
) -> CrossValidated:
    """Run what is left of all trials on the current Ray, and write the summary of those that are finished.

    A trial that fails does not end the others. Raises ValueError, FileNotFoundError or FileExistsError for what the
    user has to mend, before a trial is started.
    """
    recipe = options.check()
    index = read_index(options.store)
    if options.priors is not None:
        say(f"warning: {options.priors} is used for all folds, and holds what it was made from: test clips, too, if it "
            "is of the whole dataset; --aus gives each fold profiles of its own training clips")  # fmt: skip
    trials = plan_trials(index, recipe, options)
    check_clips(index, recipe.transform, trials[0].clips.classes, trials[0].clips.cultures)
    create(recipe.model, **model_arguments(trials[0].recipe, trials[0].clips, trials[0].priors))  # or all would fail
    if options.overwrite:
        _clear(options.output)
    elif options.output.is_dir() and any(options.output.iterdir()) and not (options.output / TRIALS).is_dir():
        raise FileExistsError(f"{options.output} is not the folder of a cross-validation; choose another")
    failed = run_trials(trials, options.output, options.parallel, options.keeping, watch, say)
    summary = summarise(trials, options, failed)
    storage.write_bytes(options.output / SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
    return CrossValidated(summary, failed)


def plan_trials(index: ClipIndex, recipe: Recipe, options: CrossValOptions) -> list[Trial]:
    """All trials, the first seed's first. Raises ValueError with advice when the clips do not allow them."""
    priors = None if options.priors is None else read_priors(options.priors)
    table = None if options.aus is None else AuStats.read(options.aus)
    classes, cultures = classes_of(index), cultures_of(index) if priors is None else priors.cultures
    parts = folds(index, options.protocol, recipe.seed, options.by_subject)
    trials = []
    for seed in options.seeds or (recipe.seed,):
        seeded = recipe.model_copy(update={"seed": seed})
        for fold in parts:
            clips = _clips(index, fold, classes, cultures, options, seed)
            own = priors if table is None else table.priors(clips.train, cultures, fold.name)
            selection = TEST_FOLD if options.paper_protocol else VALIDATION
            trials.append(Trial(fold.name, seeded, clips, index.where(fold.test), own, selection))
    return trials


def _clips(
    index: ClipIndex, fold: Fold, classes: list[str], cultures: list[str], options: CrossValOptions, seed: int
) -> TrainingClips:
    train = index.where(fold.train)
    if options.paper_protocol:
        return TrainingClips(train, index.where(fold.test), classes, cultures)
    try:
        return TrainingClips(*held_out(train, options.val_share, seed), classes, cultures)
    except ValueError as error:
        raise ValueError(f"{fold.name}: {error}") from error


def slots(recipe: Recipe) -> int:
    """How many trials of the recipe the cluster holds at once (an elastic one counts with its most workers)."""
    resources, most = ray.cluster_resources(), recipe.worker_range[1]
    room = [resources.get("CPU", 0.0) / (most * recipe.cpus_per_worker)]
    if recipe.gpus_per_worker:
        room.append(resources.get("GPU", 0.0) / (most * recipe.gpus_per_worker))
    return max(1, math.floor(min(room) + 1e-6))


def trial_folder(output: Path, trial: Trial) -> Path:
    """Where a trial leaves its files."""
    return output.resolve() / TRIALS / trial.name


def run_trials(
    trials: Sequence[Trial],
    output: Path,
    parallel: int | None,
    keeping: TrialKeeping,
    watch: Watch = lambda _: None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Run the trials that are not finished, `parallel` at once; returns the reasons of those that failed.

    Raises FileExistsError, before anything is started, when a trial's folder holds another one.
    """
    records = {trial.name: finished(trial, trial_folder(output, trial)) for trial in trials}
    waiting = [trial for trial in trials if records[trial.name] is None]
    done, failed = len(trials) - len(waiting), dict[str, str]()
    for name, record in records.items():
        if record is not None:
            watch(News(name, "skipped", _figures(record), done, len(trials)))
    if not waiting:
        return failed
    at_once = min(parallel or slots(trials[0].recipe), len(waiting))
    say(f"{len(trials)} trials: {done} finished before, {len(waiting)} to do, {at_once} at once")
    # A process for each trial: nothing of one is left in the memory of the next. Where it dies it goes on once more.
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=1)(_task)
    running: dict[Any, Trial] = {}

    def heard(record: Record) -> None:
        watch(News(record["trial"], "says", record["line"], done, len(trials)))

    with mailbox(heard) as box:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    trial = waiting.pop(0)
                    running[task.remote(trial, str(trial_folder(output, trial)), keeping, box)] = trial
                    watch(News(trial.name, "started", "", done, len(trials)))
                ended, _ = ray.wait(list(running), num_returns=1, timeout=_SECONDS_TO_FREE)
                free_orphans()  # of a trial whose process died, and is tried once more
                if not ended:
                    continue
                ready = ended[0]
                trial = running.pop(ready)
                reason = _outcome(ready)
                if reason is None:
                    done += 1
                    record = finished(trial, trial_folder(output, trial)) or {}
                    watch(News(trial.name, "finished", _figures(record), done, len(trials)))
                else:
                    failed[trial.name] = reason
                    watch(News(trial.name, "failed", reason, done, len(trials)))
        finally:
            for ref in running:
                ray.cancel(ref, force=True)
            if running:  # a Ray that is shut down while it still cancels can crash
                ray.wait(list(running), num_returns=len(running), timeout=_SECONDS_TO_CANCEL)
    return failed


def _task(trial: Trial, folder: str, keeping: TrialKeeping, box: Any) -> str | None:
    return run_trial(
        trial, folder, keeping, lambda line: box.add.remote([{"trial": trial.name, "line": line, "event": "line"}])
    )  # fmt: skip


def _outcome(ref: Any) -> str | None:
    try:
        reason: str | None = ray.get(ref)
        return reason
    except ray.exceptions.RayError as error:
        return f"its process died: {reason_of(error)}"


def _figures(record: dict[str, Any]) -> str:
    test = record["test"]
    return f"UAR {test['uar']:.3f}  WAR {test['war']:.3f}  macro F1 {test['macro_f1']:.3f}"


def summarise(trials: Sequence[Trial], options: CrossValOptions, failed: dict[str, str]) -> dict[str, Any]:
    """Pool the predictions of finished trials into `seed-N/predictions.parquet`, and return what summary.json holds."""
    records, parts = [], dict[int, list[Predictions]]()
    planned: dict[int, int] = {}
    for trial in trials:
        seed, folder = trial.recipe.seed, trial_folder(options.output, trial)
        planned[seed] = planned.get(seed, 0) + 1
        record = finished(trial, folder)
        if record is not None:
            records.append(record)
            parts.setdefault(seed, []).append(trial_predictions(folder))
    pooled = {}
    for seed, mine in parts.items():
        pooled[seed] = replace(joined(mine), model=f"{trials[0].recipe.name} seed {seed}")
        pooled[seed].write(options.output / f"seed-{seed}" / PREDICTIONS)
    recipe = trials[0].recipe
    return {
        "recipe": recipe.name,
        "model": recipe.model,
        "store": storage.absolute(options.store),
        "protocol": options.protocol if isinstance(options.protocol, str) else f"{options.protocol}-fold",
        "selection": trials[0].selection,
        "priors": "fold" if options.aus is not None else "fixed" if options.priors is not None else None,
        "classes": trials[0].clips.classes,
        "predictions": {str(seed): f"seed-{seed}/{PREDICTIONS}" for seed in pooled},
        "failed": [{"trial": name, "reason": reason} for name, reason in failed.items()],
        **summarised(records, pooled, planned),
    }


def _clear(output: Path) -> None:
    """Delete an earlier cross-validation, and nothing that somebody put beside it."""
    for folder in (output / TRIALS, *output.glob("seed-*")):
        if folder.name == TRIALS or (folder / PREDICTIONS).is_file():
            shutil.rmtree(folder, ignore_errors=True)
    (output / SUMMARY).unlink(missing_ok=True)
