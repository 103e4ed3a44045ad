"""What a stream worker counts: records, windows, time by stage, and how the streams do that are live."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from ray_fer.streaming.commits import Turn
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.windows import Verdict

P = ParamSpec("P")
R = TypeVar("R")
_STREAMS_KEPT = 1000


@dataclass
class StreamStatistics:
    """Counters of one stream since its worker first saw it."""

    frames: int = 0
    late: int = 0
    duplicates: int = 0
    restarts: int = 0
    windows: int = 0
    skipped: int = 0
    latency_ms: float | None = None
    """Of its newest prediction."""


@dataclass
class WorkerStatistics:
    """Counters since the worker started. `lag` is the number of records not read yet, as of the last poll."""

    frames: int = 0
    windows: int = 0
    skipped: int = 0
    dead_letters: int = 0
    late: int = 0
    duplicates: int = 0
    restarts: int = 0
    commits: int = 0
    lag: int = 0
    live_streams: int = 0
    idle_streams: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)
    """Seconds spent in "fetch", "model" and "commit"."""
    streams: dict[str, StreamStatistics] = field(default_factory=dict)
    """Of the streams that were heard of last, at most 1,000."""

    def frame(self, stream_id: str, verdict: Verdict) -> None:
        """Count one frame that was looked at for the first time."""
        stream = self._stream(stream_id)
        for counters in (self, stream):
            counters.frames += 1
            counters.late += verdict == "late"
            counters.duplicates += verdict == "duplicate"
            counters.restarts += verdict == "restart"

    def committed(self, turn: Turn) -> None:
        """Count what became visible with a turn."""
        self.commits += 1
        self.dead_letters += len(turn.dead)
        for prediction in turn.predictions:
            stream = self._stream(prediction.stream_id)
            stream.latency_ms = prediction.latency_ms
            for counters in (self, stream):
                counters.windows += 1
                counters.skipped += prediction.status == "skipped"

    def observe(self, lag: int, partitions: Collection[PartitionProgress]) -> None:
        """Note the lag and how many streams there are."""
        self.lag = lag
        counts = [progress.streams() for progress in partitions]
        self.live_streams, self.idle_streams = sum(live for live, _ in counts), sum(idle for _, idle in counts)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of this block to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.stage_s[name] = self.stage_s.get(name, 0.0) + time.monotonic() - started

    def timed(self, name: str, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """The call's result; its time is added to a stage."""
        with self.stage(name):
            return call(*arguments, **named)

    def summary(self) -> dict[str, Any]:
        """All counters as plain values, without those of single streams."""
        return {name: value for name, value in vars(self).items() if name != "streams"}

    def _stream(self, stream_id: str) -> StreamStatistics:
        stream = self.streams.pop(stream_id, None) or StreamStatistics()
        self.streams[stream_id] = stream  # put it last: the first are forgotten first
        if len(self.streams) > _STREAMS_KEPT:
            del self.streams[next(iter(self.streams))]
        return stream
