"""How many windows and live streams the deployed graph answers on this machine, with a real Kafka in between.

Latency runs from the end of a window, in event time, to the moment at which a reader of committed records has its
prediction, so it holds the allowed lateness, for which a window is kept open, and the transaction. A live trial passes
when as many windows come out as go in, and no stream's windows of the last quarter come later than those of the first:
then the lag is flat.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ray_fer.process_use import Use, Watch
from ray_fer.serving.cameras import FPS, Footage, live, send_all
from ray_fer.serving.catalogue import models_of
from ray_fer.serving.options import ServingOptions
from ray_fer.streaming.broker import free_port
from ray_fer.streaming.kafka import assign_all, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics, delete_topics
from ray_fer.streaming.windows import WindowConfig

APP = "ray-fer-bench"
_SILENCE_S = 90.0
_WARM_UP_S, _LONGEST_WARM_UP_S = 15.0, 240.0
_SETTLED_S = 2.0
_RISE_S = 1.0
"""What a stream's median latency may rise by from the first quarter of a trial to the last."""
_ANSWERED = 0.95
"""So many of the windows that end during a trial must come, which do so by turns of a worker: one may keep up while
another does not."""
_HOPELESS_S, _SOONEST_S = 5.0, 40.0
"""A trial whose latency has risen by so much is over, but not before so long."""
_PARTITIONS = 4


class Latency(NamedTuple):
    """Of one window: when its prediction came, in seconds since the beginning, and how late, in seconds."""

    came_s: float
    late_s: float
    stream_id: str


Latencies = list[Latency]
"""In the order in which they came."""


@dataclass(frozen=True)
class System:
    """What is measured: a bundle behind this many replicas, on this Kafka, whose processes have these names."""

    bundle: Path
    kafka: KafkaSettings
    options: StreamOptions
    faces: int
    workers: int = 1
    pids: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Trial:
    """So many live streams, after a warm-up."""

    streams: int
    flat: bool
    seconds: float
    windows_per_s: float
    frames_per_s: float
    p50_s: float
    p99_s: float
    rise_s: float
    producer_behind_s: float
    latency: Latencies
    use: Use


def measured_backlog(streams: int, seconds: float, windows: WindowConfig) -> range:
    """Which of the windows of a backlog are timed. Raises ValueError when it is too short for any."""
    # The first windows have up to five times as many new frames as the others, and near the end a worker may have
    # nothing left to do while another still works.
    timed = range(4 * streams, round(0.75 * streams * (seconds - windows.size) / windows.stride))
    if len(timed) < streams:
        raise ValueError(
            f"a backlog of {seconds:g} s holds too few windows to time: give at least "
            f"{windows.size + 8 * windows.stride:g} s"
        )
    return timed


def backlog(system: System, footage: Footage, streams: int, seconds: float) -> tuple[float, Use]:
    """Windows per second while a topic is read that holds so many seconds of every stream already.

    Raises ValueError when the backlog is too short to be timed.
    """
    timed = measured_backlog(streams, seconds, system.options.windows)
    with running(system, lambda settings: send_all(settings, footage, streams, seconds)) as (_, poll):
        # The workers begin before the application is said to run, and a turn of theirs comes as a whole.
        first = _wait_for(poll, timed.start)
        if first >= timed.stop:
            raise ValueError(
                f"{first} windows of the backlog were answered before they could be timed: give a longer backlog"
            )
        with Watch(APP, system.pids) as watch:
            began = time.monotonic()
            answered = _wait_for(poll, timed.stop - first)
            rate = answered / (time.monotonic() - began)
        return rate, watch.use()


def live_trial(
    system: System, footage: Footage, streams: int, seconds: float, say: Callable[[str], None] = print
) -> Trial:
    """Send so many live streams, and look whether their predictions keep up for so long."""
    with running(system) as (settings, poll), live(settings, footage, streams) as (pid, behind):
        _wait_for(poll, streams)
        _settle(poll)
        with Watch(APP, {**system.pids, pid: "producer"}) as watch:
            latency = _collect(poll, seconds, stop=_hopeless)
        use, late = watch.use(), behind()
    values = [one.late_s for one in latency]
    rise = _rise(latency)
    answered = len(latency) * system.options.windows.stride / (streams * seconds)
    trial = Trial(
        streams=streams,
        flat=use.seconds >= seconds - 1 and rise <= _RISE_S and answered >= _ANSWERED,
        seconds=use.seconds,
        windows_per_s=len(latency) / use.seconds,
        frames_per_s=streams * FPS,
        p50_s=float(np.percentile(values, 50)),
        p99_s=float(np.percentile(values, 99)),
        rise_s=rise,
        producer_behind_s=late,
        latency=latency,
        use=use,
    )
    say(
        f"{streams} live streams: {'flat' if trial.flat else 'falling behind'} after {use.seconds:.0f} s; "
        f"{trial.windows_per_s:.1f} windows/s, latency p50 {trial.p50_s:.2f} s, p99 {trial.p99_s:.2f} s"
    )
    return trial


