"""What a run tells to MLflow: its scalars and its recipe, as one MLflow run however often it is interrupted."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_fer.training.mailbox import Record
from ray_fer.training.run_log import plain, scalars

MLFLOW_RUN_ID = "mlflow_run_id"  # in the run's folder

_SECONDS_BETWEEN_SENDS = 5.0
_MLFLOW_KEY, _MLFLOW_VALUE, _MLFLOW_TAG = 250, 6000, 5000  # longest that MLflow takes, in characters
_MLFLOW_SETTINGS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # or MLflow refuses a plain folder, which it no longer develops
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is gone holds up the other trackers while it is tried again: seconds, not MLflow's minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowTracker:
    """The same scalars as an MLflow run, with `params` flattened ("optimizer.lr").

    `folder_or_uri`: a folder, or what MLflow calls a tracking URI (http://..., databricks). `id_file` keeps the run's
    id: where it is there, that run goes on. MLflow can forget neither points nor params: steps that are done again
    are not sent again, and params that changed since are in the tag "changed params".
    Raises ValueError where MLflow is not installed or cannot be reached.
    """

    def __init__(
        self, folder_or_uri: str | Path, experiment: str, run_name: str, params: Mapping[str, Any], id_file: str | Path
    ) -> None:
        for name, value in _MLFLOW_SETTINGS.items():
            os.environ.setdefault(name, value)
        self._entities = imported("mlflow.entities", "ray-fer[mlflow]")
        mlflow, id_file, place = imported("mlflow", "ray-fer[mlflow]"), Path(id_file), str(folder_or_uri)
        is_uri = "://" in place or place.startswith(("databricks", "file:"))
        self._pending: list[Any] = []
        self._last: dict[str, int] = {}  # the last step that has been sent of each metric
        self._sent = time.monotonic()
        try:
            self._client = mlflow.MlflowClient(place if is_uri else Path(place).resolve().as_uri())
            run = self._known_run(id_file) or self._client.create_run(self._experiment(experiment), run_name=run_name)
            self._run = run.info.run_id
            self._log_params(flattened(params), run.data.params)
        except Exception as error:
            hint = " A database needs the whole package: pip install mlflow" if "sql" in place.split(":")[0] else ""
            raise ValueError(f"MLflow at {place} cannot be used: {error}{hint}") from error
        id_file.parent.mkdir(parents=True, exist_ok=True)
        id_file.write_text(self._run + "\n")

    def heard(self, record: Record) -> None:
        step, now = record["step"], round(time.time() * 1000)
        for name, value in scalars(record).items():
            if step > self._last.get(name, -1):
                self._last[name] = step
                self._pending.append(self._entities.Metric(name, value, now, step))
        if record["event"] != "step" or time.monotonic() - self._sent > _SECONDS_BETWEEN_SENDS:
            self._send()

    def close(self, error: str | None) -> None:
        self._send()
        if error is not None:
            self._client.set_tag(self._run, "error", error[:_MLFLOW_TAG])
        self._client.set_terminated(self._run, "FINISHED" if error is None else "FAILED")

    def _send(self) -> None:
        self._client.log_batch(self._run, metrics=self._pending)
        self._pending, self._sent = [], time.monotonic()

    def _known_run(self, id_file: Path) -> Any:
        """The run that goes on, with what it has already; None where there is none (any more)."""
        if not id_file.is_file():
            return None
        try:
            run = self._client.get_run(id_file.read_text().strip())
        except Exception as error:
            if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        if run.info.lifecycle_stage == "deleted":
            return None
        self._client.update_run(run.info.run_id, status="RUNNING")
        for name in run.data.metrics:
            self._last[name] = max(point.step for point in self._client.get_metric_history(run.info.run_id, name))
        return run

    def _experiment(self, name: str) -> str:
        """The id of the experiment of that name, made where there is none."""
        if (known := self._client.get_experiment_by_name(name)) is not None:
            return known.experiment_id
        try:
            return self._client.create_experiment(name)
        except Exception:  # another fold may have made it in between
            if (known := self._client.get_experiment_by_name(name)) is None:
                raise
            return known.experiment_id

    def _log_params(self, params: dict[str, str], logged: Mapping[str, str]) -> None:
        fresh = [self._entities.Param(name, value) for name, value in params.items() if name not in logged]
        self._client.log_batch(self._run, params=fresh)
        changed = [f"{name}={value}" for name, value in params.items() if logged.get(name, value) != value]
        if changed:
            self._client.set_tag(self._run, "changed params", ", ".join(changed)[:_MLFLOW_TAG])


def flattened(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested params as one level with dots, in MLflow's characters and lengths; what is not text is JSON."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=plain)
            flat[re.sub(r"[^\w. :-]", "_", f"{prefix}{name}")[:_MLFLOW_KEY]] = text[:_MLFLOW_VALUE]
    return flat


def imported(module: str, package: str) -> Any:
    """A module that not everyone installs; ValueError says which package brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported ({error}); pip install {package!r}") from error
