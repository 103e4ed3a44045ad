"""Endpoints of the streams: what is known of them, their windows, and new ones as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import HTTPConnection

from ray_fer.serving.admission import still_admitted
from ray_fer.serving.backend import Backend, Behind, backend_of, feed_of
from ray_fer.serving.feed import KEPT, Recent
from ray_fer.streaming.frame_message import MAX_STREAM_ID
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.statistics import total


class _AnyText(Convertor[str]):
    """Whatever names a stream: slashes and line ends, too, which `path` does not take."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())
router = APIRouter(prefix="/v1", tags=["streams"])

_PUSH_EVERY_S = 0.2


@dataclass(frozen=True)
class _Listener:
    """Somebody who is told of windows as they come, for as long as `stays` says so."""

    feed: Recent
    stays: Callable[[], bool]


async def _listener(connection: HTTPConnection) -> AsyncIterator[_Listener]:
    """A replica takes only so many: each holds one of its places for as long as it likes."""
    backend, state = backend_of(connection), connection.app.state
    feed = feed_of(backend)
    if state.listeners >= backend.options.api.listeners_at_once:
        raise HTTPException(503, "too many listeners; try again", {"Retry-After": "5"})
    state.listeners += 1
    try:
        yield _Listener(feed, partial(still_admitted, connection))
    finally:
        state.listeners -= 1


Listening = Annotated[_Listener, Depends(_listener)]
StreamId = Annotated[
    str, Path(min_length=1, max_length=MAX_STREAM_ID, description="percent-encoded", examples=["ward-3"])
]
Backlog = Annotated[int, Query(ge=0, le=KEPT, description="send so many known windows first")]
LastEvent = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID", max_length=10_000, pattern=r"^\d{1,6}:\d{1,18}(,\d{1,6}:\d{1,18})*$",
        description="the id of an event: go on after it, with whichever replica", examples=["0:1200,1:1187"],
    ),
]  # fmt: skip


async def worker_answers(backend: Backend, method: str, *arguments: Any) -> dict[str, Any]:
    """The workers' answers by replica; 503 when one does not answer: sums without it would be wrong."""
    try:
        return dict(await backend.ask_workers(method, *arguments))
    except TimeoutError:
        raise HTTPException(503, "a stream worker does not answer; Serve replaces it if it stays so") from None


@router.get("/statistics")
async def statistics(backend: Behind) -> dict[str, Any]:
    """What all stream workers have counted, together and each, and how many predictions this API has read."""
    feed = feed_of(backend)
    workers = await worker_answers(backend, "statistics")
    return {
        "total": total(workers.values()),
        "workers": workers,
        "predictions": feed.count,
        "unreadable": feed.unreadable,
    }


@router.get("/streams")
async def streams(
    backend: Behind,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> list[dict[str, Any]]:
    """Figures of single streams, those heard of last first.

    A worker knows its latest 1,000 streams. One that went from a worker to another is listed with both, each with what
    it has counted.
    """
    feed_of(backend)
    answers = await worker_answers(backend, "newest_streams", limit + offset)
    found = [{"replica": replica} | stream for replica, streams in answers.items() for stream in streams]
    return sorted(found, key=lambda stream: -stream["heard_at"])[offset : offset + limit]


@router.get("/streams/{stream_id:any}/windows")
async def windows(
    backend: Behind, stream_id: StreamId, limit: Annotated[int, Query(ge=1, le=KEPT)] = 600
) -> list[Prediction]:
    """A stream's last windows, oldest first, of the 20,000 predictions that are remembered."""
    return [event.prediction for event in feed_of(backend).newest(limit, stream_id)]


@router.get("/streams/{stream_id:any}/events", response_class=EventSourceResponse)
async def stream_events(
    listener: Listening,
    stream_id: StreamId,
    backlog: Backlog = 0,
    last_event_id: LastEvent = None,
) -> AsyncIterable[ServerSentEvent]:
    """A stream's windows as they come (server-sent events)."""
    async for event in _events(listener, stream_id, backlog, last_event_id):
        yield event


@router.get("/events", response_class=EventSourceResponse)
async def events(
    listener: Listening,
    backlog: Backlog = 0,
    last_event_id: LastEvent = None,
) -> AsyncIterable[ServerSentEvent]:
    """Windows of all streams as they come (server-sent events)."""
    async for event in _events(listener, None, backlog, last_event_id):
        yield event


async def _events(
    listener: _Listener, stream_id: str | None, backlog: int, last_event_id: str | None
) -> AsyncIterable[ServerSentEvent]:
    feed = listener.feed
    positions, sent = dict(feed.positions), feed.count
    if last_event_id is None:
        known = feed.newest(backlog, stream_id)
        for event in reversed(known):  # a client that is cut off before it has them all goes on where it was
            positions[event.partition] = event.offset
    else:
        positions = {int(part): int(offset) for part, offset in (one.split(":") for one in last_event_id.split(","))}
        known = feed.after(positions, stream_id)
    known = [event for event in known if event.number <= sent]
    while listener.stays():
        for event in known:
            positions[event.partition] = event.offset + 1
            where = ",".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))
            yield ServerSentEvent(raw_data=event.prediction.model_dump_json(), event="window", id=where)
        await asyncio.sleep(_PUSH_EVERY_S)
        now = feed.count
        known = [event for event in feed.since(sent, stream_id) if event.number <= now]
        sent = now
