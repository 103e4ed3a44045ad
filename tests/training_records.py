"""Records of training runs that never were, and what reads them back; for tests of trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray_fer.training.mailbox import Record
from ray_fer.training.tracking import Tracker

PARAMS = {"model": "cafer", "optimizer": {"lr": 3e-4, "betas": [0.9, 0.999]}, "augment": None}


def start(step: int = 0, steps_per_epoch: int = 4, epochs: int = 3, workers: int = 2) -> Record:
    return {
        "event": "start", "step": step, "epoch": step // steps_per_epoch,
        "steps_per_epoch": steps_per_epoch, "epochs": epochs, "workers": workers,
    }  # fmt: skip


def one_step(step: int, loss: float = 1.0) -> Record:
    return {
        "event": "step", "step": step, "epoch": 1, "loss": loss,
        "clips": 8, "lr": 1e-3, "seconds": 0.5, "waited": 0.125,
    }  # fmt: skip


def one_epoch(step: int, epoch: int, loss: float = 1.0, **val: Any) -> Record:
    return {
        "event": "epoch", "step": step, "epoch": epoch, "loss": loss, "clips_per_s": 16.04, "waited": 0.01, **val
    }  # fmt: skip


def end(step: int, epoch: int, reason: str = "finished") -> Record:
    return {"event": "end", "step": step, "epoch": epoch, "reason": reason}


CRASHED = [  # after step 6, at which a checkpoint of step 3 was the latest
    *[start(), one_step(1, 0.1), one_step(2, 0.2), one_step(3, 0.3), one_step(4, 0.4)],
    *[one_epoch(4, 1, val_uar=0.25, val_war=0.5), one_step(5, 0.5), one_step(6, 0.6)],
    *[start(3), one_step(4, 4.0), one_epoch(4, 1, val_uar=0.75, val_war=0.5), one_step(5, 5.0)],
]
ONCE = ([1, 2, 3, 4, 5], [0.1, 0.2, 0.3, 4.0, 5.0])  # its loss curve


def tell(tracker: Tracker, records: list[Record], error: str | None = None) -> None:
    for record in records:
        tracker.heard(record)
    tracker.close(error)


def mlflow_run(store: Path, id_file: Path) -> tuple[Any, Any]:
    """A client and the run whose id is in the file."""
    from mlflow import MlflowClient  # late: a tracker imports it first, as it sets what MLflow may do

    client = MlflowClient(store.as_uri())
    return client, client.get_run(id_file.read_text().strip())
