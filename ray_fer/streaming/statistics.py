"""What a stream worker counts: records, windows, time by stage, and how the streams do that are live.

The worker's threads write, and whoever shows the figures reads them at any time, so nothing here may change its size
while it is read: every table has all its keys from the beginning, or is copied in one step.
"""

from __future__ import annotations

import bisect
import heapq
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ParamSpec, TypeVar, get_args

from ray_fer.streaming.commits import Turn
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.windows import Verdict

P = ParamSpec("P")
R = TypeVar("R")

VERDICTS = get_args(Verdict)
STATUSES = get_args(Prediction.model_fields["status"].annotation)
STAGES = ("fetch", "model", "faces", "expressions", "commit")
AGREED = ("yes", "no", "failed")
BATCHED = ("faces", "expressions")
LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histogram's buckets: fine where a live stream lies, coarse where one has fallen behind."""
_BUCKETS = (*(f"{bound:g}" for bound in LATENCY_BOUNDS_S), "+Inf")
_STREAMS_KEPT = 1000
_MEASURE_EVERY_S = 1.0


def _zeros(keys: Iterable[str]) -> Callable[[], dict[str, Any]]:
    return lambda: dict.fromkeys(keys, 0)


@dataclass
class StreamStatistics:
    """Counters of one stream since its worker first saw it."""

    frames: int = 0
    late: int = 0
    duplicates: int = 0
    restarts: int = 0
    windows: dict[str, int] = field(default_factory=_zeros(STATUSES))
    """By status."""
    heard_at: float = 0.0
    """When its newest frame was read, in seconds since 1970."""
    newest_us: int | None = None
    """Event time of its newest frame."""
    answered_us: int | None = None
    """Event time up to which there are predictions."""
    latency_ms: float | None = None
    """Of its newest prediction."""

    def frame(self, verdict: Verdict, pts_us: int) -> None:
        self.frames += 1
        self.late += verdict == "late"
        self.duplicates += verdict == "duplicate"
        self.restarts += verdict == "restart"
        self.heard_at = time.time()
        if verdict == "restart" or self.newest_us is None:
            self.newest_us, self.answered_us = pts_us, None
        self.newest_us = max(self.newest_us, pts_us)

    def prediction(self, prediction: Prediction) -> None:
        self.windows[prediction.status] += 1
        self.answered_us = prediction.window.end_us
        self.latency_ms = prediction.latency_ms

    def lag_s(self) -> float | None:
        """How far predictions are behind the newest frame, in event time; None before the first one."""
        if self.newest_us is None or self.answered_us is None:
            return None
        return max(0, self.newest_us - self.answered_us) / 1e6


