"""A deployment of canned answers behind the real page: it speaks the HTTP API without Ray, Kafka or a model.

Uploads and frames are really decoded, so that their errors are real; what is said of them is made up. Look at the page
with `python -m tests.integration.dashboard_server`.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Annotated, Any

import av
import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

import ray_fer.serving
from ray_fer.labels import CULTURES, EXPRESSIONS
from ray_fer.streaming.statistics import WorkerStatistics
from tests.integration.canned_predictions import FRAMES, VERSION, Face

STATIC = Path(ray_fer.serving.__file__).parent / "static"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; style-src 'self'; "
    "script-src 'self'; frame-ancestors 'none'"
)
_POLL_S = 0.02
_HEARTBEAT_S = 15.0


@dataclass
class Deployment:
    """What the server knows and how it answers; tests change it while it runs."""

    key: str | None = None
    model: str = "cafer-synthfer"
    stream: bool = True
    down: bool = False
    """Every request is refused with 503, and open event streams break off."""
    busy: tuple[int, str, int] | None = None
    """Status, detail and seconds to wait with which the next uploads are refused."""
    most_bytes: int = 10 * 2**20
    window_s: float = 0.05
    """How long a window of an upload takes."""
    events: list[tuple[str, str]] = field(default_factory=list)
    """(stream id, JSON) of every prediction, in the order in which they came."""
    statistics: dict[str, Any] = field(default_factory=lambda: WorkerStatistics().summary())
    workers: int = 2
    last_event_ids: list[str | None] = field(default_factory=list)
    """What the clients of the event stream sent."""
    uploads: list[dict[str, Any]] = field(default_factory=list)
    """Query, file names and fields of every upload."""
    live_starts: list[dict[str, Any]] = field(default_factory=list)
    live_frames: list[tuple[int, tuple[int, int]]] = field(default_factory=list)
    """Time and size of every frame that came over the WebSocket."""
    closing: bool = False
    _faces: dict[str, Face] = field(default_factory=dict)

    def play(self, stream_id: str, windows: int = 1, status: str = "ok", session: int | None = None) -> None:
        """Let a stream have so many more windows; another session number begins its time anew."""
        face = self._faces.setdefault(stream_id, Face(stream_id))
        if session is not None and session != face.session:
            face.session, face.index = session, 0
        for _ in range(windows):
            one = face.next_window(status)
            self.events.append((stream_id, one.model_dump_json()))
            self.statistics["windows"][one.status] += 1

    def allows(self, key: str | None) -> bool:
        return self.key is None or key == self.key

    def models(self) -> dict[str, Any]:
        named = {"version": VERSION, "classes": list(EXPRESSIONS), "cultures": list(CULTURES), "frames": FRAMES}
        return {
            "default": self.model,
            "models": [
                {"name": self.model, "role": "default", "fraction": None, **named},
                {"name": "former-dfer", "role": "canary", "fraction": 0.1, **named},
                {"name": "former-dfer", "role": "shadow", "fraction": 0.5, **named},
            ],
            "windows": {"size": 5.0, "stride": 1.0},
            "stream": self.stream,
        }


def application(deployment: Deployment, prefix: str = "") -> FastAPI:
    """The API and the page below `prefix`."""
    inner = FastAPI()
    inner.mount("/static", StaticFiles(directory=STATIC))

    @inner.middleware("http")
    async def guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refusal(deployment, request, prefix) or await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @inner.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @inner.get("/docs")
    async def docs() -> Response:
        return Response("<!doctype html><title>docs</title>", media_type="text/html")

    @inner.get("/v1/models")
    async def models() -> dict[str, Any]:
        return deployment.models()

    @inner.get("/v1/statistics")
    async def statistics() -> dict[str, Any]:
        figures = deployment.statistics
        workers = {f"worker-{number}": figures for number in range(deployment.workers)}
        return {"total": figures, "workers": workers, "predictions": len(deployment.events), "unreadable": 0}

    @inner.get("/v1/streams/{stream_id:path}/windows")
    async def windows(stream_id: str, limit: Annotated[int, Query(ge=1, le=20000)] = 600) -> Response:
        if not deployment.stream:
            raise HTTPException(404, "this deployment reads no Kafka")
        found = [text for name, text in deployment.events if name == stream_id][-limit:]
        return Response(f"[{','.join(found)}]", media_type="application/json")

    @inner.get("/v1/events")
    async def events(request: Request, backlog: Annotated[int, Query(ge=0, le=20000)] = 0) -> StreamingResponse:
        if not deployment.stream:
            raise HTTPException(404, "this deployment reads no Kafka")
        last = request.headers.get("Last-Event-ID")
        deployment.last_event_ids.append(last)
        start = int(last.removeprefix("0:")) if last else max(0, len(deployment.events) - backlog)
        return StreamingResponse(_events(deployment, start), media_type="text/event-stream")

    @inner.post("/v1/predict")
    async def predict(
        request: Request,
        model: str | None = None,
        size: Annotated[float, Query(gt=0)] = 5.0,
        stride: Annotated[float, Query(gt=0)] = 1.0,
    ) -> Response:
        return await _predict(deployment, request, model, size, stride)

    @inner.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await _live(deployment, socket)

    if not prefix:
        return inner
    outer = FastAPI()
    outer.mount(prefix, inner)
    return outer


def _refusal(deployment: Deployment, request: Request, prefix: str) -> JSONResponse | None:
    if not request.url.path.removeprefix(prefix).startswith("/v1/"):
        return None
    if deployment.down:
        return JSONResponse({"detail": "the deployment restarts; try again in a moment"}, 503)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
    if not deployment.allows(given):
        detail = "no such key" if given else "this deployment asks for a key: send Authorization: Bearer KEY"
        return JSONResponse({"detail": detail}, 401)
    return None


async def _events(deployment: Deployment, start: int) -> AsyncIterator[str]:
    yield ": hello\n\n"
    heard = time.monotonic()
    while not (deployment.closing or deployment.down):
        fresh = deployment.events[start : start + 500]
        for number, (_, text) in enumerate(fresh, start + 1):
            yield f"event: window\nid: 0:{number}\ndata: {text}\n\n"
        start += len(fresh)
        if fresh:
            heard = time.monotonic()
        elif time.monotonic() - heard > _HEARTBEAT_S:
            heard = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_POLL_S)


async def _predict(
    deployment: Deployment, request: Request, model: str | None, size: float, stride: float
) -> StreamingResponse:
    body = await request.body()
    if deployment.busy:
        status, detail, wait = deployment.busy
        raise HTTPException(status, detail, headers={"Retry-After": str(wait)})
    if len(body) > deployment.most_bytes:
        raise HTTPException(413, f"the upload is larger than {deployment.most_bytes} bytes; send a shorter video")
    parts = _parts(request.headers["Content-Type"], body)
    files = [(name, content) for field_name, name, content in parts if field_name in ("video", "images")]
    fields = {field_name: content.decode() for field_name, name, content in parts if name is None}
    deployment.uploads.append(
        {"query": dict(request.query_params), "files": [name for name, _ in files], "fields": fields}
    )
    if model is not None and model not in {one["name"] for one in deployment.models()["models"]}:
        raise HTTPException(404, f"no model {model!r} here; GET v1/models lists those that are")
    images = parts[0][0] == "images"
    seconds = len(files) / float(fields["fps"]) if images else _duration(*files[0])
    stream_id = f"upload-{len(deployment.uploads)}"
    face = Face(stream_id, live=False, model=model or deployment.model, size=size, stride=stride)
    broken = [name for name, content in files if images and _size_of(content) is None]
    return StreamingResponse(_lines(deployment, face, seconds, broken), media_type="application/x-ndjson")


async def _lines(deployment: Deployment, face: Face, seconds: float, broken: list[str | None]) -> AsyncIterator[str]:
    count = max(1, int(np.ceil(seconds / face.stride)))
    for _ in range(count):
        await asyncio.sleep(deployment.window_s)
        if deployment.down:
            yield json.dumps({"type": "error", "reason": "the model's replica has died; send the video again"}) + "\n"
            return
        yield json.dumps({"type": "window", "prediction": face.next_window().model_dump()}) + "\n"
    for item in broken:
        yield json.dumps({"type": "broken", "item": item, "reason": "not a picture that can be decoded"}) + "\n"
    yield json.dumps({"type": "end", "windows": count}) + "\n"


def _parts(content_type: str, body: bytes) -> list[tuple[str, str | None, bytes]]:
    """(field, file name, content) of each part of a form."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = []
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(part.get_param("name", header="content-disposition")), part.get_filename(), content))
    return found


