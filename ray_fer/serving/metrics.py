"""What stream workers and the API count, and which models are served, as Prometheus metrics: `GET /metrics`.

Why not through Ray's own metrics, which every node exports on a port of its own: Ray's agent makes up histograms again
from the middles of their buckets, so that sums and averages of the latency are wrong; it runs only where Ray's
dashboard agent does; and whoever scrapes it must find every node. The workers keep all figures anyway (`statistics`),
so one page shows them as they are, to anyone who may ask the API.

Labels are few: a stage, a status, a verdict, a partition, and Serve's id of the worker's replica, under the name
`replica` that Serve's own metrics have. Never a stream: `GET /v1/streams` has those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ray_fer.serving.api_figures import joined
from ray_fer.serving.catalogue import Catalogue

CONTENT_TYPE = CONTENT_TYPE_LATEST

COUNTERS = {
    "records": ("Records of the frames topic that were looked at for the first time", None),
    "record_bytes": ("Bytes of their values", None),
    "frames": ("Frames in those records, by what became of them", "verdict"),
    "windows": ("Windows given out, by status", "status"),
    "dead_letters": ("Records sent to the dead-letter topic", None),
    "commits": ("Turns committed", None),
    "failed_turns": ("Turns thrown away and made again: the group changed, or Kafka did not take them", None),
    "model_failures": ("Calls of the model that failed; each is repeated", None),
    "stage_seconds": (
        "Seconds spent; fetch waits for records, model waits for faces and expressions and runs beside fetch",
        "stage",
    ),
    "batches": ("Batches given to a stage", "stage"),
    "batch_items": ("Frames (faces) and windows (expressions) in those batches", "stage"),
    "faces_found": ("Frames with a face among those of the faces batches", None),
    "shadow_windows": (
        "Windows about which a shadow model was asked, by whether it named the same expression",
        "agreed",
    ),
}
GAUGES = {
    "lag_records": ("Records of the frames topic not read yet", "partition"),
    "live_streams": ("Streams with frames that wait for their windows to close", None),
    "idle_streams": ("Streams that fell silent and are remembered", None),
    "buffered_frames": ("Frames in memory", None),
    "buffered_bytes": ("Bytes of their payloads", None),
}


def exposition(
    workers: Mapping[str, Mapping[str, Any]] | None,
    apis: Iterable[tuple[str, Sequence[Metric]]] = (),
    catalogue: Catalogue | None = None,
    ready: bool | None = None,
) -> bytes:
    """Prometheus' text format of the workers' summaries and the API's figures, by replica, and of the models.

    `workers` is None where there are to be none, `ready` what `/readyz` says.
    """
    registry = CollectorRegistry(auto_describe=False)
    if workers is not None:
        registry.register(_Workers(workers))
    registry.register(_Given([*joined(apis), *_models(catalogue), *_ready(ready)]))
    return generate_latest(registry)


def _models(catalogue: Catalogue | None) -> Iterator[Metric]:
    if catalogue is None:
        return
    family = GaugeMetricFamily(
        "ray_fer_model_info", "Always 1: a model that is served, and what for", labels=["name", "version", "role"]
    )
    for name, model, role, _ in catalogue.roles():
        family.add_metric([name, model.info.version, role], 1)
    yield family
    text = "1 while a newer list of models is refused, and an older one stays"
    yield GaugeMetricFamily("ray_fer_models_refused", text, value=catalogue.refused is not None)


def _ready(ready: bool | None) -> Iterator[Metric]:
    if ready is not None:
        yield GaugeMetricFamily("ray_fer_ready", "1 while /readyz says so, 0 while it does not", value=ready)


class _Given(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _Workers(Collector):
    def __init__(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("ray_fer_workers", "Stream workers that answered", value=len(self._workers))
        for kind, fields in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, (text, label) in fields.items():
                labels = ["replica"] if label is None else ["replica", label]
                family = kind(f"ray_fer_{name}", text, labels=labels)
                for values, number in self._values(name):
                    family.add_metric(values, number)
                yield family
        yield self._latency()

    def _values(self, name: str) -> Iterator[tuple[list[str], float]]:
        for replica, summary in self._workers.items():
            value = summary[name]
            if isinstance(value, Mapping):
                yield from (([replica, str(key)], number) for key, number in value.items())
            else:
                yield [replica], value

    def _latency(self) -> Metric:
        text = "From a window's newest frame reaching the broker to its prediction being sent"
        family = HistogramMetricFamily("ray_fer_latency_seconds", text, labels=["replica"])
        for replica, summary in self._workers.items():
            alone: Mapping[str, int] = summary["latency_buckets"]
            buckets = list(zip(alone, accumulate(alone.values()), strict=True))
            family.add_metric([replica], buckets, summary["latency_sum"])
        return family
