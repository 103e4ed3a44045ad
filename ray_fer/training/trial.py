"""One trial of a cross-validation: train on a fold with one seed, test on its clips, and leave a record.

A trial's folder holds the run (log, TensorBoard, checkpoints until it is finished), the bundle if it is kept,
`predictions.parquet`, and `trial.json`, which is written last: where it is, the trial is finished. `plan.json` says
from the start what is tried there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.data import DataContext

from ray_fer import storage
from ray_fer.action_units.profiles import Priors
from ray_fer.evaluation.evaluated import VALIDATION
from ray_fer.evaluation.intervals import FIGURES
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions, read_predictions
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.bundles import write_bundle
from ray_fer.training.fit import CHECKPOINTS, FREE_FIELDS, TrainingClips
from ray_fer.training.recipe import Recipe
from ray_fer.training.run import FIRST, Keeping, fit_and_track

_PLAN, _TRIAL, _PREDICTIONS, _ERROR = "plan.json", "trial.json", "predictions.parquet", "error.txt"


@dataclass(frozen=True)
class Trial:
    """What is trained (the recipe holds the seed) and tested."""

    fold: str
    recipe: Recipe
    clips: TrainingClips
    test: ClipIndex
    priors: Priors | None
    selection: str = VALIDATION
    """What its epoch is selected on; see `evaluated`."""

    @property
    def name(self) -> str:
        """Also its folder."""
        return f"{self.fold}-seed-{self.recipe.seed}"

    def described(self) -> dict[str, Any]:
        """Everything that decides its outcome."""
        return {
            "fold": self.fold,
            "seed": self.recipe.seed,
            "selection": self.selection,
            "recipe": json.loads(self.recipe.model_dump_json()),
            "clips": self.clips.digest(),
            "test": _digest(self.test.column("clip_id")),
            "priors": None if self.priors is None else _digest(self.priors.model_dump()),
        }


@dataclass(frozen=True)
class TrialKeeping:
    """What trials keep, and who else is told of them."""

    bundles: bool = False
    tensorboard: bool = True
    mlflow: str | None = None
    checkpoints: str | None = None
    """URL for Ray Train's checkpoints; a folder below it for each trial."""
    command: str = ""
    """For the model cards."""


def trial_task(trial: Trial, folder: str, keeping: TrialKeeping, box: Any) -> str | None:
    """`run_trial` as a task of Ray, which tells a mailbox how it goes.

    It is here because its process imports this module, which is light, and not the one that runs all trials.
    """
    return run_trial(
        trial, folder, keeping, lambda line: box.add.remote([{"trial": trial.name, "line": line, "event": "line"}])
    )  # fmt: skip


def run_trial(trial: Trial, folder: str, keeping: TrialKeeping, say: Callable[[str], None]) -> str | None:
    """Train and test on the current Ray, in a process of its own; returns why it failed, or None.

    A trial that was interrupted goes on from its last checkpoint. The traceback of a failure is in `error.txt`.
    """
    DataContext.get_current().enable_progress_bars = False
    place = Path(folder)
    try:
        _run(trial, place, keeping, say)
    except Exception as error:
        place.mkdir(parents=True, exist_ok=True)
        (place / _ERROR).write_text(traceback.format_exc())
        return reason_of(error)
    (place / _ERROR).unlink(missing_ok=True)
    return None


def reason_of(error: BaseException) -> str:
    """One line for a table; of what comes with a traceback, its last line."""
    text = str(error).strip()
    if "Traceback" in text or "ray::" in text:
        return text.splitlines()[-1].strip()
    text = " ".join(text.split())
    return text if text and isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def _run(trial: Trial, folder: Path, keeping: TrialKeeping, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    described = trial.described()
    storage.write_bytes(folder / _PLAN, _json(described))
    bundle = folder / re.sub(r"[^\w.-]+", "_", f"{trial.recipe.name}-{trial.name}")
    run = bundle.with_name(bundle.name + ".run")
    checkpoints = None if keeping.checkpoints is None else storage.join(keeping.checkpoints, trial.name)
    kept = Keeping(
        run, resume=True, checkpoints=checkpoints, tensorboard=keeping.tensorboard, mlflow=keeping.mlflow
    )  # fmt: skip
    fitted = fit_and_track(trial.recipe, trial.clips, trial.priors, kept, say)
    say("testing")
    written = write_bundle(
        bundle, trial.recipe, trial.clips, fitted, trial.priors, keeping.command, trial.test,
        {"fold": trial.fold, "selection": trial.selection},
    )  # fmt: skip
    assert written.test is not None
    answers = replace(written.test, model=f"{trial.recipe.name} {trial.name}")
    answers.write(folder / _PREDICTIONS)
    if not keeping.bundles:
        shutil.rmtree(bundle)
    metrics = classification_metrics(answers.truth, answers.predicted, answers.classes)
    figures = {name: value for name, value in fitted.metrics.items() if isinstance(value, int | float)}
    result = {
        "trial": trial.name,
        "described": described,
        "clips": {"train": len(trial.clips.train), "val": len(trial.clips.val), "test": len(trial.test)},
        "test": {name: metrics[name] for name in FIGURES},
        "training": figures,
        "ended": fitted.reason,
        "seconds": round(time.monotonic() - started, 1),
        "bundle": bundle.name if keeping.bundles else None,
        "run": run.name,
    }
    storage.write_bytes(folder / _TRIAL, _json(result))
    # A finished trial is never gone on with, and the checkpoints hold the optimiser of several epochs.
    for one in (checkpoints or str(run), storage.join(checkpoints or run, FIRST)):
        storage.delete_folder(storage.join(one, CHECKPOINTS))


def finished(trial: Trial, folder: str | Path) -> dict[str, Any] | None:
    """The record of a finished trial, None where it is still to be done.

    Raises FileExistsError that says what changed when something else was tried in that folder.
    """
    folder = Path(folder)
    record = _read(folder / _TRIAL)
    before = record["described"] if record is not None else _read(folder / _PLAN)
    if before is not None:
        changed = differences(before, trial.described())
        if changed:
            raise FileExistsError(
                f"{folder} holds a trial of something else ({'; '.join(changed)}); start all trials anew with "
                "--overwrite, or choose another folder"
            )
    return record


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two descriptions of a trial differ in, in words; how it is computed does not count."""
    old, new = (one | one["recipe"] for one in (before, now))
    words = {
        "clips": "the training or validation clips are others",
        "test": "the test clips are others",
        "priors": "the priors are others",
    }
    return [
        words.get(name, f"{name} was {old.get(name)} and is {new.get(name)}")
        for name in new
        if name != "recipe" and name not in FREE_FIELDS and old.get(name) != new.get(name)
    ]


def trial_predictions(folder: str | Path) -> Predictions:
    """What a finished trial answered to its test clips."""
    return read_predictions(Path(folder) / _PREDICTIONS)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove its folder, and that trial is done again") from error


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
