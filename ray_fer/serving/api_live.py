"""`WS /v1/live`: a camera's frames in, windows out, while both sides go on."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.websockets import WebSocketState

from ray_fer.bundle import BundleError
from ray_fer.serving.backend import Backend, backend_of
from ray_fer.serving.catalogue import NoModelsError, ServedModel, UnknownModelError
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.keys import KeyEntry
from ray_fer.serving.live_session import LiveSession, Start
from ray_fer.serving.uploads import TooLargeError, decode_limits

router = APIRouter(tags=["prediction"])

_LOG = logging.getLogger(__name__)
_START_S, _STARTING = 10.0, 32
"""For the first message, before which nobody has shown a key; so many connections may wait with it at once."""
_IDLE_S = 60.0
_LONGEST_REASON = 120  # a close frame has room for 123 bytes
_WRONG, _REFUSED, _TOO_MUCH, _FAILED, _LATER = 1007, 1008, 1009, 1011, 1013


class _CloseError(Exception):
    """Why the connection is closed, with the code that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@router.websocket("/v1/live")
async def live(socket: WebSocket) -> None:
    """See the API's description."""
    await socket.accept()
    backend = backend_of(socket)
    try:
        state = socket.app.state
        if state.starting >= _STARTING:
            raise _CloseError(_LATER, "too many connections that have not begun; try again")
        state.starting += 1
        try:
            start, entry = await _started(socket, backend)
        finally:
            state.starting -= 1
        if state.live >= backend.options.api.uploads.live_at_once:
            raise _CloseError(_LATER, "too many live connections; try again")
        state.live += 1
        try:
            await _talk(socket, backend, start, entry)
        finally:
            state.live -= 1
        await socket.close(1000)
    except _CloseError as error:
        await socket.close(error.code, str(error).encode()[:_LONGEST_REASON].decode(errors="ignore"))
    except WebSocketDisconnect:
        return
    except Exception:
        if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
            return  # the client went away while we sent
        _LOG.exception("a live connection failed")
        await socket.close(_FAILED, "the server failed; its log says why")


async def _started(socket: WebSocket, backend: Backend) -> tuple[Start, KeyEntry | None]:
    """What the client wants, and by which key."""
    try:
        message = await asyncio.wait_for(socket.receive(), _START_S)
    except TimeoutError:
        raise _CloseError(_WRONG, 'the first message did not come: send {"type": "start"}') from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    try:
        start = Start.model_validate_json(message.get("text") or "")
        if start.stride > start.size:
            raise ValueError("stride exceeds size")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _CloseError(_WRONG, f"start message: {where} {first['msg']}".replace("  ", " ")) from None
    except ValueError as error:
        raise _CloseError(_WRONG, f"start message: {error}") from None
    entry = None
    if backend.keys is not None:
        entry = backend.keys.check(start.key) if start.key else None
        if entry is None:
            raise _CloseError(
                _REFUSED, "no such API key" if start.key else "an API key is needed: `key` in the start message"
            )
        if backend.keys.spend(entry) > 0:
            raise _CloseError(_REFUSED, "this key has spent its requests; try again in a minute")
    return start, entry


async def _talk(socket: WebSocket, backend: Backend, start: Start, entry: KeyEntry | None) -> None:
    stream_id = f"live-{secrets.token_hex(4)}"
    uploads = backend.options.api.uploads

    def choose() -> ServedModel:
        return backend.catalogue().choose(start.model, stream_id)

    limiter = CapacityLimiter(1)  # a connection's calls wait for each other, and not for other connections'
    with ExitStack() as held:

        def opened() -> LiveSession:
            decoder = held.enter_context(IsolatedDecoder(decode_limits(uploads)))
            return LiveSession(stream_id, start, choose, backend.stages(), decoder, uploads)

        try:
            session = await to_thread.run_sync(opened, limiter=limiter)
        except (UnknownModelError, NoModelsError) as error:
            raise _CloseError(_REFUSED, str(error)) from None
        await socket.send_json(
            {
                "type": "ready", "stream_id": stream_id, "model": session.model.info.model_dump(),
                "frames": session.model.transform.frames, "size": start.size, "stride": start.stride,
            }
        )  # fmt: skip
        fresh, ended = asyncio.Event(), asyncio.Event()

        def admitted() -> bool:
            return entry is None or backend.keys is None or backend.keys.knows(entry)

        receiving = asyncio.create_task(_receive(socket, session, fresh, ended, admitted))
        answering = asyncio.create_task(_answer(socket, session, fresh, ended, limiter))
        try:
            done, _ = await asyncio.wait([receiving, answering], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in (receiving, answering):
                task.cancel()
            await asyncio.gather(receiving, answering, return_exceptions=True)
        await socket.send_json({"type": "end", "frames": session.frames, "windows": session.windows})


async def _receive(
    socket: WebSocket, session: LiveSession, fresh: asyncio.Event, ended: asyncio.Event, admitted: Callable[[], bool]
) -> None:
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), _IDLE_S)
        except TimeoutError:
            raise _CloseError(1000, f"no frame for {_IDLE_S:.0f} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        if not admitted():
            raise _CloseError(_REFUSED, "this API key has been removed")
        if message.get("bytes") is not None:
            try:
                broken = session.add(message["bytes"])
            except TooLargeError as error:
                raise _CloseError(_TOO_MUCH, str(error)) from None
            except ValueError as error:
                raise _CloseError(_WRONG, str(error)) from None
            if broken is not None:
                await socket.send_json(broken)
        elif _is_end(message.get("text")):
            session.end()
            ended.set()
            fresh.set()
            return
        else:
            raise _CloseError(_WRONG, 'a text message after the first is {"type": "end"}')
        if session.waiting:
            fresh.set()


def _is_end(text: str | None) -> bool:
    try:
        return json.loads(text or "") == {"type": "end"}
    except ValueError:
        return False


async def _answer(
    socket: WebSocket, session: LiveSession, fresh: asyncio.Event, ended: asyncio.Event, limiter: CapacityLimiter
) -> None:
    while not (ended.is_set() and not session.waiting):
        await fresh.wait()
        fresh.clear()
        messages: Iterator[dict[str, Any]] = session.answer()
        try:
            while (message := await to_thread.run_sync(next, messages, None, limiter=limiter)) is not None:
                await socket.send_json(message)
        except (BundleError, RayError, RayServeException, TimeoutError) as error:
            _LOG.warning("a model did not answer: %s", error)
            raise _CloseError(_LATER, "the model does not answer; try again") from None
