"""Send streams to the frames topic: recorded ones when their frames are due, live ones as their frames come.

Nothing is kept that need not be: of each recorded stream one message is read ahead, what live sources wait with is
bounded (`Arrivals`), and so is what the broker has not acknowledged (`Delivery`).

Recorded frames are never dropped: where real time cannot be kept they are sent late, and counted. Frames that the
broker does not take are counted with the reason.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from ray_fer.streaming.delivery import Delivery
from ray_fer.streaming.live_source import Arrivals, LiveSource
from ray_fer.streaming.timetable import Outgoing, RecordedStream, in_event_time, passes
from ray_fer.video.limits import MediaError

LATE_S = 1.0
"""A recorded frame that is sent so much after it was due counts as late."""
_LOOK_UP_S = 0.2
_JOIN_S = 2.0


@dataclass(frozen=True)
class Pace:
    """How recorded streams are sent. `speed` 1 is real time, 0 is as fast as the broker takes it."""

    speed: float = 1.0
    loop: bool = False
    start_us: int = 0
    """Event time of the first frame of each stream."""
    limit: int | None = None
    """Stop after so many frames of all streams, live ones too; a segment is sent whole."""


@dataclass
class Tally:
    """What has been done so far; `undelivered` and `dropped` are frames by reason and by stream."""

    streams: int
    frames: int = 0
    bytes: int = 0
    late: int = 0
    behind_s: float = 0.0
    most_behind_s: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    """Streams that could not be read, or not to their end, with the reason."""
    dropped: Counter[str] = field(default_factory=Counter)
    undelivered: Counter[str] = field(default_factory=Counter)


def produce(
    recorded: Sequence[RecordedStream],
    live: Sequence[LiveSource],
    delivery: Delivery,
    pace: Pace,
    *,
    stopped: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = print,
    progress: Callable[[Tally], None] = lambda tally: None,
    clock: Callable[[], float] = time.monotonic,
    arrivals: Arrivals | None = None,
) -> Tally:
    """Send all streams until they end, the limit is reached, the broker refuses, or `stopped`; live ones do not end.

    `report` gets a line for what happens seldom, `progress` the tally several times a second. A stream that cannot be
    read ends; the others go on. The caller closes the delivery, which also says what was not delivered.
    """
    arrivals = arrivals or Arrivals()
    tally = Tally(len(recorded) + len(live), dropped=arrivals.dropped, undelivered=delivery.undelivered)

    def failed(stream_id: str, error: MediaError) -> None:
        tally.failed[stream_id] = error.reason
        report(f"error: {error}")

    def over() -> bool:
        progress(tally)
        return stopped() or delivery.refused is not None

    with ExitStack() as stack:
        readers = _read_live(live, arrivals, report, stack)
        timetable = _timetable(recorded, pace, failed, stack)
        upcoming, began = next(timetable, None), clock()
        while not over() and (pace.limit is None or tally.frames < pace.limit):
            reading = _still_reading(readers, failed)
            early_s = _early_s(upcoming, pace, clock() - began)
            # Also what sleeps until the next recorded frame is due.
            outgoing = arrivals.take(min(max(early_s, 0.0), _LOOK_UP_S))
            is_recorded = outgoing is None and early_s <= 0
            outgoing = upcoming if is_recorded else outgoing
            if outgoing is None:
                if upcoming is None and not reading:
                    break
                continue
            while not delivery.has_room(outgoing, _LOOK_UP_S):
                if over():
                    return tally
            if is_recorded:
                _note_lateness(tally, outgoing.frames, -_early_s(outgoing, pace, clock() - began), report)
            delivery.send(outgoing)
            tally.frames += outgoing.frames
            tally.bytes += len(outgoing.message.payload)
            if is_recorded:
                upcoming = next(timetable, None)
    progress(tally)
    return tally


def _early_s(outgoing: Outgoing | None, pace: Pace, elapsed_s: float) -> float:
    """How long it is until a recorded message is due: below zero when it is late, infinite when there is none."""
    if outgoing is None:
        return math.inf
    return (outgoing.due_us - pace.start_us) / 1e6 / pace.speed - elapsed_s if pace.speed else 0.0


def _note_lateness(tally: Tally, frames: int, behind_s: float, report: Callable[[str], None]) -> None:
    tally.behind_s = max(behind_s, 0.0)
    tally.most_behind_s = max(behind_s, tally.most_behind_s)
    if behind_s > LATE_S:
        if not tally.late:
            report(
                f"real time cannot be kept, {behind_s:.1f} s behind after {tally.frames} frames: frames are sent late, "
                "none is dropped; lower --speed, or send fewer streams at once"
            )
        tally.late += frames


def _timetable(
    recorded: Sequence[RecordedStream], pace: Pace, failed: Callable[[str, MediaError], None], stack: ExitStack
) -> Iterator[Outgoing]:
    if not recorded:
        return iter(())
    pool = ThreadPoolExecutor(min(len(recorded), os.cpu_count() or 1), "decode")
    stack.callback(pool.shutdown, cancel_futures=True)
    streams = [passes(stream, pace.start_us, pace.loop) for stream in recorded]
    return in_event_time(streams, pool, lambda place, error: failed(recorded[place].stream_id, error))


def _read_live(
    live: Sequence[LiveSource], arrivals: Arrivals, report: Callable[[str], None], stack: ExitStack
) -> dict[str, Future[None]]:
    """Start a thread for each source. Daemons, because one that waits for a dead camera would hold up the end."""
    stop = threading.Event()
    readers: dict[str, Future[None]] = {}
    for source in live:
        done: Future[None] = Future()
        readers[source.stream_id] = done
        threading.Thread(target=_run, args=(source, arrivals, report, stop, done), daemon=True).start()
    stack.callback(lambda: wait(list(readers.values()), timeout=_JOIN_S))
    stack.callback(stop.set)
    return readers


def _run(
    source: LiveSource, arrivals: Arrivals, report: Callable[[str], None], stop: threading.Event, done: Future[None]
) -> None:
    try:
        source.run(arrivals, report, stop)
        done.set_result(None)
    except BaseException as error:
        done.set_exception(error)


def _still_reading(readers: dict[str, Future[None]], failed: Callable[[str, MediaError], None]) -> bool:
    """Whether a live source is still read; those that ended are taken out. Raises what is a defect of ours."""
    for stream_id in [name for name, reader in readers.items() if reader.done()]:
        try:
            readers.pop(stream_id).result()
        except MediaError as error:
            failed(stream_id, error)
    return bool(readers)
