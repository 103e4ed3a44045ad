"""How fast the HTTP API answers, beside the same code without HTTP and Serve in as many processes as there are cores.

A request is a video of some seconds. Direct means what a replica does with it, in plain loops: decoding in a process of
its own, windows, faces, model. Everything shares the machine, clients and Serve's proxy too, so the overhead is what
all of that costs once no core has anything left to give.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import struct
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import websockets

from ray_fer.serving.cameras import FPS, Footage
from ray_fer.serving.catalogue import bundle_folder, models_of, served
from ray_fer.serving.in_process import InProcess
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.options import ServingOptions, UploadLimits
from ray_fer.serving.uploads import answers, decode_limits, video_upload
from ray_fer.streaming.windows import WindowConfig

_APP = "ray-fer-bench-serve"
_WARM_UP_S = 5.0
_WARM_UP_EACH_S = 0.5
_LIVE_FPS = 10


@dataclass(frozen=True)
class Answered:
    """What so many clients at once were answered. Times in seconds: of a request, or of a live window."""

    clients: int
    requests_per_s: float
    windows_per_s: float
    p50_s: float
    p99_s: float
    refused: int
    skipped: float = 0.0
    """Share of live windows that were passed over."""


def direct(bundle: Path, video: Path, seconds: float, processes: int) -> float:
    """Windows per second of all processes together."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return sum(one.result() for one in [pool.submit(_direct, bundle, video, seconds) for _ in range(processes)])


def _direct(bundle: Path, video: Path, seconds: float) -> float:
    model, limits = served(bundle), UploadLimits()
    config = WindowConfig(frames=model.transform.frames)
    with InProcess(threads=1) as running:

        def one_request() -> int:
            with IsolatedDecoder(decode_limits(limits)) as decoder:
                upload = video_upload(decoder, video, "s", config, limits.max_windows)
                return len(list(answers(upload, running.stages, model)))

        one_request()
        began, windows = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            windows += one_request()
        return windows / (time.perf_counter() - began)


@contextmanager
def serving(bundle: Path, faces: int, apis: int, port: int) -> Iterator[str]:
    """The API alone, without streams; yields its URL without a slash at the end.

    The same port every time: Serve keeps the one that it was started with.
    """
    # Imported late: the modules define Serve deployments, which wants Ray's logging settled first.
    from ray_fer.serving.app import build
    from ray_fer.serving.application import deployed

    limits = UploadLimits(at_once=64, wait_s=300, live_at_once=64)
    options = ServingOptions.model_validate(
        {"models": models_of([bundle]), "faces": faces, "apis": apis, "api": {"uploads": limits}}
    )
    with deployed(build(options), _APP, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


def http_trial(url: str, video: Path, clients: int, seconds: float) -> Answered:
    """So many clients, each with one request at a time, from a process of their own."""
    return _elsewhere(_http_clients, url, video.read_bytes(), clients, seconds)


def live_trial(url: str, footage: Footage, clients: int, seconds: float) -> Answered:
    """So many cameras of 640x480 JPEGs at 10 frames/s, each on a WebSocket, from a process of their own."""
    step = FPS // _LIVE_FPS
    return _elsewhere(_live_clients, url, [list(camera[::step]) for camera in footage], clients, seconds)


def _elsewhere(call: Callable[..., Coroutine[Any, Any, Answered]], *arguments: Any) -> Answered:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, call, *arguments).result()


def _run(call: Callable[..., Coroutine[Any, Any, Answered]], *arguments: Any) -> Answered:
    return asyncio.run(call(*arguments))


