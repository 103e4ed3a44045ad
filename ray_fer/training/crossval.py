"""Cross-validation: every fold with every seed as a trial of its own, side by side on the cluster.

OUTPUT/trials/FOLD-seed-N/ is a trial (see `trial`), OUTPUT/seed-N/predictions.parquet the pooled answers of all folds,
OUTPUT/seed-N/report/ a page of them, OUTPUT/summary.json the figures (see `aggregate`). What is finished is not done
again, so the same call goes on after an interruption; trials that were interrupted go on from their checkpoints. All
nodes must share OUTPUT.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ray

from ray_fer import storage
from ray_fer.evaluation.predictions import Predictions, joined
from ray_fer.evaluation.report import Folds
from ray_fer.training.aggregate import summarised
from ray_fer.training.crossval_plan import (
    PREDICTIONS,
    TRIALS,
    CrossValOptions,
    CrossValPlan,
    plan_cross_validation,
    trial_folder,
)
from ray_fer.training.crossval_report import write_reports
from ray_fer.training.mailbox import Record, mailbox
from ray_fer.training.orphans import free_orphans
from ray_fer.training.recipe import Recipe
from ray_fer.training.trial import Trial, TrialKeeping, finished, reason_of, trial_predictions, trial_task

_SECONDS_TO_FREE, _SECONDS_TO_CANCEL = 5.0, 10.0
_FOLDS_FROM = {"folds": "dataset", "loso": "subjects", "fixed": "splits"}


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
class CrossValidated:
    """`summary` as in the file of that name; `failed`: reasons by trial; `reports`: folders by seed."""

    summary: dict[str, Any]
    failed: dict[str, str]
    reports: dict[int, Path]


def cross_validate(
    options: CrossValOptions,
    watch: Watch = lambda _: None,
    say: Callable[[str], None] = print,
    plan: CrossValPlan | None = None,
) -> CrossValidated:
    """Run what is left of all trials on the current Ray, and write summary and reports of those that are finished.

    `plan` is what `plan_cross_validation` makes of the options, for who has it already. A trial that fails does not end
    the others. Raises ValueError, FileNotFoundError or FileExistsError for what the user has to mend, before a trial is
    started.
    """
    (outcome,) = side_by_side([(options, plan or plan_cross_validation(options))], watch, say)
    return outcome


def side_by_side(
    jobs: Sequence[tuple[CrossValOptions, CrossValPlan]],
    watch: Watch = lambda _: None,
    say: Callable[[str], None] = print,
) -> list[CrossValidated]:
    """`cross_validate` for several at once, which need the same of the cluster: their trials, whose names differ, run
    together. How many at once, and what they keep, is as the first says."""
    for options, _ in jobs:
        if options.priors is not None:
            say(f"warning: {options.priors} is used for all folds, and holds what it was made from: test clips, too, "
                "if it is of the whole dataset; --aus gives each fold profiles of its own training clips")  # fmt: skip
        if options.overwrite:
            _clear(options.output)
    trials = [trial for _, plan in jobs for trial in plan.trials]
    folders = [trial_folder(options.output, trial) for options, plan in jobs for trial in plan.trials]
    first, _ = jobs[0]
    failed = run_trials(trials, folders, first.parallel, first.keeping, watch, say)
    outcomes = []
    for options, plan in jobs:
        own = {trial.name: failed[trial.name] for trial in plan.trials if trial.name in failed}
        outcomes.append(_finish(options, plan, own, say))
    return outcomes


def _finish(
    options: CrossValOptions, plan: CrossValPlan, failed: dict[str, str], say: Callable[[str], None]
) -> CrossValidated:
    """Write summary and reports."""
    summary, answers = summarise(plan, options, failed)
    _write(options.summary, summary)  # before the reports: whatever happens to them, the figures are safe
    complete = {seed: one for seed, one in answers.items() if summary["seeds"][str(seed)]["complete"]}
    units = {seed: summary["seeds"][str(seed)]["pooled"]["unit"] for seed in complete}
    reports = write_reports(plan, options, complete, units, say)
    summary["reports"] = {str(seed): folder.relative_to(options.output).as_posix() for seed, folder in reports.items()}
    _write(options.summary, summary)
    return CrossValidated(summary, failed, reports)


def slots(recipe: Recipe) -> int:
    """How many trials of the recipe the cluster holds at once (an elastic one counts with its most workers)."""
    resources, most = ray.cluster_resources(), max(1, recipe.worker_range[1])
    room = [resources.get("CPU", 0.0) / (most * recipe.cpus_per_worker)]
    if recipe.gpus_per_worker:
        room.append(resources.get("GPU", 0.0) / (most * recipe.gpus_per_worker))
    return max(1, math.floor(min(room) + 1e-6))


def run_trials(
    trials: Sequence[Trial],
    folders: Sequence[Path],
    parallel: int | None,
    keeping: TrialKeeping,
    watch: Watch = lambda _: None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Run the trials that are not finished in their `folders`, `parallel` at once; returns the reasons of those that
    failed, by name.

    Raises FileExistsError, before anything is started, when a trial's folder holds another one.
    """
    places = {trial.name: folder for trial, folder in zip(trials, folders, strict=True)}
    records = {trial.name: finished(trial, places[trial.name]) for trial in trials}
    waiting = [trial for trial in trials if records[trial.name] is None]
    done, failed = len(trials) - len(waiting), dict[str, str]()
    for name, record in records.items():
        if record is not None:
            watch(News(name, "skipped", _figures(record), done, len(trials)))
    if not waiting:
        return failed
    at_once = min(parallel or slots(trials[0].recipe), len(waiting))
    say(f"{len(trials)} trials: {done} finished before, {len(waiting)} to do, {at_once} at once")
    recipe = trials[0].recipe
    cpus, gpus = (recipe.cpus_per_worker, recipe.gpus_per_worker) if recipe.in_process else (0, 0)
    # A process for each trial: nothing of one is left in the memory of the next. Trials of seconds share processes
    # (a GPU's memory would stay taken), or most of the time would go into importing torch.
    calls = 0 if recipe.in_process and not gpus else 1
    # Where a process dies its trial goes on once more.
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=calls, max_retries=1)(trial_task)
    running: dict[Any, Trial] = {}

    def heard(record: Record) -> None:
        watch(News(record["trial"], "says", record["line"], done, len(trials)))

    with mailbox(heard) as box:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    trial = waiting.pop(0)
                    running[task.remote(trial, str(places[trial.name]), keeping, box)] = trial
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
                    record = finished(trial, places[trial.name]) or {}
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


