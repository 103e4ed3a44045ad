"""Who may come in, decided from the head of a request: nothing of its body is read before, and the body may not take
for ever."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_fer.serving.backend import Backend, backend_of

_OPEN = ("/", "/healthz", "/readyz", "/openapi.json", "/docs")
"""What is given without a key: the page, the description, and what load balancers ask."""
_OPEN_BELOW = ("/static/", "/docs/")
_WRONG_PLACE = 1008


class Admission:
    """ASGI middleware for `backend`: names that a browser may know us by, keys, and slow bodies.

    `WS /v1/live` asks for a key in its first message, because browsers cannot send headers with a WebSocket.
    """

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app = app
        self._keys = backend.keys
        self._options = backend.options.api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        elsewhere = self._elsewhere(headers, scope["type"] == "websocket")
        if scope["type"] == "websocket":
            if elsewhere is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": _WRONG_PLACE, "reason": elsewhere})
            return
        refusal = JSONResponse({"detail": elsewhere}, 403) if elsewhere else self._without_key(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _in_time(receive, self._options.uploads.max_receive_seconds), send)

    def _elsewhere(self, headers: Headers, socket: bool) -> str | None:
        """Why a browser asks for another site's sake; None if it does not.

        Where nobody needs a key, being on this machine is what lets a caller in. A page from elsewhere is on it, too:
        it may have its name point here, or open a WebSocket, which no browser holds back.
        """
        host = headers.get("host", "")
        names = self._options.hosts
        if names and _name(host) not in names:
            return f"this is not {host}: it answers to {', '.join(names)}; others need --keys or --insecure"
        origin = headers.get("origin")
        if socket and origin and self._keys is None and origin not in self._options.cors_origins:
            asked = urlsplit(origin).netloc
            if asked != host:
                return f"pages of {origin} may not open this; the operator may allow them with --cors-origin"
        return None

    def _without_key(self, scope: Scope, headers: Headers) -> Response | None:
        """What is answered to a request without a key that is known and has requests left."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._keys is None or path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        kind, _, key = headers.get("authorization", "").partition(" ")
        given = kind.lower() == "bearer" and key != ""
        entry = self._keys.check(key.strip()) if given else None
        if entry is None:
            why = "no such API key" if given else "an API key is needed: send Authorization: Bearer KEY"
            return JSONResponse({"detail": why}, 401, {"WWW-Authenticate": "Bearer"})
        seconds = self._keys.spend(entry)
        if seconds:
            why = f"this key has spent its requests; try again in {seconds} s"
            return JSONResponse({"detail": why}, 429, {"Retry-After": str(seconds)})
        scope.setdefault("state", {})["key"] = entry
        return None


def still_admitted(connection: HTTPConnection) -> bool:
    """Whether the key with which a long answer began is still in the file."""
    keys = backend_of(connection).keys
    return keys is None or keys.knows(connection.state.key)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _in_time(receive: Receive, seconds: float) -> Receive:
    """The body must come within so many seconds; then a request may take as long as it needs."""
    until = time.monotonic() + seconds
    whole = False

    async def received() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise HTTPException(
                408, f"the body took longer than {seconds:.0f} s to come; send less, or from closer by"
            ) from None
        whole = not message.get("more_body", False)
        return message

    return received
