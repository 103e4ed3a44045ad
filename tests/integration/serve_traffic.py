"""Traffic of several streams for tests of the whole application, and its API as they look at it."""

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

from kafka import KafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import assign_all, consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.windows import WindowConfig

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


def own_topics(kafka: str, session_timeout_s: float = SESSION_TIMEOUT_S) -> KafkaSettings:
    """Topics and a group of this test's own."""
    run = uuid.uuid4().hex[:8]
    settings = KafkaSettings(
        bootstrap_servers=kafka, frames_topic=f"{run}-frames", predictions_topic=f"{run}-predictions",
        dead_letter_topic=f"{run}-dead", group=run, session_timeout_ms=round(1000 * session_timeout_s),
    )  # fmt: skip
    create_topics(settings)
    return settings


@contextmanager
def traffic_on(settings: KafkaSettings, jpeg: bytes, media: Path) -> Iterator[Traffic]:
    """Eight streams that have sent nothing yet."""
    face = [message.payload for message in video_messages(media / "single_face.mp4", "s")][:20]
    with closing(Traffic(settings, jpeg, face)) as one:
        yield one


@contextmanager
def flowing(traffic: Traffic) -> Iterator[None]:
    """All streams live, until the end of the body."""
    stop = threading.Event()
    sender = threading.Thread(target=traffic.flow, args=(stop,))
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()
