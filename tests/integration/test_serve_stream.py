"""Several stream workers in Ray Serve on a real Apache Kafka: figures that add up, and workers that come and go."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from kafka import KafkaConsumer
from prometheus_client.parser import text_string_to_metric_families
from ray import serve
from ray.serve._private.common import DeploymentID
from ray.serve.context import _get_global_client

from ray_fer.bundle import PACKAGED
from ray_fer.serving.app import build
from ray_fer.serving.catalogue import models_of
from ray_fer.serving.local_ray import ray_session
from ray_fer.serving.options import ServingOptions
from ray_fer.serving.serve_stream import serve_stream
from ray_fer.streaming.broker import EmbeddedBroker, free_port
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import assign_all, consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.windows import WindowConfig
from tests.integration.stream_faults import wait_for

APP = "ray-fer-test"
# No stream falls silent: which windows there are is a matter of event time alone.
CONFIG = WindowConfig(allowed_lateness=0.2, idle_timeout=300)
STREAMS = [f"s{number}" for number in range(8)]
FRAMES_PER_S = 10
SESSION_TIMEOUT_S = 25.0
"""Longer than anything here may take: a worker that did not say goodbye would hold up its partitions for so long."""


class Traffic:
    """Eight streams without a face, but the first, whose frames are a face's; and predictions as they come."""

    def __init__(self, settings: KafkaSettings, jpeg: bytes, face: list[bytes]) -> None:
        self._settings = settings
        self._writer = producer(settings)
        self._reader: KafkaConsumer = consumer(settings)
        assign_all(self._reader, settings.predictions_topic)
        self._jpeg, self._face = jpeg, face
        self.predictions: list[Prediction] = []
        self.sent = 0
        self.seconds = 0
        """Of event time that all streams have sent."""

    def send(self, seconds: int) -> None:
        """So many seconds of all streams, at once."""
        for _ in range(seconds):
            self._send_second(0.0)
        self._writer.flush()

    def flow(self, stop: threading.Event) -> None:
        """Send all streams as fast as they would be live."""
        while not stop.is_set():
            self._send_second(1.0)
        self._writer.flush()

    def _send_second(self, lasting_s: float) -> None:
        for number in range(self.seconds * FRAMES_PER_S, (self.seconds + 1) * FRAMES_PER_S):
            for stream in STREAMS:
                data = self._face[number % len(self._face)] if stream == STREAMS[0] else self._jpeg
                message = FrameMessage(stream, number * 1_000_000 // FRAMES_PER_S, number, "image/jpeg", data)
                self._put(message.payload, message.key(), message.headers())
            time.sleep(lasting_s / FRAMES_PER_S)
        self.seconds += 1

    def send_broken(self, count: int) -> None:
        """Records that are no frames, because they lack headers."""
        for _ in range(count):
            self._put(b"no frame", b"broken", [])
        self._writer.flush()

    def _put(self, value: bytes, key: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._writer.send(self._settings.frames_topic, value, key, headers=headers)
        self.sent += 1

    def read(self) -> Counter[tuple[str, int]]:
        """How often each window is in the topic, of what is committed."""
        for records in self._reader.poll(timeout_ms=200).values():
            self.predictions += [Prediction.model_validate_json(record.value) for record in records]
        return Counter((one.stream_id, one.window.index) for one in self.predictions)

    def close(self) -> None:
        self._writer.close()
        self._reader.close(autocommit=False)


def windows_until(last_s: int) -> set[tuple[str, int]]:
    """All windows that are over when the streams have sent so many seconds, with what late frames are waited for."""
    newest = last_s - 1 / FRAMES_PER_S
    count = int(newest - CONFIG.size - CONFIG.allowed_lateness) + 1
    return {(stream, index) for stream in STREAMS for index in range(count)}


class Page:
    """The dashboard, over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return str(answer.read().decode())

    def json(self, path: str) -> Any:
        return json.loads(self.text(path))

    def metric(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        return [
            (one.labels, one.value)
            for family in text_string_to_metric_families(self.text("/metrics"))
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        return sum(value for _, value in self.metric(name, **labels))

    def owners(self) -> dict[str, str]:
        """Partition -> replica that reads it."""
        return {labels["partition"]: labels["replica"] for labels, _ in self.metric("ray_fer_lag_records")}


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    run = uuid.uuid4().hex[:8]
    settings = KafkaSettings(
        bootstrap_servers=kafka, frames_topic=f"{run}-frames", predictions_topic=f"{run}-predictions",
        dead_letter_topic=f"{run}-dead", group=run, session_timeout_ms=round(1000 * SESSION_TIMEOUT_S),
    )  # fmt: skip
    create_topics(settings)
    return settings


@pytest.fixture
def traffic(settings: KafkaSettings, jpeg: bytes, media: Path) -> Iterator[Traffic]:
    face = [message.payload for message in video_messages(media / "single_face.mp4", "s")][:20]
    with closing(Traffic(settings, jpeg, face)) as one:
        yield one


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_workers_come_and_go_and_the_figures_add_up(settings: KafkaSettings, traffic: Traffic) -> None:
    def deploy() -> None:
        app = build(
            ServingOptions(
                models=models_of([PACKAGED]), kafka=settings, stream=StreamOptions(windows=CONFIG), faces=1, workers=2
            )
        )
        serve.run(app, name=APP, route_prefix="/", external_scaler_enabled=True)  # so that `_scale` may

    with ray_session():
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
        deploy()
        page = Page(f"http://127.0.0.1:{port}")
        wait_for(lambda: len(set(page.owners().values())) == 2, "two workers never shared the partitions")
        traffic.send(8)
        traffic.send_broken(3)
        wanted = windows_until(8)
        assert len(wanted) == 8 * 3
        wait_for(lambda: traffic.read().keys() >= wanted, "windows of the first part are missing")
        wait_for(lambda: page.total("ray_fer_dead_letters_total") == 3, "dead letters are missing")
        _check_figures(page, traffic)

        with _flowing(traffic):
            left = set(page.owners().values())
            started = time.monotonic()
            _scale(1)
            wait_for(
                lambda: len(page.owners()) == 4 and len(set(page.owners().values())) == 1, "partitions are missing"
            )
            assert time.monotonic() - started < SESSION_TIMEOUT_S / 2, "the worker that went did not leave the group"
            assert set(page.owners().values()) < left
            deploy()  # a rolling update: every replica is another one after it
            wait_for(lambda: len(set(page.owners().values())) == 2, "the new workers never shared the partitions")
            assert not left & set(page.owners().values())
        assert traffic.seconds > 8 + 5
        wanted = windows_until(traffic.seconds)
        wait_for(lambda: traffic.read().keys() >= wanted, "windows are missing")
        time.sleep(2)
        assert traffic.read() == Counter(dict.fromkeys(wanted, 1))
        assert len({(one.stream_id, one.window.session) for one in traffic.predictions}) == len(STREAMS)


def test_more_workers_than_partitions_are_refused() -> None:
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, partitions=2)
        options = ServingOptions(models=models_of([PACKAGED]), kafka=settings, workers=3, faces=1)
        with pytest.raises(ValueError, match="3 workers, but topic 'frames' has 2 partitions"):
            serve_stream(options, "127.0.0.1", 1, wait=False)


def _check_figures(page: Page, traffic: Traffic) -> None:
    """Sums over both workers equal what was sent and what a reader of the predictions finds."""
    statuses = Counter(one.status for one in traffic.predictions)
    assert statuses["ok"] == 3
    assert page.total("ray_fer_workers") == 2
    assert page.total("ray_fer_records_total") == traffic.sent
    assert page.total("ray_fer_frames_total") == page.total("ray_fer_frames_total", verdict="kept") == traffic.sent - 3
    for status in ("ok", "no_face", "gap", "skipped", "failed"):
        assert page.total("ray_fer_windows_total", status=status) == statuses[status], status
    assert page.total("ray_fer_latency_seconds_count") == len(traffic.predictions)
    mean_s = page.total("ray_fer_latency_seconds_sum") / len(traffic.predictions)
    assert mean_s == pytest.approx(sum(one.latency_ms or 0 for one in traffic.predictions) / 24_000)
    assert page.total("ray_fer_lag_records") == 0
    assert page.total("ray_fer_live_streams") == len(STREAMS)
    assert page.total("ray_fer_batch_items_total", stage="expressions") == 3
    # Of each stream 24 of its 80 frames are chosen by three windows; the face is in those of one stream.
    searched = page.total("ray_fer_batch_items_total", stage="faces")
    assert page.total("ray_fer_faces_found_total") * len(STREAMS) == searched > 0
    for stage in ("fetch", "model", "faces", "expressions", "commit"):
        assert page.total("ray_fer_stage_seconds_total", stage=stage) > 0, stage
    assert all(value > 0 for _, value in page.metric("ray_fer_records_total")), "a worker without work"

    statistics = page.json("/v1/statistics")
    assert len(statistics["workers"]) == 2
    assert statistics["total"]["records"] == traffic.sent
    assert statistics["total"]["windows"] == {"skipped": 0, "failed": 0, "gap": 0} | statuses
    streams = page.json("/v1/streams")
    assert {one["stream_id"]: one["frames"] for one in streams} == dict.fromkeys(STREAMS, 80)
    assert all(one["lag_s"] == pytest.approx(0.9) for one in streams)
    heard = [one["heard_at"] for one in streams]
    assert heard == sorted(heard, reverse=True)
    assert page.json("/v1/streams?limit=3&offset=2") == streams[2:5]


@contextmanager
def _flowing(traffic: Traffic) -> Iterator[None]:
    stop = threading.Event()
    sender = threading.Thread(target=traffic.flow, args=(stop,))
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


def _scale(workers: int) -> None:
    """What Serve's autoscaler does: another number of replicas, and those that stay are not touched."""
    controller = _get_global_client()._controller
    ray.get(controller.update_deployment_replicas.remote(DeploymentID(name="Stream", app_name=APP), workers))
