"""How requests and connections end, as the API counts it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_fer.serving.api_figures import ApiFigures, CountRequests


def counted(app: ASGIApp, kind: str, *messages: Message) -> list[str]:
    """The statuses after one request to an application that gets these messages."""
    figures, waiting = ApiFigures(), list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        pass

    async def one() -> None:
        await CountRequests(app, figures)({"type": kind, "path": "/x"}, receive, send)

    with contextlib.suppress(asyncio.CancelledError, ZeroDivisionError):
        asyncio.run(one())
    samples = [one for family in figures.families() for one in family.samples]
    return [one.labels["status"] for one in samples if one.name == "ray_fer_api_requests_total" and one.value == 1]


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def answers_and_is_left(scope: Scope, receive: Receive, send: Send) -> None:
    await answers(scope, receive, send)
    raise asyncio.CancelledError


async def is_left(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def listens(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1008})
    await receive()


@pytest.mark.parametrize(
    ("app", "kind", "status"),
    [
        (answers, "http", "200"),
        (answers_and_is_left, "http", "200"),
        (is_left, "http", "499"),  # no error of ours
        (breaks, "http", "500"),
        (listens, "websocket", "1001"),
        (closes, "websocket", "1008"),
        (breaks, "websocket", "1006"),
    ],
)
def test_how_it_ends(app: ASGIApp, kind: str, status: str) -> None:
    assert counted(app, kind, {"type": "websocket.disconnect", "code": 1001}) == [status]
