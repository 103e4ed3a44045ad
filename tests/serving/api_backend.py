"""The API on a port, with everything real but Ray and Kafka: the packaged model runs in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import uvicorn
from prometheus_client.core import Metric

from ray_fer.serving import isolated
from ray_fer.serving.api import create_api
from ray_fer.serving.api_figures import ApiFigures
from ray_fer.serving.catalogue import Catalogue, NoModelsError, models_of, read_catalogue
from ray_fer.serving.feed import Recent
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.inference import Stages
from ray_fer.serving.keys import KeyRing
from ray_fer.serving.options import ApiOptions, ServingOptions
from ray_fer.streaming.broker import free_port
from ray_fer.streaming.statistics import WorkerStatistics


class InProcessBackend:
    """A `Backend`. `streams=False` is a deployment without Kafka."""

    def __init__(self, api: ApiOptions | None = None, streams: bool = True, keys: KeyRing | None = None) -> None:
        self.options = ServingOptions(api=api or ApiOptions())
        self.feed: Recent | None = Recent() if streams else None
        self.keys = keys
        self.figures = ApiFigures()
        self.worker = WorkerStatistics()
        self.models: Catalogue | None = read_catalogue(models_of(["packaged", "other=packaged"]))
        self.silent_workers = False
        self._running = InProcess(threads=1)
        self.replaced_stages: Stages | None = None

    def catalogue(self) -> Catalogue:
        if self.models is None:
            raise NoModelsError("no models are configured")
        return self.models

    def stages(self) -> Stages:
        return self.replaced_stages or self._running.stages

    async def ask_workers(self, method: str, *arguments: Any) -> Sequence[tuple[str, Any]]:
        if self.feed is None:
            return []
        if self.silent_workers:
            raise TimeoutError
        if method == "statistics":
            return [("worker-a", self.worker.summary())]
        return [("worker-a", self.worker.newest_streams(*arguments))]

    async def ask_apis(self) -> Sequence[tuple[str, list[Metric]]]:
        return [("api-a", self.figures.families())]

    def close(self) -> None:
        self._running.close()


@contextmanager
def on_a_port(backend: InProcessBackend) -> Iterator[str]:
    """URL of the API, without a slash at its end."""
    port = free_port()
    config = uvicorn.Config(
        create_api(backend), host="127.0.0.1", port=port, lifespan="off", log_level="error", ws_max_size=2**25
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(timeout=10)
        backend.close()


def decoders() -> list[psutil.Process]:
    """Processes that decode uploads now."""
    assert isolated._TEMPLATE._process is not None
    return psutil.Process(isolated._TEMPLATE._process.pid).children(recursive=True)


def no_decoder_stays() -> None:
    """They have ended, or do so within ten seconds."""
    deadline = time.monotonic() + 10
    while decoders() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert decoders() == []