def _duration(name: str | None, content: bytes) -> float:
    try:
        with av.open(io.BytesIO(content)) as container:
            return float(container.duration) / av.time_base
    except (av.FFmpegError, TypeError):
        raise HTTPException(400, f"{name}: not a video that can be read; convert it to MP4") from None


def _size_of(jpeg: bytes) -> tuple[int, int] | None:
    """(width, height) of a picture, None if it cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else (picture.shape[1], picture.shape[0])


async def _live(deployment: Deployment, socket: WebSocket) -> None:
    await socket.accept()
    start = await socket.receive_json()
    deployment.live_starts.append(start)
    if not deployment.allows(start["key"]):
        await socket.close(1008, "no such key")
        return
    if deployment.busy:
        await socket.close(1013, deployment.busy[1])
        return
    size, stride = start["size"], start["stride"]
    face = Face("live", size=size, stride=stride, model=start["model"] or deployment.model)
    ready = {"type": "ready", "stream_id": "live-1", "frames": FRAMES, "size": size, "stride": stride}
    await socket.send_json(ready | {"model": {"name": face.model, "version": VERSION}})
    times: list[int] = []
    try:
        while "bytes" in (message := await socket.receive()) and message["bytes"] is not None:
            (pts_us,) = struct.unpack(">Q", message["bytes"][:8])
            shape = _size_of(message["bytes"][8:])
            if shape is None:
                await socket.send_json({"type": "broken", "pts_us": pts_us, "reason": "not a picture"})
                continue
            deployment.live_frames.append((pts_us, shape))
            times.append(pts_us)
            while times[-1] >= face.next_end_us() + start["lateness"] * 1e6:
                await _send_window(socket, face, times)
        if message["type"] == "websocket.receive" and json.loads(message["text"])["type"] == "end":
            while times and times[-1] >= face.next_start_us():
                await _send_window(socket, face, times)
            await socket.send_json({"type": "end", "frames": len(times), "windows": face.index})
            await socket.close(1000)
    except WebSocketDisconnect:
        return


async def _send_window(socket: WebSocket, face: Face, times: list[int]) -> None:
    frames = sum(face.next_start_us() <= one < face.next_end_us() for one in times)
    await socket.send_json({"type": "window", "prediction": face.next_window(frames=frames).model_dump()})


@contextmanager
def serving(deployment: Deployment, prefix: str = "", port: int = 0) -> Iterator[str]:
    """Address of the page, while it is served on a port of its own."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(application(deployment, prefix), log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}/"
    finally:
        deployment.closing = True
        server.should_exit = True
        thread.join()
        listener.close()


