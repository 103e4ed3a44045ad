"""What the HTTP endpoints need of whoever serves them: a replica in Serve, and something smaller in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import Depends, HTTPException
from prometheus_client.core import Metric
from starlette.requests import HTTPConnection

from ray_fer.serving.api_figures import ApiFigures
from ray_fer.serving.catalogue import Catalogue
from ray_fer.serving.feed import Recent
from ray_fer.serving.inference import Stages
from ray_fer.serving.keys import KeyRing
from ray_fer.serving.options import ServingOptions


class Backend(Protocol):
    """Set as `app.state.backend`."""

    options: ServingOptions
    feed: Recent | None
    """Predictions of the streams; None without Kafka."""
    keys: KeyRing | None
    """Who may ask; None for everyone."""
    figures: ApiFigures

    def catalogue(self) -> Catalogue:
        """The models. Raises NoModelsError."""

    def stages(self) -> Stages:
        """The two stages. Their calls wait for answers, so they belong on threads."""

    async def ask_workers(self, method: str, *arguments: Any) -> Sequence[tuple[str, Any]]:
        """The answers of all stream workers, with their replicas; without those that end just now.

        Raises TimeoutError when one does not answer, and gives none without Kafka.
        """

    async def ask_apis(self) -> Sequence[tuple[str, list[Metric]]]:
        """What every replica of the API has counted, this one among them, with their names."""


def backend_of(connection: HTTPConnection) -> Backend:
    """The backend of a request or WebSocket, for FastAPI's `Depends`."""
    backend: Backend = connection.app.state.backend
    return backend


Behind = Annotated[Backend, Depends(backend_of)]
"""The backend, as a parameter of an endpoint."""


def feed_of(backend: Backend) -> Recent:
    """The feed, or 404 where the deployment reads no streams."""
    if backend.feed is None:
        raise HTTPException(404, "this deployment reads no Kafka streams; deploy it with a `kafka` section")
    return backend.feed
