"""What `GET /metrics` exports, and with which labels: made as the API makes it, of figures that are not zero."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client.parser import text_string_to_metric_families

from ray_fer.bundle import PACKAGED
from ray_fer.serving.api_figures import ApiFigures
from ray_fer.serving.catalogue import ModelsConfig, read_catalogue
from ray_fer.serving.metrics import exposition
from ray_fer.streaming.statistics import WorkerStatistics


@lru_cache
def families() -> dict[str, str]:
    """Names of the metrics, without the endings of their samples, and their types.

    Without those that say since when another one counts: nobody is asked to look at them.
    """
    found = {family.name: family.type for family in text_string_to_metric_families(_page())}
    return {name: kind for name, kind in found.items() if not name.endswith("_created")}


@lru_cache
def samples() -> dict[str, dict[str, set[str]]]:
    """Names of the samples; for each its labels, with the values that were seen."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(_page()):
        for one in family.samples:
            labels = found.setdefault(one.name, {})
            for label, value in one.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@lru_cache
def _page() -> str:
    statistics = WorkerStatistics(lag_records={0: 1})
    figures = ApiFigures()
    figures.ended("/readyz", 503, 0.1)
    catalogue = read_catalogue(ModelsConfig(models={"packaged": str(PACKAGED)}))
    return exposition({"worker": statistics.summary()}, [("api", figures.families())], catalogue, ready=True).decode()
