"""A step in the number of live streams: do workers come when they are needed, and go when they are not?

The stages are timed: a frame takes so many milliseconds and no processor time, as it would on an accelerator elsewhere,
so that a worker has the same speed however many there are, and on however small a machine this runs.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ray_fer.bundle import PACKAGED
from ray_fer.models.transform import TransformConfig
from ray_fer.serving.cameras import live
from ray_fer.serving.catalogue import ServedModel, models_of
from ray_fer.serving.inference import Stages
from ray_fer.serving.options import Scaling, ServingOptions
from ray_fer.serving.stages import FaceResult
from ray_fer.streaming.broker import free_port
from ray_fer.streaming.frame_message import parse_frame
from ray_fer.streaming.kafka import assign_all, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.payload import PictureRequest
from ray_fer.streaming.recorded_windows import count_windows
from ray_fer.streaming.topics import create_topics, delete_topics
from ray_fer.streaming.windows import WindowConfig

_APP = "ray-fer-load-step"
_EVERY_S = 1.0
_LAST_S = 60.0
"""For the windows that close once their stream has been silent for a while."""
_WINDOWS = WindowConfig(idle_timeout=3.0, allowed_lateness=0.2)
_FACELESS = b"\xff\xd8\xff\xd9"
"""What cameras send: nobody decodes it."""


@dataclass(frozen=True)
class StepPlan:
    """So many streams, then more of them for a while, then as before."""

    low: int = 2
    high: int = 14
    before_s: float = 30.0
    during_s: float = 90.0
    after_s: float = 120.0
    workers: int = 4
    """At most; the topic has twice as many partitions."""
    frame_ms: float = 60.0
    """Of one frame that a window chose: at 3.2 of them a second, one worker keeps up with five streams."""
    scaling: Scaling = field(default_factory=lambda: Scaling(downscale_delay=15))
    target_lag: int = 300


class Moment(NamedTuple):
    """What was seen at a time, in seconds since the beginning. `lag` is None while a worker does not answer."""

    at_s: float
    streams: int
    replicas: int
    lag: int | None


@dataclass
class StepSeen:
    """What came of it."""

    moments: list[Moment]
    windows: int
    missing: int
    repeated: int
    p50_s: float
    p99_s: float

    @property
    def most_replicas(self) -> int:
        """Workers at the height of it."""
        return max(one.replicas for one in self.moments)


@dataclass
class TimedStages:
    """A `StageSource` of frames that take their time and show no face."""

    frame_ms: float

    def open(self) -> Stages:
        """See `StageSource`."""
        return Stages(self._find, self._classify)

    def close(self) -> None:
        """See `StageSource`."""

    def _find(self, requests: list[PictureRequest], transform: TransformConfig) -> list[list[FaceResult]]:
        time.sleep(sum(len(request.indices) for request in requests) * self.frame_ms / 1000)
        return [[FaceResult(None)] * len(request.indices) for request in requests]

    def _classify(self, clips: list[np.ndarray], model: ServedModel) -> np.ndarray:
        raise AssertionError("no frame shows a face")


def load_step(kafka: KafkaSettings, plan: StepPlan, say: Callable[[str], None] = print) -> StepSeen:
    """Deploy timed stages on topics of their own, and watch workers and lag while the streams become more and fewer.

    Needs a Ray and a real Kafka, whose lag can be trusted.
    """
    moments: list[Moment] = []
    predictions: list[tuple[float, Prediction]] = []
    footage = [[_FACELESS]]
    with _running(kafka, plan) as settings, ExitStack() as stack:
        reader = consumer(settings)
        stack.callback(reader.close, autocommit=False)
        assign_all(reader, settings.predictions_topic)
        cameras = stack.enter_context(ExitStack())
        cameras.enter_context(live(settings, footage, plan.low))
        _until_answered(reader, predictions)
        began = time.monotonic()
        for name, seconds, more in (
            ("before", plan.before_s, 0),
            ("during", plan.during_s, plan.high - plan.low),
            ("after", plan.after_s, 0),
        ):
            streams = plan.low + more
            say(f"{name} the step: {streams} streams for {seconds:.0f} s")
            with ExitStack() as added:
                if more:
                    added.enter_context(live(settings, footage, more, first=plan.low))
                _watch(reader, predictions, moments, began, streams, seconds, say)
        cameras.close()
        sent = _sent_windows(settings)
        deadline = time.monotonic() + _LAST_S
        while len(predictions) < sent.total() and time.monotonic() < deadline:
            _read(reader, predictions)
    times = Counter((one.stream_id, one.window.session, one.window.index) for _, one in predictions)
    found = Counter(stream_id for stream_id, _, _ in times)
    late = [came - one.window.end_us / 1e6 for came, one in predictions]
    return StepSeen(
        moments=moments,
        windows=len(predictions),
        missing=(sent - found).total(),
        repeated=times.total() - len(times),
        p50_s=float(np.percentile(late, 50)),
        p99_s=float(np.percentile(late, 99)),
    )


@contextmanager
def _running(kafka: KafkaSettings, plan: StepPlan) -> Iterator[KafkaSettings]:
    # Imported late: the modules define Serve deployments, which wants Ray's logging settled first.
    from ray_fer.serving.app import application
    from ray_fer.serving.application import deployed

    run = uuid.uuid4().hex[:8]
    settings = kafka.model_copy(
        update={
            "frames_topic": f"step-{run}-frames", "predictions_topic": f"step-{run}-predictions",
            "dead_letter_topic": f"step-{run}-dead", "group": f"step-{run}", "partitions": 2 * plan.workers,
        }
    )  # fmt: skip
    create_topics(settings)
    options = ServingOptions.model_validate(
        {
            "models": models_of([PACKAGED]),
            "kafka": settings,
            "stream": StreamOptions(windows=_WINDOWS),
            "workers": f"1-{plan.workers}",
            "scaling": plan.scaling,
            "target_lag": plan.target_lag,
        }
    )
    try:
        with deployed(application(options, TimedStages(plan.frame_ms)), _APP, "127.0.0.1", free_port()):
            yield settings
    finally:
        delete_topics(settings)


def _sent_windows(settings: KafkaSettings) -> Counter[str]:
    """How many windows the frames of each stream make that are in the topic, now that no more come."""
    times: dict[str, list[int]] = {}
    reader = consumer(settings)
    try:
        ends = reader.end_offsets(assign_all(reader, settings.frames_topic))
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for records in reader.poll(timeout_ms=200).values():
                for record in records:
                    frame = parse_frame(record.value, record.headers)
                    times.setdefault(frame.stream_id, []).append(frame.pts_us)
    finally:
        reader.close(autocommit=False)
    return Counter({stream_id: count_windows(found, _WINDOWS) for stream_id, found in times.items()})


def _until_answered(reader: object, predictions: list[tuple[float, Prediction]], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not predictions:
        _read(reader, predictions)
        if time.monotonic() > deadline:
            raise RuntimeError(f"no prediction within {within_s:.0f} s")


def _read(reader: object, predictions: list[tuple[float, Prediction]]) -> None:
    for records in reader.poll(timeout_ms=200).values():  # type: ignore[attr-defined]
        predictions += [(time.time(), Prediction.model_validate_json(record.value)) for record in records]


def _watch(
    reader: object, predictions: list[tuple[float, Prediction]], moments: list[Moment], began: float, streams: int,
    seconds: float, say: Callable[[str], None],
) -> None:  # fmt: skip
    until, due = time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < until:
        _read(reader, predictions)
        if time.monotonic() >= due:
            due += _EVERY_S
            replicas, lag = _workers()
            if moments and moments[-1].replicas != replicas:
                say(f"{time.monotonic() - began:.0f} s: {replicas} workers, {lag} unread records")
            moments.append(Moment(time.monotonic() - began, streams, replicas, lag))


def _workers() -> tuple[int, int | None]:
    """How many workers run, and how many records they have not read."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    states = serve.status().applications[_APP].deployments["Stream"].replica_states
    try:
        answers = serve.get_deployment_handle("Stream", _APP).broadcast("statistics").results(timeout_s=3)
    except (TimeoutError, RayServeException):
        return int(states.get("RUNNING", 0)), None
    return int(states.get("RUNNING", 0)), sum(sum(one["lag_records"].values()) for _, one in answers)


def settled_s(moments: Sequence[Moment], since_s: float, lag: int) -> float | None:
    """Seconds from `since_s` until the lag was at most `lag` and stayed so; None when it did not."""
    later = [one for one in moments if one.at_s >= since_s and one.lag is not None]
    settled = None
    for one in later:
        assert one.lag is not None
        if one.lag > lag:
            settled = None
        elif settled is None:
            settled = one.at_s - since_s
    return settled