async def _http_clients(url: str, video: bytes, clients: int, seconds: float) -> Answered:
    times: list[float] = []
    windows = refused = 0
    begins, ends = _span(clients, seconds)

    async def client() -> None:
        nonlocal refused
        async with httpx.AsyncClient(timeout=600) as http:
            while (started := time.perf_counter()) < ends:
                done = await request(http)
                now = time.perf_counter()
                if begins <= now < ends:
                    refused += not done
                    times.extend([now - started] * done)

    async def request(http: httpx.AsyncClient) -> bool:
        """Whether it was answered. Windows count as they come: whole requests would make a trial's ends ragged."""
        nonlocal windows
        files = {"video": ("video.mp4", video, "video/mp4")}
        kind = ""
        async with http.stream("POST", f"{url}/v1/predict?format=ndjson", files=files) as answer:
            if answer.status_code != 200:
                return False
            async for line in answer.aiter_lines():
                kind = json.loads(line).get("type", "")
                windows += kind == "window" and begins <= time.perf_counter() < ends
        return kind == "end"

    await asyncio.gather(*(client() for _ in range(clients)))
    return _answered(clients, times, windows, refused, seconds)


def _span(clients: int, seconds: float) -> tuple[float, float]:
    """When a trial begins and ends: not before clients, who all come at once, have fallen out of step."""
    begins = time.perf_counter() + _WARM_UP_S + _WARM_UP_EACH_S * clients
    return begins, begins + seconds


async def _live_clients(url: str, cameras: Sequence[Sequence[bytes]], clients: int, seconds: float) -> Answered:
    times: list[float] = []
    skipped = refused = 0
    begins, ends = _span(clients, seconds)

    async def camera(number: int) -> None:
        nonlocal refused
        frames = cameras[number % len(cameras)]
        address = f"{url.replace('http', 'ws')}/v1/live"
        await asyncio.sleep(number / clients / _LIVE_FPS)
        try:
            async with websockets.connect(address, max_size=2**24, open_timeout=60) as socket:
                await socket.send(json.dumps({"type": "start", "lateness": 0}))
                await socket.recv()
                origin = time.perf_counter()
                reading = asyncio.create_task(read(socket, origin))
                sent = 0
                while time.perf_counter() < ends:
                    await socket.send(struct.pack(">Q", sent * 1_000_000 // _LIVE_FPS) + frames[sent % len(frames)])
                    sent += 1
                    await asyncio.sleep(max(0.0, origin + sent / _LIVE_FPS - time.perf_counter()))
                reading.cancel()
        except (OSError, TimeoutError, websockets.WebSocketException):
            refused += 1

    async def read(socket: Any, origin: float) -> None:
        nonlocal skipped
        async for message in socket:
            said = json.loads(message)
            now = time.perf_counter()
            if said["type"] == "window" and begins <= now < ends:
                skipped += said["prediction"]["status"] == "skipped"
                times.append(now - origin - said["prediction"]["window"]["end_us"] / 1e6)

    await asyncio.gather(*(camera(number) for number in range(clients)))
    return _answered(clients, times, len(times), refused, seconds, skipped)


def _answered(
    clients: int, times: Sequence[float], windows: int, refused: int, seconds: float, skipped: int = 0
) -> Answered:
    p50_s, p99_s = (float(np.percentile(times or [0.0], percent)) for percent in (50, 99))
    share = skipped / max(1, windows)
    return Answered(clients, len(times) / seconds, windows / seconds, p50_s, p99_s, refused, share)


def batching(bundle: Path, together: int, callers: int, seconds: float, port: int) -> Answered:
    """The expression stage alone: so many callers with one window each at a time, `together` in a batch at most."""
    from ray import serve

    from ray_fer.serving import deployments
    from ray_fer.serving.application import deployed

    stage: Any = deployments.Expressions
    transform = served(bundle).transform
    clip = np.random.default_rng(0).integers(0, 256, (transform.frames, *2 * (transform.canvas,), 3), np.uint8)
    with deployed(stage.bind(1, together), _APP, "127.0.0.1", port):
        handle = serve.get_app_handle(_APP).options(multiplexed_model_id=str(bundle_folder(bundle)))
        return asyncio.run(_call(handle, [clip], callers, seconds))


async def _call(handle: Any, clips: list[np.ndarray], callers: int, seconds: float) -> Answered:
    times: list[float] = []
    begins, ends = _span(callers, seconds)

    async def caller() -> None:
        while (started := time.perf_counter()) < ends:
            await handle.classify.remote(clips)
            now = time.perf_counter()
            if begins <= now < ends:
                times.append(now - started)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return _answered(callers, times, len(times), 0, seconds)