def busy_deployment(streams: int = 12, windows: int = 70) -> Deployment:
    """Streams that have run for a while: people, a camera that nobody stands before, one that broke off."""
    deployment = Deployment()
    names = [f"entrance-{number}" for number in range(1, streams - 3)]
    for _ in range(windows):
        for name in names:
            deployment.play(name)
    deployment.play("interview/ward 3.mp4", windows - 9)
    deployment.play("interview/ward 3.mp4", 9, session=4211)
    deployment.play("car park", windows - 8)
    deployment.play("car park", 8, status="no_face")
    for status in ("gap", "ok", "skipped", "ok", "failed", "ok", "ok", "gap", "ok", "ok", "ok", "no_face") * 6:
        deployment.play("lobby-east", status=status)
    deployment.play("reception", windows)
    figures = deployment.statistics
    figures.update(live_streams=streams, idle_streams=2, faces_found=15_210, latency_sum=8120.0)
    figures["batch_items"] |= {"faces": 16_900}
    figures["lag_records"] = {0: 14, 1: 9}
    return deployment


def main() -> None:
    """Serve a deployment whose streams go on, until interrupted."""
    deployment = busy_deployment()
    names = sorted({name for name, _ in deployment.events})
    with serving(deployment, port=8000) as url:
        print(f"dashboard at {url}")
        for name in itertools.cycle(names):
            deployment.play(name)
            time.sleep(1 / len(names))


if __name__ == "__main__":
    main()
