"""MLflow: what it gets of a run, and that a run which goes on stays one MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ray_fer.training.mlflow_tracker import MLFLOW_RUN_ID, MlflowTracker, flattened
from ray_fer.training.recipe import Recipe
from tests.training_records import CRASHED, PARAMS, end, mlflow_run, one_epoch, one_step, start, tell


def points(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def test_mlflow_has_metrics_params_and_the_end(tmp_path: Path) -> None:
    store, id_file = tmp_path / "mlruns", tmp_path / "run" / MLFLOW_RUN_ID
    params = Recipe(name="cafer").model_dump() | {"note": "", "long": "x" * 7000}
    records = [start(), one_step(1, 0.5), one_step(2, 0.25), one_epoch(2, 1, val_uar=0.5, val_per_class=[1.0])]
    tell(MlflowTracker(store, "cafer", "first try", params, id_file), [*records, end(2, 1)])
    client, run = mlflow_run(store, id_file)
    assert client.get_experiment_by_name("cafer").experiment_id == run.info.experiment_id
    assert (run.info.run_name, run.info.status) == ("first try", "FINISHED")
    assert points(client, run, "train/loss") == [(1, 0.5), (2, 0.25)]
    assert points(client, run, "train/waiting") == [(1, 0.25), (2, 0.25)]
    assert points(client, run, "val/uar") == [(2, 0.5)]
    assert "val/per_class" not in run.data.metrics
    assert (run.data.params["optimizer.name"], run.data.params["optimizer.lr"]) == ("adamw", "0.0001")
    assert (run.data.params["note"], run.data.params["long"]) == ("", "x" * 6000)


def test_a_run_that_goes_on_is_one_mlflow_run(tmp_path: Path) -> None:
    store, id_file = tmp_path / "mlruns", tmp_path / MLFLOW_RUN_ID
    middle = len(CRASHED) - 4
    tell(MlflowTracker(store, "cafer", "a", PARAMS, id_file), CRASHED[:middle], error="a worker died")
    client, run = mlflow_run(store, id_file)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "a worker died")

    longer = PARAMS | {"model": "hdf", "epochs": 9}
    tracker = MlflowTracker(store, "cafer", "a", longer, id_file)
    client, again = mlflow_run(store, id_file)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "RUNNING")
    assert (again.data.params["model"], again.data.params["epochs"]) == ("cafer", "9")
    assert again.data.tags["changed params"] == "model=hdf"

    tell(tracker, [*CRASHED[middle:], one_step(6, 6.0), one_step(7, 7.0)])
    client, again = mlflow_run(store, id_file)
    assert again.info.status == "FINISHED"
    assert [step for step, _ in points(client, again, "train/loss")] == [1, 2, 3, 4, 5, 6, 7]  # each once
    assert points(client, again, "val/uar") == [(4, 0.25)]


@pytest.mark.parametrize("known", ["0" * 32, "nonsense", "deleted"])
def test_a_run_that_mlflow_no_longer_has_is_begun_anew(tmp_path: Path, known: str) -> None:
    store, id_file = tmp_path / "mlruns", tmp_path / MLFLOW_RUN_ID
    tell(MlflowTracker(store, "cafer", "a", PARAMS, id_file), [])
    if known == "deleted":
        client, run = mlflow_run(store, id_file)
        client.delete_run(run.info.run_id)
        known = run.info.run_id
    id_file.write_text(known)
    tell(MlflowTracker(store, "cafer", "a", PARAMS, id_file), [start(), one_step(1, 0.5)])
    client, run = mlflow_run(store, id_file)
    assert run.info.run_id != known
    assert points(client, run, "train/loss") == [(1, 0.5)]


def test_params_are_flattened_to_what_mlflow_takes() -> None:
    params = {"a": {"b": {"c": 1}, "empty": {}}, "names": ("x", "y"), "on": True, "rate?": "3e-4"}
    assert flattened(params | {"k" * 300: "v" * 9000}) == {
        "a.b.c": "1",
        "a.empty": "{}",
        "names": '["x", "y"]',
        "on": "true",
        "rate_": "3e-4",
        "k" * 250: "v" * 6000,
    }
