"""The HTTP API put together: endpoints, keys, limits, the dashboard's page, and headers that keep browsers careful."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ray_fer
from ray_fer.serving import api_live, api_predict, api_status, api_streams
from ray_fer.serving.admission import Admission
from ray_fer.serving.api_figures import CountRequests
from ray_fer.serving.backend import Backend
from ray_fer.serving.catalogue import NoModelsError, UnknownModelError

_STATIC = Path(__file__).parent / "static"
_ROOM_FOR_FIELDS = 1024**2
_FEW_FIELDS = 10
"""Beside one `pts_us` for each image. One image too many is let in, to be told how many may be."""
_DOCS = "/docs"
_CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# The page of the OpenAPI description has its script inside, and none of our data.
_DOCS_POLICY = f"{_CONTENT_POLICY}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=()",
}
_ABOUT = """Facial expressions in video, one prediction for each window of some seconds.

* `POST /v1/predict`: a video or images, answered as one JSON or as a line for each window.
* `WS /v1/live`: a camera. Send the text `{"type": "start", "model": null, "size": 5, "stride": 1, "lateness": 0.2}`
  (with `"key"` where the deployment asks for one), then binary messages of 8 bytes event time in microseconds
  (big-endian) and a JPEG or PNG; `{"type": "end"}` closes all windows. Answers are `{"type": "ready"}`,
  `{"type": "window", "prediction": {...}}`, `{"type": "broken", "pts_us": ..., "reason": ...}`, `{"type": "end"}`.
* `GET /v1/streams` and its neighbours: what the Kafka streams show, also as server-sent events.

Where the deployment asks for keys, send `Authorization: Bearer KEY`. Predictions are guesses of a model about a face,
not facts about a person."""

_bearer = HTTPBearer(auto_error=False, description="a key made by `ray-fer keys create`")


def create_api(backend: Backend) -> FastAPI:
    """The application for a backend."""
    limits = backend.options.api.uploads
    app = FastAPIOffline(
        docs_url=_DOCS, redoc_url=None, static_url=f"{_DOCS}/static", title="ray_fer", version=ray_fer.__version__,
        description=_ABOUT,
    )  # fmt: skip
    app.state.backend = backend
    app.state.decoding = asyncio.Semaphore(limits.at_once)
    app.state.live = app.state.starting = app.state.listeners = 0
    app.add_middleware(Admission, backend=backend)
    app.add_middleware(CountRequests, figures=backend.figures)
    app.add_middleware(_TooLarge, most=limits.max_bytes)
    app.add_middleware(_CarefulHeaders)
    if backend.options.api.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=backend.options.api.cors_origins, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
        )  # fmt: skip
    app.add_exception_handler(UnknownModelError, _answering(404))
    app.add_exception_handler(NoModelsError, _answering(503))
    needed: list[Any] = []
    refusals: dict[int | str, dict[str, Any]] = {}
    if backend.keys is not None:
        needed = [Depends(_bearer)]  # says so in the description; `Admission` has looked before
        refusals = {
            401: {"description": "a key is needed"}, 429: {"description": "the key has no requests left for now"}
        }  # fmt: skip
    for router in (api_predict.router, api_streams.router, api_status.router):
        app.include_router(
            router, dependencies=needed, responses=refusals, max_body_size=limits.max_bytes + _ROOM_FOR_FIELDS,
            form_limits={"max_files": limits.max_images + 1, "max_fields": limits.max_images + _FEW_FIELDS},
        )  # fmt: skip
    app.include_router(api_status.open_router)
    app.include_router(api_live.router)
    app.mount("/static", StaticFiles(directory=_STATIC))
    app.add_api_route("/", _page, include_in_schema=False)
    return app


async def _page() -> FileResponse:
    return FileResponse(_STATIC / "index.html")


def _answering(status: int) -> Any:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status)

    return answer


class _TooLarge:
    """ASGI middleware that says of a body that is too large what is said of everything else: the framework answers with
    a text of its own."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._answer = JSONResponse({"detail": f"more than {most / 1e6:.0f} MB; send less at once"}, 413)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def translated(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                refused = message["status"] == 413 and (b"content-type", b"application/json") not in message["headers"]
                if refused:
                    await self._answer(scope, receive, send)
            if not refused:
                await send(message)

        await self._app(scope, receive, translated if scope["type"] == "http" else send)


class _CarefulHeaders:
    """ASGI middleware that adds headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"]
                ours = _HEADERS | {"content-security-policy": _DOCS_POLICY if path.endswith(_DOCS) else _CONTENT_POLICY}
                if path.endswith("/") or "/static/" in path:  # the page and its modules are of one release
                    ours |= {"cache-control": "no-cache"}
                message["headers"] = [
                    *message["headers"], *((name.encode(), value.encode()) for name, value in ours.items())
                ]  # fmt: skip
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
