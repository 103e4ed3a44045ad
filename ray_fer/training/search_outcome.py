"""What came out of a search: its trials, the best first, and the arguments that repeat the best."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from ray_fer.training.fit import CHECKPOINTS
from ray_fer.training.mailbox import Record
from ray_fer.training.recipe import Recipe
from ray_fer.training.run_log import RECORDS, read_records
from ray_fer.training.space import settings_of


def outcome_rows(folder: Path, recipe: Recipe, results: list[Any]) -> list[dict[str, Any]]:
    """One row for each draw: from the records of its run in `folder`, and how it ended by Ray Tune's `results`.

    Checkpoints are removed: only the figures are wanted.
    """
    rows = []
    for number, result in enumerate(results):
        name = Path(result.path).name if result.path else f"draw {number}"
        run = next((one for one in folder.glob("*") if one.name in name and (one / RECORDS).is_file()), None)
        error = None if result.error is None else str(result.error).strip().splitlines()[-1]
        row = {"trial": name, "settings": result.config, "value": None, "epoch": None, "epochs": 0}
        if run is not None:
            row |= {"trial": run.name} | _validated(read_records(run / RECORDS), recipe)
            shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        rows.append(row | {"error": error})
    return rows


def _validated(records: list[Record], recipe: Recipe) -> dict[str, Any]:
    """The best validation of a run, its epoch, and how many epochs there were."""
    figure = f"val_{recipe.monitor}"
    epochs = [one for one in records if one["event"] == "epoch"]
    validated = [one for one in epochs if figure in one]
    pick = min if recipe.monitor_mode == "min" else max
    best = pick(validated, key=lambda one: one[figure]) if validated else None
    return {
        "value": None if best is None else best[figure],
        "epoch": None if best is None else best["epoch"],
        "epochs": max((one["epoch"] for one in epochs), default=0),
    }


def outcome(rows: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """What search.json holds: trials with the best first, those that were never validated last."""
    sign = 1 if recipe.monitor_mode == "min" else -1
    ranked = sorted(rows, key=lambda row: (row["value"] is None, sign * (row["value"] or 0.0), row["trial"]))
    best = ranked[0] if ranked and ranked[0]["value"] is not None else None
    arguments = None
    if best is not None:
        arguments = shlex.join([word for one in settings_of(best["settings"]) for word in ("--set", one)])
    return {
        "recipe": recipe.name, "monitor": f"val_{recipe.monitor}", "mode": recipe.monitor_mode,
        "best": best and {**best, "arguments": arguments}, "trials": ranked,
    }  # fmt: skip
