"""When the messages of recorded streams are due: pass after pass of each, all of them in event-time order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.video.limits import MediaError

_SECOND = 1_000_000


@dataclass(frozen=True)
class Outgoing:
    """A message on its way to the broker: how many frames it holds, and the event time of its newest.

    That is when it is due: a segment exists only once its last frame has been recorded.
    """

    message: FrameMessage
    frames: int
    due_us: int

    @classmethod
    def of(cls, message: FrameMessage) -> Outgoing:
        times = message.frames()
        return cls(message, len(times), times[-1][0])


@dataclass(frozen=True)
class RecordedStream:
    """A stream that lies in files. `read` gives one pass over it, event time and seq from 0.

    Its messages may have any stream id. It raises MediaError when a file cannot be read, or not to its end.
    """

    stream_id: str
    read: Callable[[], Iterator[FrameMessage]]


def passes(stream: RecordedStream, start_us: int, loop: bool) -> Iterator[Outgoing]:
    """The messages of a stream with event time from `start_us` on, and with `loop` again and again.

    Event time and seq run on: a pass begins at the first whole second after the last frame of the one before, so that
    what lay on window boundaries still does.
    """
    seq = 0
    while True:
        last = None
        for message in stream.read():
            last = Outgoing.of(
                replace(
                    message,
                    stream_id=stream.stream_id,
                    pts_us=start_us + message.pts_us,
                    seq=seq + message.seq,
                )
            )
            yield last
        if not loop or last is None:
            return
        seq = last.message.seq + last.frames
        start_us += (last.due_us - start_us) // _SECOND * _SECOND + _SECOND


def in_event_time(
    streams: Sequence[Iterator[Outgoing]], pool: Executor, failed: Callable[[int, MediaError], None]
) -> Iterator[Outgoing]:
    """The messages of all streams in the order in which they are due.

    The pool reads one message ahead in each stream, so that many streams are decoded on many cores, and as little as
    possible of each is in memory. A stream that cannot be read on is given to `failed`, by its place, and ends.
    """
    # Entries: when the message is due at the earliest, whether it is still being read, place of its stream, message.
    # Places differ, so nothing after them is compared.
    heap: list[tuple[int, bool, int, Outgoing | Future[Outgoing | None]]] = []
    for place, stream in enumerate(streams):
        heapq.heappush(heap, (-1, True, place, pool.submit(next, stream, None)))
    while heap:
        earliest, _, place, item = heapq.heappop(heap)
        if isinstance(item, Outgoing):
            heapq.heappush(heap, (earliest, True, place, pool.submit(next, streams[place], None)))
            yield item
            continue
        try:
            message = item.result()
        except MediaError as error:
            failed(place, error)
            continue
        if message is not None:
            heapq.heappush(heap, (message.due_us, False, place, message))
