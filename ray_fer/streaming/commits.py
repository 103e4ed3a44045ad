"""How a turn of the worker becomes visible: all of it in one Kafka transaction, or output first and then offsets."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.faults import fault_point
from ray_fer.streaming.kafka import worker_producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Headers, Prediction

_FLUSH_S = 60.0


@dataclass(frozen=True)
class DeadLetter:
    """A record that cannot be used, with the reason in its headers."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass
class Turn:
    """What one turn leads to. `state`: partition -> stream id -> what is remembered, None for forgotten.

    `membership` is the consumer's group metadata of the time at which the turn's partitions were known to be ours.
    """

    membership: Any
    offsets: Mapping[TopicPartition, OffsetAndMetadata]
    state: Mapping[TopicPartition, Mapping[str, bytes | None]]
    predictions: list[Prediction] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


class Output(Protocol):
    """Where turns go."""

    def commit(self, turn: Turn) -> None:
        """Make the turn visible. Raises KafkaError; then nothing of it may be counted on."""

    def close(self) -> None:
        """Let go of the connection."""


class ExactlyOnce:
    """Predictions, dead letters, state and offsets in one transaction.

    The group's generation, which goes with the offsets, fences a worker that lost its partitions (KIP-447). With
    `KafkaSettings.instance` the transactional id is the instance's own, and a new process of that instance also ends
    what its predecessor left open.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._writer = worker_producer(settings)
        self._writer.init_transactions()

    def commit(self, turn: Turn) -> None:
        """See `Output`."""
        self._writer.begin_transaction()
        fault_point("after-begin")
        try:
            sent = _send(self._writer, self._settings, turn)
            fault_point("after-send")
            if turn.offsets:
                self._writer.send_offsets_to_transaction(dict(turn.offsets), turn.membership)
            fault_point("after-offsets")
            self._acknowledged(sent)
            self._writer.commit_transaction()
        except KafkaError:
            with contextlib.suppress(KafkaError):  # the broker may have aborted it already
                self._writer.abort_transaction()
            raise
        fault_point("after-commit")

    def _acknowledged(self, sent: list[Any]) -> None:
        """Wait for the broker's word on all that was sent; raise the first refusal.

        `commit_transaction` of kafka-python (3.0.12) reports success when the broker has aborted the transaction, as it
        does with one that takes too long: the client begins a new epoch, in which there is nothing to commit.
        """
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for one in sent:
            one.add_both(answers.put)
        deadline = time.monotonic() + self._settings.transaction_timeout_ms / 1000
        for _ in sent:
            try:
                answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise KafkaTimeoutError("the transaction took longer than transaction_timeout_ms") from None
            if isinstance(answer, Exception):
                raise answer

    def close(self) -> None:
        """See `Output`. What is not committed is dropped; to flush it, as closing does, may take forever."""
        self._writer._sender.force_close()
        self._writer.close(timeout=5)


class AtLeastOnce:
    """Output is written and acknowledged first, offsets after it: a crash between the two repeats windows."""

    def __init__(self, settings: KafkaSettings, consumer: KafkaConsumer) -> None:
        self._settings = settings
        self._writer = worker_producer(settings)
        self._consumer = consumer

    def commit(self, turn: Turn) -> None:
        """See `Output`."""
        fault_point("after-begin")
        sent = _send(self._writer, self._settings, turn)
        self._writer.flush(timeout=_FLUSH_S)
        for one in sent:
            one.get(timeout=_FLUSH_S)
        fault_point("after-send")
        if turn.offsets:
            self._consumer.commit(dict(turn.offsets))
        fault_point("after-offsets")
        fault_point("after-commit")

    def close(self) -> None:
        """See `Output`."""
        self._writer.close(timeout=5)


def _send(writer: Any, settings: KafkaSettings, turn: Turn) -> list[Any]:
    sent = [
        writer.send(settings.predictions_topic, prediction.to_bytes(), prediction.stream_id.encode())
        for prediction in turn.predictions
    ]
    sent += [
        writer.send(settings.dead_letter_topic, letter.value, letter.key, headers=letter.headers)
        for letter in turn.dead
    ]
    sent += [
        writer.send(settings.state_topic, state, stream_id.encode(), partition=partition.partition)
        for partition, streams in turn.state.items()
        for stream_id, state in streams.items()
    ]
    return sent