def most_streams(
    system: System, footage: Footage, first: int, seconds: float, most: int, say: Callable[[str], None] = print
) -> list[Trial]:
    """Trials around `first` streams, up or down in steps of a tenth, until the highest number with a flat lag is known,
    or there were `most` of them.

    The flat trial of most streams is the answer; there is none if no trial with at least one stream was flat.
    """
    trials = [live_trial(system, footage, max(first, 1), seconds, say)]
    went_up = trials[0].flat
    while True:
        streams = trials[-1].streams
        step = max(1, round(streams / 10))
        streams += step if went_up else -step
        enough = len(trials) >= most or streams < 1
        if enough or (went_up and not trials[-1].flat) or (not went_up and trials[-1].flat):
            return trials
        trials.append(live_trial(system, footage, streams, seconds, say))


def highest(trials: Sequence[Trial]) -> Trial | None:
    """The flat trial of most streams."""
    return max((one for one in trials if one.flat), key=lambda one: one.streams, default=None)


def _rise(latency: Latencies) -> float:
    """By how much the median latency of the last quarter of the time is above that of the first, in the stream where it
    is most: streams of one worker may keep up while those of another do not. 0 for a few windows."""
    if not latency:
        return 0.0
    begin, end = latency[0].came_s, latency[-1].came_s
    quarters: dict[str, tuple[list[float], list[float]]] = {}
    for one in latency:
        first, last = quarters.setdefault(one.stream_id, ([], []))
        if one.came_s < begin + (end - begin) / 4:
            first.append(one.late_s)
        elif one.came_s >= end - (end - begin) / 4:
            last.append(one.late_s)
    rises = [
        float(np.median(last) - np.median(first)) for first, last in quarters.values() if min(len(first), len(last)) > 2
    ]
    return max(rises, default=0.0)


def _hopeless(latency: Latencies) -> bool:
    return bool(latency) and latency[-1].came_s > _SOONEST_S and _rise(latency) > _HOPELESS_S


@contextmanager
def running(
    system: System, before: Callable[[KafkaSettings], None] = lambda settings: None
) -> Iterator[tuple[KafkaSettings, Callable[[], list[Any]]]]:
    """The graph on topics and a group of its own, which go with it; `before` is called before it is deployed.

    Yields the settings, and a function that gives the committed predictions that came since it was called last.
    """
    # Imported late: the modules define Serve deployments, which wants Ray's logging settled first.
    from ray_fer.serving.app import build
    from ray_fer.serving.application import deployed

    run = uuid.uuid4().hex[:8]
    names = {"frames_topic": "frames", "predictions_topic": "predictions", "dead_letter_topic": "dead"}
    update = {name: f"bench-{run}-{topic}" for name, topic in names.items()}
    settings = system.kafka.model_copy(update=update | {"group": f"bench-{run}", "partitions": _PARTITIONS})
    create_topics(settings)
    with ExitStack() as stack:
        stack.callback(delete_topics, settings)
        before(settings)
        reader = consumer(settings)
        stack.callback(reader.close, autocommit=False)
        assign_all(reader, settings.predictions_topic)
        app = build(
            ServingOptions(
                models=models_of([system.bundle]), kafka=settings, stream=system.options, faces=system.faces,
                workers=system.workers,
            )
        )  # fmt: skip
        stack.enter_context(deployed(app, APP, "127.0.0.1", free_port()))
        yield settings, lambda: [one for records in reader.poll(timeout_ms=100).values() for one in records]


def _wait_for(poll: Callable[[], list[Any]], predictions: int) -> int:
    """How many came, until there were so many."""
    seen, last = 0, time.monotonic()
    while seen < predictions:
        if found := len(poll()):
            seen, last = seen + found, time.monotonic()
        if time.monotonic() - last > _SILENCE_S:
            raise RuntimeError(f"no prediction for {_SILENCE_S:g} s; {seen} of {predictions} came")
    return seen


def _settle(poll: Callable[[], list[Any]]) -> None:
    """Until what came in while replicas started has been answered, or is no longer becoming less."""
    deadline = time.monotonic() + _LONGEST_WARM_UP_S
    before = math.inf
    while time.monotonic() < deadline:
        latency = float(np.median([one.late_s for one in _collect(poll, _WARM_UP_S)] or [math.inf]))
        if latency > 0.9 * before or latency < _SETTLED_S:
            return
        before = latency


def _collect(
    poll: Callable[[], list[Any]],
    seconds: float,
    stop: Callable[[Latencies], bool] = lambda found: False,
) -> Latencies:
    began = time.monotonic()
    found: Latencies = []
    while (now := time.monotonic() - began) < seconds and not stop(found):
        found += [measured(now, Prediction.model_validate_json(record.value)) for record in poll()]
    return found


def measured(now: float, prediction: Prediction) -> Latency:
    """Of a prediction that came just now, `now` seconds after the beginning."""
    return Latency(now, time.time() - prediction.window.end_us / 1e6, prediction.stream_id)
