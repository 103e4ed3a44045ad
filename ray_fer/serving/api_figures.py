"""What the API counts of its own requests: how many, by endpoint and status, and how long they took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_ELSEWHERE = "other"
"""Of requests that no endpoint takes: their paths are anybody's choice, and would fill the metrics."""


_GAVE_UP, _ABNORMAL = 499, 1006
"""A client that went before its answer began, as nginx counts it; and one that went without closing a WebSocket."""


class ApiFigures:
    """Counters of one replica."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ray_fer_api_requests", "Requests and WebSocket connections that ended", ["endpoint", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "ray_fer_api_seconds", "From a request's header to the end of its answer", ["endpoint"], buckets=_BOUNDS_S,
            registry=self._registry,
        )  # fmt: skip

    def ended(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request; `status` is the HTTP status, or the close code of a WebSocket."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def families(self) -> list[Metric]:
        """All figures so far."""
        return list(self._registry.collect())


class CountRequests:
    """ASGI middleware that tells `ApiFigures` of every request."""

    def __init__(self, app: ASGIApp, figures: ApiFigures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status, answered = (500 if scope["type"] == "http" else _ABNORMAL), False

        async def watched(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
            elif message["type"] == "websocket.close":
                status, answered = message.get("code", 1000), True
            await send(message)

        async def heard() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "websocket.disconnect" and not answered:
                status = message.get("code", _ABNORMAL)
            return message

        try:
            await self._app(scope, heard, watched)
        except asyncio.CancelledError:  # Serve does so when the client has gone
            if scope["type"] == "http" and not answered:
                status = _GAVE_UP
            raise
        finally:
            route = scope.get("route")
            endpoint = getattr(route, "path", None) or _ELSEWHERE
            self._figures.ended(endpoint, status, time.monotonic() - started)


def joined(replicas: Iterable[tuple[str, Sequence[Metric]]]) -> Iterator[Metric]:
    """The figures of several replicas as one family each, with the label `replica`."""
    families: dict[str, Metric] = {}
    for replica, found in replicas:
        for one in found:
            family = families.setdefault(one.name, Metric(one.name, one.documentation, one.type))
            for sample in one.samples:
                labels: Mapping[str, str] = {**sample.labels, "replica": replica}
                family.add_sample(sample.name, dict(labels), sample.value)
    yield from families.values()
