"""Reports that `ray-fer evaluate` might have written; for tests of what compares them."""

from __future__ import annotations

from typing import Any

from ray_fer.evaluation.compare import Report
from ray_fer.labels import EXPRESSIONS


def report(
    name: str = "cafer-dfew",
    dataset: str | list[str] = "dfew",
    protocol: str = "5-fold",
    uar: float = 0.61,
    classes: tuple[str, ...] = EXPRESSIONS,
    count: int = 11_697,
    selection: str = "validation",
    **more: Any,
) -> Report:
    """A report as `ray-fer evaluate` writes it."""
    score = {"value": uar, "low": uar - 0.01, "high": uar + 0.01}
    made: dict[str, Any] = {
        "format": 1,
        "model": {"name": name, "version": "1", "registry": "cafer"},
        "protocol": {"name": protocol, "selection": selection},
        "datasets": [dataset] if isinstance(dataset, str) else dataset,
        "synthetic": False,
        "metrics": {
            "uar": score, "war": {"value": 0.66}, "macro_f1": score, "ece": 0.1, "count": count,
            "recall": dict.fromkeys(classes, 0.5),
        },
        "groups": {},
    }  # fmt: skip
    return Report.model_validate(made | more)


def folds(*uars: float) -> list[dict[str, Any]]:
    return [{"name": str(n), "uar": uar, "war": uar, "macro_f1": uar, "count": 100} for n, uar in enumerate(uars)]
