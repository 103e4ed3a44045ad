"""What kafka-python costs: the same frames sent and read by it, as `kafka` sets it up, and by confluent-kafka.

confluent-kafka is librdkafka, C with a thread of its own; it gets the same sizes, waits, checksums and isolation.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import BATCH_BYTES, FETCH_AT_LEAST, FETCH_WAIT_MS, LINGER_MS, group_consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.topics import create_topics, delete_topics

_SILENCE_S = 30.0


@dataclass(frozen=True)
class ClientSpeed:
    """Medians over the rounds. Processor time is that of all threads of the client's process."""

    client: str
    sent_mb_per_s: float
    send_ms_per_mb: float
    read_mb_per_s: float
    read_ms_per_mb: float


Send = Callable[[KafkaSettings, Sequence[FrameMessage]], None]
Read = Callable[[KafkaSettings, int], int]
"""Reads so many records with a group of its own, and says how many bytes their values had."""


def compare_clients(settings: KafkaSettings, frames: Sequence[FrameMessage], rounds: int = 3) -> list[ClientSpeed]:
    """Send and read the same frames with both clients, by turns. Raises ValueError without confluent-kafka.

    `settings` say where the Kafka is; it must let everybody in. The topics are made and deleted.
    """
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise ValueError("confluent-kafka is not installed; `pip install confluent-kafka`") from None
    clients: dict[str, tuple[Send, Read]] = {
        "kafka-python": (_send_python, _read_python),
        "confluent-kafka": (_send_confluent, _read_confluent),
    }
    megabytes = sum(len(one.payload) for one in frames) / 1e6
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, (send, read) in clients.items():
            run = uuid.uuid4().hex[:8]
            topics = {f"{kind}_topic": f"clients-{run}-{kind}" for kind in ("frames", "predictions", "dead_letter")}
            ours = settings.model_copy(update=topics | {"group": run})
            create_topics(ours)
            try:
                _, *sending = _timed(send, ours, frames)
                got, *reading = _timed(read, ours, len(frames))
            finally:
                delete_topics(ours)
            if got != sum(len(one.payload) for one in frames):
                raise RuntimeError(f"{name} read {got} bytes of {megabytes:.0f} MB")
            taken[name].append((*sending, *reading))
    speeds = []
    for name, figures in taken.items():
        send_s, send_cpu_s, read_s, read_cpu_s = (median(column) for column in zip(*figures, strict=True))
        speeds.append(
            ClientSpeed(
                name,
                sent_mb_per_s=megabytes / send_s,
                send_ms_per_mb=1000 * send_cpu_s / megabytes,
                read_mb_per_s=megabytes / read_s,
                read_ms_per_mb=1000 * read_cpu_s / megabytes,
            )
        )
    return speeds


def _timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """What it gives, its seconds, and its seconds of processor time."""
    wall, busy = time.perf_counter(), time.process_time()
    given = call(*arguments)
    return given, time.perf_counter() - wall, time.process_time() - busy


def _send_python(settings: KafkaSettings, frames: Sequence[FrameMessage]) -> None:
    writer = producer(settings)
    for one in frames:
        writer.send(settings.frames_topic, one.payload, one.key(), headers=one.headers())
    writer.flush()
    writer.close()


def _read_python(settings: KafkaSettings, records: int) -> int:
    reader = group_consumer(settings)
    reader.subscribe([settings.frames_topic])

    def poll() -> list[int]:
        polled = reader.poll(timeout_ms=100).values()
        return [len(record.value) for one in polled for record in one]

    try:
        return _read(poll, records)
    finally:
        reader.close(autocommit=False)


def _send_confluent(settings: KafkaSettings, frames: Sequence[FrameMessage]) -> None:
    from confluent_kafka import Producer

    writer = Producer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "enable.idempotence": True,
            "message.max.bytes": settings.max_message_bytes,
            "batch.size": BATCH_BYTES,
            "linger.ms": LINGER_MS,
        }
    )
    for one in frames:
        while True:
            try:
                writer.produce(settings.frames_topic, one.payload, one.key(), headers=[*one.headers()])
                break
            except BufferError:  # its queue is full
                writer.poll(0.01)
        writer.poll(0)
    writer.flush()


def _read_confluent(settings: KafkaSettings, records: int) -> int:
    from confluent_kafka import Consumer

    reader = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": settings.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "check.crcs": True,
            "fetch.min.bytes": FETCH_AT_LEAST,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "max.partition.fetch.bytes": settings.partition_fetch_bytes,
            "fetch.max.bytes": settings.fetch_bytes,
            "session.timeout.ms": settings.session_timeout_ms,
        }
    )
    reader.subscribe([settings.frames_topic])

    def poll() -> list[int]:
        # As many as a poll of the stream worker's gives, each with its headers.
        polled = reader.consume(settings.max_poll_records, timeout=0.1)
        return [len(record.value() or b"") for record in polled if record.error() is None and record.headers()]

    try:
        return _read(poll, records)
    finally:
        reader.close()


def _read(poll: Callable[[], list[int]], records: int) -> int:
    """Poll until so many records were there; how many bytes they had. Raises RuntimeError when they do not come."""
    sizes: list[int] = []
    last = time.monotonic()
    while len(sizes) < records:
        if found := poll():
            sizes += found
            last = time.monotonic()
        if time.monotonic() - last > _SILENCE_S:
            raise RuntimeError(f"{len(sizes)} of {records} records came, then none for {_SILENCE_S:g} s")
    return sum(sizes)
