"""Kafka clients with settings that suit frames: sizes that agree on both ends, transactions, clear errors."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError
from pydantic import BaseModel, ConfigDict, Field

from ray_fer.streaming.messages import MAX_FRAME_BYTES, Prediction

_OVERHEAD = 64 * 1024  # keys, headers and batch framing around the largest frame
_REQUEST = MAX_FRAME_BYTES + _OVERHEAD


class BrokerError(RuntimeError):
    """No broker answered; the message says where it was looked for and what to do."""


class KafkaSettings(BaseModel):
    """Where the broker is and what the topics are called."""

    model_config = ConfigDict(extra="forbid")

    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port[,host:port...]")
    frames_topic: str = "frames"
    predictions_topic: str = "predictions"
    dead_letter_topic: str = "frames-dead-letter"
    group: str = "ray-fer"
    session_timeout_ms: int = Field(10_000, description="a consumer that is silent for so long is considered dead")
    partitions: int = Field(4, ge=1, description="partitions of topics that are created")

    def topics(self) -> list[str]:
        return [self.frames_topic, self.predictions_topic, self.dead_letter_topic]


def check_broker(bootstrap_servers: str, timeout_s: float = 3.0) -> None:
    """Raise BrokerError unless one of the servers accepts a TCP connection within `timeout_s`."""
    reasons = []
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdigit():
            raise BrokerError(f"bootstrap server {server!r} is not host:port")
        try:
            socket.create_connection((host, int(port)), timeout=timeout_s).close()
            return
        except OSError as error:
            reasons.append(f"{server.strip()} ({error.strerror or error})")
    raise BrokerError(
        f"no Kafka broker at {', '.join(reasons)}; start one, correct --bootstrap-servers, or leave the option out "
        "to use the embedded broker"
    )


def consumer(settings: KafkaSettings, **overrides: Any) -> KafkaConsumer:
    """A consumer of committed records without automatic commits; `overrides` are kafka-python arguments."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "max_partition_fetch_bytes": _REQUEST,
        "fetch_max_bytes": 4 * _REQUEST,
        "fetch_max_wait_ms": 100,
        "max_poll_records": 500,
    }
    return KafkaConsumer(**(arguments | overrides))


def group_consumer(settings: KafkaSettings) -> KafkaConsumer:
    """The stream worker's consumer: a member of the group. Subscribe it to the frames topic."""
    return consumer(
        settings,
        group_id=settings.group,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=max(200, settings.session_timeout_ms // 4),
    )


def producer(settings: KafkaSettings, transactional_id: str | None = None) -> KafkaProducer:
    """An idempotent producer; a transactional one when an id is given. Frames are compressed already: no codec."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "max_request_size": _REQUEST,
        "linger_ms": 0 if transactional_id else 5,
    }
    if transactional_id is not None:
        arguments["transactional_id"] = transactional_id
    return KafkaProducer(**arguments)


def create_topics(settings: KafkaSettings) -> None:
    """Create the three topics where they do not exist yet. Raises BrokerError when the broker refuses."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers.split(","))
    try:
        existing = set(admin.list_topics())
        for topic in settings.topics():
            if topic in existing:
                continue
            with contextlib.suppress(TopicAlreadyExistsError):
                # -1: as many replicas as the cluster's default says.
                admin.create_topics(
                    {
                        topic: {
                            "num_partitions": settings.partitions,
                            "replication_factor": -1,
                            "configs": {"max.message.bytes": str(_REQUEST)},
                        }
                    }
                )
    except KafkaError as error:
        raise BrokerError(f"cannot create topics at {settings.bootstrap_servers}: {error}") from error
    finally:
        admin.close()


def assign_all(reader: KafkaConsumer, topic: str, timeout_s: float = 10.0) -> list[TopicPartition]:
    """Assign all partitions of `topic` to a consumer outside any group. Raises BrokerError for an unknown topic."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        partitions = reader.partitions_for_topic(topic)
        if partitions:
            assigned = [TopicPartition(topic, number) for number in sorted(partitions)]
            reader.assign(assigned)
            return assigned
        time.sleep(0.1)
    raise BrokerError(f"there is no topic {topic!r}; create it first")


def delete_topics(settings: KafkaSettings) -> None:
    """Delete the three topics; a topic that is not there is passed over."""
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers.split(","))
    try:
        for topic in sorted(set(admin.list_topics()) & set(settings.topics())):
            admin.delete_topics([topic])
    finally:
        admin.close()


def read_predictions(settings: KafkaSettings) -> Iterator[Prediction]:
    """Every prediction of the topic from its beginning on, without end. Raises BrokerError for an unknown topic."""
    reader = consumer(settings)
    try:
        assign_all(reader, settings.predictions_topic)
        while True:
            for records in reader.poll(timeout_ms=200).values():
                for record in records:
                    yield Prediction.model_validate_json(record.value)
    finally:
        reader.close(autocommit=False)