@dataclass
class WorkerStatistics:
    """Counters since the worker started, and gauges as of its last look around.

    Every field but `streams` is a number or a table of numbers, so that those of several workers can be added
    (`total`).
    """

    records: int = 0
    """Records of the frames topic that were looked at for the first time."""
    record_bytes: int = 0
    frames: dict[str, int] = field(default_factory=_zeros(VERDICTS))
    """By verdict. A segment is one record and many frames."""
    windows: dict[str, int] = field(default_factory=_zeros(STATUSES))
    """By status of their predictions."""
    dead_letters: int = 0
    commits: int = 0
    failed_turns: int = 0
    """Turns whose results were thrown away and made again: the group changed, or Kafka did not take them."""
    model_failures: int = 0
    """Calls of the model that failed; each is repeated."""
    stage_seconds: dict[str, float] = field(default_factory=_zeros(STAGES))
    """"model" waits for "faces" (which fetches and decodes too) and "expressions", and runs beside "fetch"."""
    batches: dict[str, int] = field(default_factory=_zeros(BATCHED))
    batch_items: dict[str, int] = field(default_factory=_zeros(BATCHED))
    """Frames and windows that those batches held."""
    faces_found: int = 0
    """Frames with a face among those of the batches of "faces"."""
    shadow_windows: dict[str, int] = field(default_factory=_zeros(AGREED))
    """Windows about which a shadow model was asked, by whether it named the same expression."""
    latency_buckets: dict[str, int] = field(default_factory=_zeros(_BUCKETS))
    """Predictions by latency: how many in each bucket alone, by its upper bound in seconds."""
    latency_sum: float = 0.0
    lag_records: dict[int, int] = field(default_factory=dict)
    """Records not read yet, by partition."""
    live_streams: int = 0
    idle_streams: int = 0
    buffered_frames: int = 0
    buffered_bytes: int = 0
    streams: dict[str, StreamStatistics] = field(default_factory=dict)
    """Of the streams that were heard of last, at most 1,000."""

    def __post_init__(self) -> None:
        self._measured_at = 0.0
        self._under_way: dict[str, float] = {}

    def record(self, value: bytes | None) -> None:
        """Count one record that is looked at for the first time."""
        self.records += 1
        self.record_bytes += len(value or b"")

    def frame(self, stream_id: str, verdict: Verdict, pts_us: int) -> None:
        """Count one frame of such a record."""
        self.frames[verdict] += 1
        self._stream(stream_id).frame(verdict, pts_us)

    def committed(self, turn: Turn) -> None:
        """Count what became visible with a turn."""
        self.commits += 1
        self.dead_letters += len(turn.dead)
        for prediction in turn.predictions:
            self.windows[prediction.status] += 1
            self._stream(prediction.stream_id).prediction(prediction)
            if prediction.latency_ms is not None:
                seconds = prediction.latency_ms / 1000
                self.latency_buckets[_BUCKETS[bisect.bisect_left(LATENCY_BOUNDS_S, seconds)]] += 1
                self.latency_sum += seconds

    def observe(self, lag: dict[int, int], partitions: Collection[PartitionProgress], model_failures: int) -> None:
        """Note the lag by partition, how many streams there are, and what is in memory."""
        self.lag_records = lag
        self.model_failures = model_failures
        counts = [progress.streams() for progress in partitions]
        self.live_streams, self.idle_streams = sum(live for live, _ in counts), sum(idle for _, idle in counts)
        now = time.monotonic()
        if now - self._measured_at > _MEASURE_EVERY_S:  # it walks over all frames
            self._measured_at = now
            held = [progress.held() for progress in partitions]
            self.buffered_frames, self.buffered_bytes = sum(one for one, _ in held), sum(size for _, size in held)

    @contextmanager
    def stage(self, name: str, items: int | None = None) -> Iterator[None]:
        """Add the time of this block to a stage; with `items` it is a batch of so many."""
        if items is not None:
            self.batches[name] += 1
            self.batch_items[name] += items
        started = self._under_way[name] = time.monotonic()
        try:
            yield
        finally:
            del self._under_way[name]
            self.stage_seconds[name] += time.monotonic() - started

    def worked_s(self, name: str) -> float:
        """Seconds that a stage has taken up to now, with what it is doing."""
        started = self._under_way.get(name)
        return self.stage_seconds[name] + (0.0 if started is None else time.monotonic() - started)

    def timed(self, name: str, call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """The call's result; its time is added to a stage."""
        with self.stage(name):
            return call(*arguments, **named)

    def summary(self) -> dict[str, Any]:
        """All figures as plain values, without those of single streams."""
        return {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in vars(self).items()
            if name != "streams" and not name.startswith("_")
        }

    def newest_streams(self, limit: int) -> list[dict[str, Any]]:
        """Figures of the streams that were heard of last, the last one first."""
        newest = heapq.nlargest(limit, list(self.streams.items()), key=lambda item: item[1].heard_at)
        return [{"stream_id": stream_id} | asdict(one) | {"lag_s": one.lag_s()} for stream_id, one in newest]

    def _stream(self, stream_id: str) -> StreamStatistics:
        stream = self.streams.pop(stream_id, None) or StreamStatistics()
        self.streams[stream_id] = stream  # put it last: the first are forgotten first
        if len(self.streams) > _STREAMS_KEPT:
            del self.streams[next(iter(self.streams))]
        return stream


def total(summaries: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several workers' summaries. A partition is one worker's alone, so its lag is not counted twice."""
    added = WorkerStatistics().summary()
    for summary in summaries:
        for name, value in summary.items():
            if isinstance(value, Mapping):
                for key, number in value.items():
                    added[name][key] = added[name].get(key, 0) + number
            else:
                added[name] += value
    return added