def _outcome(ref: Any) -> str | None:
    try:
        reason: str | None = ray.get(ref)
        return reason
    except ray.exceptions.RayError as error:
        return f"its process died: {reason_of(error)}"


def _figures(record: dict[str, Any]) -> str:
    test = record["test"]
    return f"UAR {test['uar']:.3f}  WAR {test['war']:.3f}  macro F1 {test['macro_f1']:.3f}"


def fold_answers(trials: Sequence[Trial], output: Path) -> dict[int, list[tuple[str, Predictions]]]:
    """What finished trials answered, by seed: (fold, its test clips)."""
    found: dict[int, list[tuple[str, Predictions]]] = {}
    for trial in trials:
        folder = trial_folder(output, trial)
        if finished(trial, folder) is not None:
            found.setdefault(trial.recipe.seed, []).append((trial.fold, trial_predictions(folder)))
    return found


def summarise(
    plan: CrossValPlan, options: CrossValOptions, failed: dict[str, str]
) -> tuple[dict[str, Any], dict[int, tuple[Predictions, Folds]]]:
    """Pool the predictions of finished trials and write them for each seed.

    Returns what the summary holds (its `reports` still empty), and by seed the pooled answers and those of its folds.
    """
    recipe = plan.recipe
    records = [finished(trial, trial_folder(options.output, trial)) for trial in plan.trials]
    planned = Counter(trial.recipe.seed for trial in plan.trials)
    answers: dict[int, tuple[Predictions, Folds]] = {}
    for seed, folds in fold_answers(plan.trials, options.output).items():
        pooled = replace(joined([one for _, one in folds]), model=f"{options.name or recipe.name} seed {seed}")
        pooled.write(options.of_seed(seed) / PREDICTIONS)
        answers[seed] = pooled, folds
    by_seed = {seed: pooled for seed, (pooled, _) in answers.items()}
    summary = {
        "recipe": recipe.name,
        "model": recipe.model,
        "store": storage.absolute(options.store),
        "protocol": plan.protocol,
        "folds_from": _FOLDS_FROM.get(str(options.protocol), "made here"),
        "selection": plan.trials[0].selection,
        "priors": "fold" if options.aus is not None else "fixed" if options.priors is not None else None,
        "classes": plan.trials[0].clips.classes,
        "predictions": {str(seed): f"{options.of_seed(seed).name}/{PREDICTIONS}" for seed in by_seed},
        "reports": {},
        "failed": [{"trial": name, "reason": reason} for name, reason in failed.items()],
        **summarised([one for one in records if one is not None], by_seed, planned),
    }
    return summary, answers


def _write(path: Path, summary: dict[str, Any]) -> None:
    storage.write_bytes(path, (json.dumps(summary, indent=1) + "\n").encode())


def _clear(output: Path) -> None:
    """Delete an earlier cross-validation, and nothing that somebody put beside it."""
    for folder in (output / TRIALS, *output.glob("seed-*")):
        if folder.name == TRIALS or (folder / PREDICTIONS).is_file():
            shutil.rmtree(folder, ignore_errors=True)
    for summary in output.glob("summary*.json"):
        summary.unlink()
