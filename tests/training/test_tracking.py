"""Tracking: TensorBoard, all trackers of a run together, and what a failure of one of them does to it."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ray_fer.training.mailbox import Record
from ray_fer.training.mlflow_tracker import MLFLOW_RUN_ID
from ray_fer.training.run_log import RECORDS, JsonlTracker, loss_curve, read_records
from ray_fer.training.tracking import TENSORBOARD, Guarded, TensorBoardTracker, trackers
from tests.training_records import CRASHED, ONCE, PARAMS, end, mlflow_run, one_epoch, one_step, start, tell


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture
def a_second_per_event_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads files in the order of their names, which begin with the second: restarts take longer."""
    seconds = itertools.count(1_000_000)
    monkeypatch.setattr(
        "tensorboard.summary.writer.event_file_writer.time", SimpleNamespace(time=lambda: next(seconds))
    )


def test_tensorboard_has_scalars_and_the_recipe(tmp_path: Path) -> None:
    val = {"val_uar": 0.5, "val_war": 0.75, "val_loss": np.float32(1.5), "val_f1_per_class": [0.5], "val_ok": True}
    tell(TensorBoardTracker(tmp_path, PARAMS | {"note": "a|b"}), [start(), one_step(1, 0.5), one_epoch(1, 1, **val)])
    assert scalars(tmp_path) == {
        "train/loss": [(1, 0.5)],
        "train/lr": [(1, pytest.approx(1e-3))],
        "train/clips_per_s": [(1, 16.0)],
        "train/waiting": [(1, 0.25)],
        "val/uar": [(1, 0.5)],
        "val/war": [(1, 0.75)],
        "val/loss": [(1, 1.5)],
    }
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| optimizer.lr | 0.0003 |" in text
    assert "| augment | null |" in text
    assert r"| note | a\|b |" in text


@pytest.mark.usefixtures("a_second_per_event_file")
@pytest.mark.parametrize("sessions", [1, 2])
def test_tensorboard_forgets_what_was_undone(tmp_path: Path, sessions: int) -> None:
    middle = len(CRASHED) - 4
    parts = [CRASHED] if sessions == 1 else [CRASHED[:middle], CRASHED[middle:]]
    for part in parts:
        tell(TensorBoardTracker(tmp_path, PARAMS), part)
    drawn = scalars(tmp_path)
    steps, losses = ONCE
    assert drawn["train/loss"] == [(step, pytest.approx(loss)) for step, loss in zip(steps, losses, strict=True)]
    assert drawn["val/uar"] == [(4, 0.75)]


class Broken:
    """Fails from the second record on."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def heard(self, record: Record) -> None:
        self.calls.append(record["event"])
        if len(self.calls) > 1:
            raise ConnectionError("the server\nis gone")

    def close(self, error: str | None) -> None:
        self.calls.append("close")
        raise ConnectionError("still gone")


def test_a_tracker_that_fails_is_switched_off_with_one_warning() -> None:
    broken, said = Broken(), []
    tell(Guarded(broken, "MLflow", said.append), [start(), one_step(1), one_step(2), one_step(3)])
    assert broken.calls == ["start", "step", "close"]
    assert said == ["warning: MLflow is switched off and training goes on: ConnectionError: the server is gone"]


def test_a_warning_that_cannot_be_said_does_no_harm() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    tell(Guarded(Broken(), "MLflow", say), [start(), one_step(1)])


def test_an_mlflow_store_that_goes_away_does_not_stop_the_run(tmp_path: Path) -> None:
    said: list[str] = []
    chosen = trackers(tmp_path / "run", "cafer", PARAMS, mlflow=str(tmp_path / "ml"), say=said.append)
    (tmp_path / "ml").rename(tmp_path / "elsewhere")
    for record in [start(), one_step(1), one_epoch(1, 1)]:
        for tracker in chosen:
            tracker.heard(record)
    for tracker in chosen:
        tracker.close(None)
    assert ["MLflow is switched off" in line for line in said if line.startswith("warning")] == [True]
    assert loss_curve(read_records(tmp_path / "run" / RECORDS)) == ([1], [1.0])


@pytest.mark.parametrize(
    ("module", "asked", "advice"),
    [
        ("mlflow", {"mlflow": "mlruns"}, r"pip install 'ray-fer\[mlflow\]'"),
        ("torch.utils.tensorboard", {"tensorboard": True}, "pip install 'tensorboard'"),
    ],
)
def test_what_is_not_installed_is_said_before_training(
    module: str, asked: dict[str, Any], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=advice):
        trackers(tmp_path, "cafer", PARAMS, **asked)


def test_an_mlflow_server_that_does_not_answer_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used"):
        trackers(tmp_path, "cafer", PARAMS, mlflow="http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"A database needs the whole package: pip install mlflow"):
        trackers(tmp_path, "cafer", PARAMS, mlflow="mysql://127.0.0.1:9/x")


def test_all_trackers_of_a_run(tmp_path: Path) -> None:
    folder, store, said = tmp_path / "run-1", tmp_path / "mlruns", []
    chosen = trackers(folder, "cafer", PARAMS, tensorboard=True, mlflow=str(store), say=said.append)
    for record in [*CRASHED, end(5, 1, "early stopping")]:
        for tracker in chosen:
            tracker.heard(record)
    for tracker in chosen:
        tracker.close(None)
    assert loss_curve(read_records(folder / RECORDS)) == ONCE
    assert [step for step, _ in scalars(folder / TENSORBOARD)["train/loss"]] == ONCE[0]
    _, run = mlflow_run(store, folder / MLFLOW_RUN_ID)
    assert run.info.run_name == "run-1"
    assert sorted(path.name for path in folder.iterdir()) == [MLFLOW_RUN_ID, RECORDS, TENSORBOARD]
    assert said[-1] == "early stopping after epoch 1"
    assert [type(tracker) for tracker in trackers(folder, "cafer", PARAMS)] == [JsonlTracker, Guarded]
