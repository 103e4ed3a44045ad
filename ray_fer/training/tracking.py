"""What a run tells while it trains: JSON lines always, a bar or a line per epoch, TensorBoard and MLflow on request.

Trackers hear records in order, on one thread of the driver process. A record is a dict with "event", the global
optimiser step "step" (counted from 1) and "epoch":

* "start": workers (re)started after `step` steps, which after a failure may lie behind what was heard before;
  steps_per_epoch, epochs, workers
* "step": loss, clips (the whole batch), lr, seconds, waited (seconds of these spent waiting for data)
* "epoch": loss (mean), clips_per_s, waited (share, 0 to 1), and val_* figures where the epoch was validated
* "end": reason
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ray_fer.training.mailbox import Record
from ray_fer.training.mlflow_tracker import MLFLOW_RUN_ID, MlflowTracker, flattened, imported
from ray_fer.training.run_log import RECORDS, JsonlTracker, scalars
from ray_fer.training.run_progress import ProgressTracker

TENSORBOARD = "tensorboard"  # in the run's folder


class Tracker(Protocol):
    """Whatever wants to hear how a run goes."""

    def heard(self, record: Record) -> None:
        """Take the next record."""

    def close(self, error: str | None) -> None:
        """The run is over; `error` says why it failed, if it did."""


class TensorBoardTracker:
    """Scalars train/* by step and val/* by epoch, and `params` as a table of text; undone steps are purged.

    Raises ValueError where tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, params: Mapping[str, Any] | None = None) -> None:
        self._folder, self._params = Path(folder), params or {}
        self._module = imported("torch.utils.tensorboard", "tensorboard")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer: Any = None

    def heard(self, record: Record) -> None:
        event, step = record["event"], record["step"]
        if event == "start":
            self.close(None)
            self._writer = self._module.SummaryWriter(str(self._folder), purge_step=step + 1, flush_secs=10)
            self._writer.add_text("recipe", _markdown(self._params), step)
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, step)
        if event == "epoch":
            self._writer.flush()  # here a full disk shows

    def close(self, error: str | None) -> None:
        if self._writer is not None:
            self._writer.close()


class Guarded:
    """A tracker whose first failure costs a warning and its further service, but never the training."""

    def __init__(self, tracker: Tracker, name: str, say: Callable[[str], None]) -> None:
        self._tracker, self._name, self._say = tracker, name, say
        self._works = True

    def heard(self, record: Record) -> None:
        if self._works:
            self._attempt(lambda: self._tracker.heard(record))

    def close(self, error: str | None) -> None:
        self._attempt(lambda: self._tracker.close(error))  # even a tracker that failed has things to give back

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            if self._works:
                with suppress(Exception):  # standard output may be what failed
                    self._say(f"warning: {self._name} is switched off and training goes on: {reason}")
            self._works = False


def trackers(
    run_folder: str | Path,
    recipe_name: str,
    params: Mapping[str, Any],
    tensorboard: bool = False,
    mlflow: str | None = None,
    say: Callable[[str], None] = print,
) -> list[Tracker]:
    """The trackers of one run, which keep their files in `run_folder` and go on with those that are there.

    `mlflow` is a folder or a tracking URI; the experiment is named after the recipe, the run after `run_folder`.
    `say` gets lines for a person: epochs, restarts, warnings. Raises ValueError where something asked for is not
    installed or cannot be reached, and OSError where the folder cannot be written.
    """
    folder = Path(run_folder).resolve()
    chosen: list[Tracker] = [JsonlTracker(folder / RECORDS), Guarded(ProgressTracker(say), "the progress bar", say)]
    if tensorboard:
        chosen.append(Guarded(TensorBoardTracker(folder / TENSORBOARD, params), "TensorBoard", say))
    if mlflow is not None:
        runs = MlflowTracker(mlflow, recipe_name, folder.name, params, folder / MLFLOW_RUN_ID)
        chosen.append(Guarded(runs, "MLflow", say))
    return chosen


def _markdown(params: Mapping[str, Any]) -> str:
    cells = ((name, " ".join(value.replace("|", r"\|").split())) for name, value in flattened(params).items())
    return "\n".join(["| parameter | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])
