"""The web page of the live system: predictions through a WebSocket, and the figures of the stream workers."""

# No `from __future__ import annotations` here: Serve pickles the class by value, and FastAPI could not resolve
# annotations that are strings by then.

import asyncio
import logging
import threading
from collections import deque
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from ray import serve
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from ray_fer.serving.metrics import CONTENT_TYPE, exposition
from ray_fer.streaming.kafka import assign_all, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.statistics import total

_LOG = logging.getLogger(__name__)
_STATIC = Path(__file__).parent / "static"
_KEPT = 20_000
_PUSH_EVERY_S = 0.2
_WORKERS_ANSWER_S = 3.0

app = FastAPI(title="ray_fer")
app.mount("/static", StaticFiles(directory=_STATIC))


@serve.deployment(max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(app)
class Dashboard:
    """Serves the page, recent predictions, and new ones over a WebSocket. Keeps the last 20,000 predictions."""

    def __init__(self, workers: DeploymentHandle, settings: dict[str, Any]) -> None:
        self._workers = workers
        self._recent: deque[tuple[int, Prediction]] = deque(maxlen=_KEPT)
        self._count = 0
        self._unreadable = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(KafkaSettings(**settings),), daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the reader of the predictions topic has ended")

    def __del__(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    @app.get("/", response_class=FileResponse)
    async def page(self) -> FileResponse:
        """The page."""
        return FileResponse(_STATIC / "index.html")

    @app.get("/api/predictions")
    async def predictions(self) -> list[Prediction]:
        """Recent predictions of all streams, oldest first."""
        return [prediction for _, prediction in self._since(0)]

    @app.get("/api/statistics")
    async def statistics(self) -> dict[str, Any]:
        """Counters of all stream workers and of each, by replica, and how many predictions this page has read."""
        workers = dict(await self._ask("statistics"))
        return {
            "total": total(workers.values()),
            "workers": workers,
            "predictions": self._count,
            "unreadable": self._unreadable,
        }

    @app.get("/api/streams")
    async def streams(
        self, limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Annotated[int, Query(ge=0)] = 0
    ) -> list[dict[str, Any]]:
        """Figures of single streams, those heard of last first.

        A worker knows its latest 1,000 streams. One that went from a worker to another is listed with both, each with
        what it has counted.
        """
        answers = await self._ask("newest_streams", limit + offset)
        found = [{"replica": replica} | stream for replica, streams in answers for stream in streams]
        return sorted(found, key=lambda stream: -stream["heard_at"])[offset : offset + limit]

    @app.get("/metrics", response_class=Response)
    async def metrics(self) -> Response:
        """The counters of the stream workers for Prometheus."""
        return Response(exposition(dict(await self._ask("statistics"))), media_type=CONTENT_TYPE)

    @app.websocket("/ws")
    async def updates(self, socket: WebSocket) -> None:
        """Sends lists of predictions: first the recent ones, then new ones as they come."""
        await socket.accept()
        sent = 0
        try:
            while not self._stop.is_set():
                fresh = self._since(sent)
                if fresh:
                    sent = fresh[-1][0]
                    await socket.send_json([prediction.model_dump() for _, prediction in fresh])
                await asyncio.sleep(_PUSH_EVERY_S)
        except (WebSocketDisconnect, RuntimeError):  # the browser went away; RuntimeError if it did so mid-send
            return

    async def _ask(self, method: str, *arguments: Any) -> list[tuple[str, Any]]:
        """The answers of all stream workers, with their replicas; without those that end just now.

        503 when one does not answer: sums without it would be wrong, and Serve is about to replace it.
        """
        try:
            answers = await self._workers.broadcast(method, *arguments).results_async(
                timeout_s=_WORKERS_ANSWER_S, return_exceptions=True
            )
        except DeploymentUnavailableError:
            return []
        except TimeoutError:
            raise HTTPException(503, "a stream worker does not answer; Serve replaces it if it stays so") from None
        for answer in answers:
            if isinstance(answer, BaseException):
                _LOG.warning("a stream worker did not answer: %s", answer)
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def _since(self, number: int) -> list[tuple[int, Prediction]]:
        fresh = []
        for entry in reversed(self._recent.copy()):
            if entry[0] <= number:
                break
            fresh.append(entry)
        return fresh[::-1]

    def _read(self, settings: KafkaSettings) -> None:
        reader = consumer(settings)
        assign_all(reader, settings.predictions_topic)
        try:
            while not self._stop.is_set():
                for records in reader.poll(timeout_ms=200).values():
                    for record in records:
                        try:
                            prediction = Prediction.model_validate_json(record.value)
                        except (ValidationError, TypeError):
                            self._unreadable += 1
                            continue
                        self._count += 1
                        self._recent.append((self._count, prediction))
        finally:
            reader.close(autocommit=False)
