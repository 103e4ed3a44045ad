"""Endpoints that say what is served and how it does: models, health, readiness, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ray_fer.serving.api_streams import worker_answers
from ray_fer.serving.backend import Backend, Behind
from ray_fer.serving.catalogue import NoModelsError, Role
from ray_fer.serving.metrics import CONTENT_TYPE, exposition

open_router = APIRouter(tags=["status"])
"""Without a key: for load balancers and orchestrators."""
router = APIRouter(tags=["status"])


class ModelEntry(BaseModel):
    """A model and a part that it plays."""

    name: str = Field(examples=["cafer-synthfer"])
    version: str = Field(examples=["0.1.0+1f2e3d4c"])
    classes: list[str]
    cultures: list[str]
    frames: int = Field(description="frames that it reads of each window")
    role: Role
    fraction: float | None = Field(None, description="share of the streams, of a canary or shadow")


class Windows(BaseModel):
    """Seconds that a window covers, and from one window to the next."""

    size: float
    stride: float


class Models(BaseModel):
    """What the deployment serves."""

    default: str
    models: list[ModelEntry]
    windows: Windows
    stream: bool = Field(description="whether Kafka streams are read")
    refused: str | None = Field(None, description="why a newer configuration is not in use")


@open_router.get("/healthz")
async def healthz() -> dict[str, str]:
    """200 while the process answers."""
    return {"status": "ok"}


@open_router.get("/readyz", responses={503: {"description": "not ready; `checks` says why"}})
async def readyz(backend: Behind, response: Response) -> dict[str, Any]:
    """200 when there are models, and the streams are read and answered; what is amiss is said either way."""
    checks = {"models": _models_check(backend)}
    if backend.feed is not None:
        checks["predictions"] = "ok" if backend.feed.alive else "the reader of the predictions topic has ended"
        checks["workers"] = await _workers_check(backend)
    ready = all(said == "ok" for said in checks.values())
    if not ready:
        response.status_code = 503
    return {"ready": ready, "checks": checks}


@router.get("/v1/models")
async def models(backend: Behind) -> Models:
    """The models, who answers the streams, and how long windows are."""
    catalogue = backend.catalogue()
    return Models(
        default=catalogue.default,
        models=[
            ModelEntry(
                name=name, version=model.info.version, classes=list(model.classes), cultures=list(model.cultures),
                frames=model.transform.frames, role=role, fraction=fraction,
            )
            for name, model, role, fraction in catalogue.roles()
        ],
        windows=Windows(size=backend.options.stream.windows.size, stride=backend.options.stream.windows.stride),
        stream=backend.feed is not None,
        refused=catalogue.refused,
    )  # fmt: skip


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"example": "ray_fer_workers 2.0"}}, "description": "Prometheus' format"}
    },
)
async def metrics(backend: Behind) -> Response:
    """All counters for Prometheus."""
    workers = await worker_answers(backend, "statistics")
    return Response(exposition(workers, await backend.ask_apis(), backend.catalogue()), media_type=CONTENT_TYPE)


def _models_check(backend: Backend) -> str:
    try:
        backend.catalogue()
    except NoModelsError as error:
        return str(error)
    return "ok"


async def _workers_check(backend: Backend) -> str:
    try:
        answers = await backend.ask_workers("statistics")
    except TimeoutError:
        return "a stream worker does not answer"
    return "ok" if answers else "no stream worker answers"
