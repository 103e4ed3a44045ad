"""`ray-fer stream produce`: send video to Kafka."""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ray_fer.cli.options import Brokers, KafkaConfig
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.streaming.produce import Tally

_SECONDS_BETWEEN_LINES = 10.0
_FLUSH_S = 10.0


@exit_on_bad_input
def produce(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="video file, folder, camera:0, rtsp:// or http(s):// address"),
    ],
    bootstrap_servers: Brokers = None,
    kafka_config: KafkaConfig = None,
    topic: Annotated[str | None, typer.Option(help="frames topic (default: of the settings)")] = None,
    stream_id: Annotated[str | None, typer.Option(help="id of the stream, where SOURCE is a single one")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="of files: 1 is real time, 0 as fast as the broker takes it")
    ] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="repeat files until Ctrl-C; event time and seq run on")] = False,
    segment_seconds: Annotated[
        float | None, typer.Option(min=0.1, max=30, help="send MP4 segments of so many seconds, not single frames")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="rate of image folders (default: 25); highest rate of live sources"),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="of the JPEGs that frames of videos become (default: 92)")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="event time of the first frame: now, 0 or 2026-11-21T14:30 (default: 0 for files, now if live)"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many frames of all streams")] = None,
) -> None:
    """Send videos, image folders, cameras and live addresses to the frames topic.

    A file is a stream, with its name without suffix as stream id. In a folder,
    every video at any depth is a stream, and so are the images of each folder,
    sent as they are stored; the path below the folder is the id. A camera or
    address is a stream that does not end: it is opened again when it is lost.
    All streams are sent side by side, in the order of event time.

    Files are sent in real time, late if need be. Live frames are dropped, the
    oldest first, when the broker does not take them in time. Both are counted.
    RTSP runs over TCP. A file behind http:// begins anew when it ends.

    Exit code 1: frames were not delivered, or a stream could not be read to
    its end. 130: Ctrl-C, after the broker has acknowledged what was sent.

    \b
    ray-fer stream produce video.mp4 --bootstrap-servers kafka:9092
    ray-fer stream produce recordings/ --speed 0 --segment-seconds 2
    ray-fer stream produce frames/ --fps 30 --loop --start now
    ray-fer stream produce rtsp://camera-1/live rtsp://camera-2/live --fps 15
    ray-fer stream produce camera:0 --stream-id desk --kafka-config kafka.toml
    """
    from ray_fer.streaming.delivery import Delivery, undelivered_line
    from ray_fer.streaming.encoding import JPEG_QUALITY, Encoding
    from ray_fer.streaming.find_streams import find_streams
    from ray_fer.streaming.kafka import check_broker
    from ray_fer.streaming.kafka_settings import KafkaSettings
    from ray_fer.streaming.produce import Pace
    from ray_fer.streaming.produce import produce as send

    if segment_seconds is not None and quality is not None:
        raise ValueError("--quality is of JPEGs, and segments have none; leave it out")
    start_us = None if start is None else _microseconds(start)
    encoding = Encoding(segment_seconds, quality or JPEG_QUALITY)
    found = find_streams(sources, encoding, fps, stream_id, start_us)
    if not found.recorded and (loop or speed != 1):
        raise ValueError("--speed and --loop are for files, and no SOURCE is one")
    settings = KafkaSettings.read(kafka_config, bootstrap_servers=bootstrap_servers, frames_topic=topic)
    check_broker(settings.bootstrap_servers)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if found.passed_over:
        console.print(f"passed over: {found.passed_over} files that are neither videos nor images")
    began = time.monotonic()
    delivery = Delivery.to(settings)
    with _interrupts() as interrupted, _status(console) as show:
        try:
            tally = send(
                found.recorded, found.live, delivery, Pace(speed, loop, start_us or 0, limit),
                stopped=lambda: bool(interrupted), report=lambda line: console.print(line, markup=False), progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:  # the second
            raise SystemExit(130) from None
        finally:
            delivery.close(_FLUSH_S if interrupted else None)
    if tally.failed and not tally.frames and not interrupted:
        raise SystemExit(2)
    print(_summary(tally, settings.frames_topic, time.monotonic() - began))
    if tally.undelivered:
        print(f"error: {undelivered_line(tally.undelivered)}", file=sys.stderr)
    if interrupted:
        raise SystemExit(130)
    if tally.failed or tally.undelivered:
        raise SystemExit(1)


def _microseconds(start: str) -> int:
    """Event time of `now`, `0` or an ISO 8601 time, of this machine's zone if it names none."""
    if start == "now":
        return time.time_ns() // 1000
    if start == "0":
        return 0
    try:
        seconds = datetime.fromisoformat(start).astimezone().timestamp()
    except ValueError:
        raise ValueError(
            f"cannot start at {start!r}: give now, 0, or a time such as 2026-11-21T14:30:00+01:00"
        ) from None
    if seconds < 0:
        raise ValueError(f"cannot start at {start}: event time begins in 1970")
    return round(seconds * 1e6)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yields a list that is empty until Ctrl-C or SIGTERM comes. A second Ctrl-C ends the program at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rate:
    """Frames a second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def __call__(self, frames: int) -> float:
        now = time.monotonic()
        self._seen.append((now, frames))
        while len(self._seen) > 2 and self._seen[1][0] < now - 5:
            self._seen.popleft()
        then, before = self._seen[0]
        return (frames - before) / max(now - then, 1e-3)


@contextmanager
def _status(console: Console) -> Iterator[Callable[[Tally], None]]:
    """Yields what shows the tally: a status line on a terminal, a line now and then elsewhere."""
    rate = _Rate()
    with console.status("reading") if console.is_terminal else nullcontext() as line:
        period = 0.25 if line else _SECONDS_BETWEEN_LINES
        shown_at = time.monotonic()

        def show(tally: Tally) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at < period:
                return
            shown_at = time.monotonic()
            text = ", ".join(_parts(tally, rate(tally.frames)))
            if line:
                line.update(text)
            else:
                console.print(text)

        yield show


def _parts(tally: Tally, rate: float) -> Iterator[str]:
    yield f"{tally.streams} stream{'s' if tally.streams > 1 else ''}"
    yield f"{tally.frames} frames"
    yield f"{tally.bytes / 1e6:.1f} MB"
    yield f"{rate:.1f} frames/s"
    if tally.behind_s >= 0.1:
        yield f"{tally.behind_s:.1f} s behind real time"
    if tally.dropped:
        yield f"{tally.dropped.total()} dropped"
    if tally.undelivered:
        yield f"{tally.undelivered.total()} not delivered"


def _summary(tally: Tally, topic: str, seconds: float) -> str:
    undelivered = tally.undelivered.total()
    frames = f"{tally.frames - undelivered} of {tally.frames}" if undelivered else f"{tally.frames}"
    parts = [
        f"{frames} frames of {tally.streams} stream{'s' if tally.streams > 1 else ''}, {tally.bytes / 1e6:.1f} MB, "
        f"delivered to {topic} in {seconds:.1f} s"
    ]
    if tally.late:
        parts.append(f"{tally.late} sent late, at most {tally.most_behind_s:.1f} s")
    if tally.dropped:
        parts.append(f"{tally.dropped.total()} live frames dropped ({', '.join(sorted(tally.dropped))})")
    if tally.failed:
        parts.append(f"{len(tally.failed)} of the streams could not be read to their end")
    return "; ".join(parts)
