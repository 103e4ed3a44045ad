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
    checks = _checks(backend)
    if backend.feed is not None:
        checks["workers"] = await _workers_check(backend)
    ready = _all_ok(checks)
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
    workers = await worker_answers(backend, "statistics") if backend.feed is not None else None
    ready = _all_ok(_checks(backend)) and workers != {}
    page = exposition(workers, await backend.ask_apis(), backend.catalogue(), ready)
    return Response(page, media_type=CONTENT_TYPE)


def _checks(backend: Backend) -> dict[str, str]:
    """What a replica knows by itself."""
    checks = {"models": "ok"}
    try:
        backend.catalogue()
    except NoModelsError as error:
        checks["models"] = str(error)
    if backend.feed is not None:
        checks["predictions"] = "ok" if backend.feed.alive else "the reader of the predictions topic has ended"
    return checks


def _all_ok(checks: dict[str, str]) -> bool:
    return all(said == "ok" for said in checks.values())


async def _workers_check(backend: Backend) -> str:
    try:
        answers = await backend.ask_workers("statistics")
    except TimeoutError:
        return "a stream worker does not answer"
    return "ok" if answers else "no stream worker answers"
