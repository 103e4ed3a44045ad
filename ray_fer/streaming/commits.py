"""How a turn of the worker becomes visible: all of it in one Kafka transaction, or output first and then offsets."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.faults import fault_point
from ray_fer.streaming.kafka import BrokerError, worker_producer
from ray_fer.streaming.kafka_client import drop
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Headers, Prediction
from ray_fer.streaming.topics import describe_topics

_ANSWER_S = 10.0
_USUAL_LIMIT = 1_000_000


@dataclass(frozen=True)
class DeadLetter:
    """A record that cannot be used, with the reason in its headers."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    def fitting(self, largest: int) -> DeadLetter:
        """For a topic whose largest record is `largest`: without its value where that is too much, and, where it still
        is, without the record's own headers and key. Then its reason says so; its headers keep where the record lies.
        """
        if self._size() <= largest:
            return self
        *own, (name, reason), topic, partition, offset = self.headers
        told = f"; its {len(self.value or b'')} bytes are left out, as the dead-letter topic takes no record so large"
        short = DeadLetter(self.key or b"", None, [*own, (name, reason + told.encode()), topic, partition, offset])
        if short._size() <= largest:
            return short
        told += ", nor are its headers and key here"
        return DeadLetter(b"", None, [(name, reason + told.encode()), topic, partition, offset])

    def _size(self) -> int:
        """Bytes of the record and its batch, or a few more."""
        headers = sum(len(name.encode()) + len(content) + 10 for name, content in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 200


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
        """Make the turn visible; a dead letter that its topic cannot take goes out shortened.

        Raises KafkaError, within seconds also when no broker answers; then nothing of the turn may be counted on.
        """

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
        self._largest_letter = _largest_letter(settings)
        self._writer = worker_producer(settings)
        try:
            self._writer.init_transactions()
        except KafkaError:
            drop(self._writer)
            raise

    def commit(self, turn: Turn) -> None:
        """See `Output`."""
        # Between being shut out of the group and joining it again, a consumer has no generation. The broker would not
        # fence that: it takes it for a client that needs no group.
        if turn.membership.generation_id < 0:
            raise UnknownMemberIdError("the worker is no member of its group any more")
        self._writer.begin_transaction()
        fault_point("after-begin")
        try:
            sent = _send(self._writer, self._settings, turn, self._largest_letter)
            fault_point("after-send")
            if turn.offsets:
                self._writer.send_offsets_to_transaction(dict(turn.offsets), turn.membership)
            fault_point("after-offsets")
            # `commit_transaction` of kafka-python (3.0.12) reports success when the broker has aborted the transaction,
            # as it does with one that takes too long: the client begins a new epoch, where there is nothing to commit.
            _wait(sent, self._writer.remaining_s())
            self._writer.commit_transaction()
        except KafkaError:
            with contextlib.suppress(KafkaError):  # the broker may have aborted it already
                self._writer.abort_transaction()
            raise
        fault_point("after-commit")

    def close(self) -> None:
        """See `Output`. What is not committed is dropped."""
        drop(self._writer)


class AtLeastOnce:
    """Output is written and acknowledged first, offsets after it: a crash between the two repeats windows."""

    def __init__(self, settings: KafkaSettings, consumer: KafkaConsumer) -> None:
        self._settings = settings
        self._largest_letter = _largest_letter(settings)
        self._writer = worker_producer(settings)
        self._consumer = consumer

    def commit(self, turn: Turn) -> None:
        """See `Output`."""
        fault_point("after-begin")
        _wait(_send(self._writer, self._settings, turn, self._largest_letter), _ANSWER_S)
        fault_point("after-send")
        if turn.offsets:
            self._consumer.commit(dict(turn.offsets), timeout_ms=1000 * _ANSWER_S)
        fault_point("after-offsets")
        fault_point("after-commit")

    def close(self) -> None:
        """See `Output`."""
        drop(self._writer)


def _largest_letter(settings: KafkaSettings) -> int:
    """The largest record of the dead-letter topic: what the broker says, or what brokers usually allow.

    It is asked beforehand: a record that the broker refuses takes its whole transaction with it, and again next time.
    """
    limit = None
    with contextlib.suppress(BrokerError):  # it may be that we are not allowed to ask
        letters = describe_topics(settings).get(settings.dead_letter_topic)
        limit = letters and letters.max_message_bytes
    return min(settings.dead_letter_bytes, limit or _USUAL_LIMIT)


def _send(writer: Any, settings: KafkaSettings, turn: Turn, largest_letter: int) -> list[Any]:
    """Hand a turn to the producer; what is given will hold the broker's word on each record."""
    sent = [
        writer.send(settings.predictions_topic, prediction.to_bytes(), prediction.stream_id.encode())
        for prediction in turn.predictions
    ]
    sent += [
        writer.send(settings.dead_letter_topic, letter.value, letter.key, headers=letter.headers)
        for letter in (one.fitting(largest_letter) for one in turn.dead)
    ]
    sent += [
        writer.send(settings.state_topic, state, stream_id.encode(), partition=partition.partition)
        for partition, streams in turn.state.items()
        for stream_id, state in streams.items()
    ]
    return sent


def _wait(sent: Sequence[Any], seconds: float) -> None:
    """Wait for the broker's word on all that was sent; raise the first refusal, or KafkaTimeoutError."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for one in sent:
        one.add_both(answers.put)
    deadline = time.monotonic() + seconds
    for _ in sent:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise KafkaTimeoutError(f"the broker did not acknowledge what was sent within {seconds:.0f} s") from None
        if isinstance(answer, Exception):
            raise answer
