"""The stream worker: frames topic -> windows -> model -> predictions topic, in transactions.

One thread owns the consumer and the transactional producer. Each turn of the loop polls frames, closes windows, asks
the model for their predictions, and commits predictions, dead letters and offsets in one Kafka transaction;
`progress` says what is committed and why that is enough. The group generation that goes with the offsets fences a
worker that lost its partitions (KIP-447).

While more windows are closed than one turn may hold, the partitions are paused: the client keeps its place in the
group, memory stays bounded, and the topic keeps what is not read yet.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.kafka import KafkaSettings, group_consumer, producer
from ray_fer.streaming.messages import Headers, MessageError, Prediction, dead_letter_headers, parse_frame
from ray_fer.streaming.progress import PartitionProgress, restore
from ray_fer.streaming.windows import BufferedFrame, Window, WindowConfig

_LOG = logging.getLogger(__name__)
_COMMIT_EVERY_S = 5.0
_WINDOWS_PER_TURN = 32
_LONGEST_TURN_S = 0.5
_SESSIONS_WITHOUT_PROGRESS = 5


@dataclass
class Inference:
    """What the model says of a list of windows: one prediction each, and frames that could not be decoded."""

    predictions: list[Prediction]
    broken: list[tuple[BufferedFrame, str]]


@dataclass(frozen=True)
class _DeadLetter:
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass
class WorkerStatistics:
    """Counters since the worker started. `lag` is the number of records not read yet, as of the last poll."""

    frames: int = 0
    windows: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    transactions: int = 0
    lag: int = 0


class StreamWorker:
    """Runs until `stop` is called. `infer` gets closed windows and returns their predictions in the same order."""

    def __init__(
        self, settings: KafkaSettings, windows: WindowConfig, infer: Callable[[Sequence[Window]], Inference]
    ) -> None:
        self.statistics = WorkerStatistics()
        self._settings = settings
        self._config = windows
        self._infer = infer
        self._stop = threading.Event()
        self._partitions: dict[TopicPartition, PartitionProgress] = {}
        self._dead: list[_DeadLetter] = []
        self._backlog = False
        self._committed_at = self._turned_at = time.monotonic()

    def stop(self) -> None:
        """Ask the loop to finish its turn, commit and leave the group."""
        self._stop.set()

    def run(self) -> None:
        """Consume until stopped; a failed transaction or lost broker starts over from the last commit.

        Raises the KafkaError of the last of several sessions in a row that committed nothing.
        """
        failures = 0
        while not self._stop.is_set():
            before = self.statistics.transactions
            try:
                self._session()
            except KafkaError as error:
                failures = failures + 1 if self.statistics.transactions == before else 1
                if failures >= _SESSIONS_WITHOUT_PROGRESS:
                    raise
                _LOG.warning("%s; starting over from the last commit", error)
                self._stop.wait(min(2.0**failures, 10.0))

    def _session(self) -> None:
        self._partitions.clear()
        self._dead.clear()
        self._backlog = False
        consumer = group_consumer(self._settings)
        # A fresh transactional id per session: fencing rests on the group's generation, not on the id.
        writer = producer(self._settings, transactional_id=f"{self._settings.group}-{uuid.uuid4().hex[:12]}")
        try:
            writer.init_transactions()
            assignment = _Assignment()
            consumer.subscribe([self._settings.frames_topic], listener=assignment)
            while not self._stop.is_set():
                self._turn(consumer, writer, assignment)
        finally:
            consumer.close(autocommit=False)
            writer.close(timeout=5)

    def _turn(self, consumer: KafkaConsumer, writer: KafkaProducer, assignment: _Assignment) -> None:
        # Paused or resumed every time, because a rebalance forgets it.
        assigned = consumer.assignment()
        if self._backlog:
            consumer.pause(*assigned)
        else:
            consumer.resume(*assigned)
        polled = consumer.poll(timeout_ms=0 if self._backlog else 100)
        assignment.apply(consumer, self._partitions)
        # The generation these records belong to: if the group rebalances before the commit, the broker refuses it.
        membership = consumer.group_metadata()
        for partition, records in polled.items():
            for record in records if partition in self._partitions else ():
                self._take(partition, record)
        windows = self._closed_windows(consumer, self._waited())
        self._backlog = len(windows) >= _WINDOWS_PER_TURN
        predictions: list[Prediction] = []
        if windows:
            answer = self._infer(windows)
            predictions = answer.predictions
            for frame, reason in answer.broken:
                self._bury(frame.record, reason)
        due = bool(self._partitions) and time.monotonic() - self._committed_at > _COMMIT_EVERY_S
        if predictions or self._dead or due:
            self._commit(writer, membership, predictions)

    def _take(self, partition: TopicPartition, record: Any) -> None:
        progress = self._partitions[partition]
        first_time = record.offset >= progress.handled
        progress.handled = max(progress.handled, record.offset + 1)
        try:
            message = parse_frame(record.value, record.headers)
        except MessageError as error:
            if first_time:
                self._bury(record, str(error))
            return
        progress.idle_s[message.stream_id] = 0.0
        frame = BufferedFrame(message.pts_us, message.seq, message.payload, record, record.offset, record.timestamp)
        verdict = progress.windows_of(message.stream_id, self._config).add(frame)
        if first_time:
            self.statistics.frames += 1
            self.statistics.duplicates += verdict == "duplicate"
            if verdict == "late":
                self._bury(record, f"late: every window that holds pts-us {message.pts_us} has been given out")

    def _waited(self) -> float:
        """How much this turn adds to the idle time of streams that gave no frame.

        Nothing while the partitions are paused, and little for a turn that the model made long: a stream is silent
        when frames were looked for and did not come, not when nobody looked.
        """
        now = time.monotonic()
        elapsed, self._turned_at = now - self._turned_at, now
        return 0.0 if self._backlog else min(elapsed, _LONGEST_TURN_S)

    def _closed_windows(self, consumer: KafkaConsumer, waited: float) -> list[Window]:
        """Up to one turn's share of closed windows; closes streams that have been silent for too long."""
        windows: list[Window] = []
        lag = 0
        for partition, progress in self._partitions.items():
            end = consumer.highwater(partition)
            # By position, which also passes over what is no record for us, such as the markers of transactions.
            unread = 0 if end is None else max(0, end - consumer.position(partition))
            lag += unread
            for stream_id, stream in list(progress.streams.items()):
                room = _WINDOWS_PER_TURN - len(windows)
                windows += stream.ready(room)
                if not unread:  # else its frames may be among those not read yet
                    progress.idle_s[stream_id] += waited
                if progress.idle_s[stream_id] > self._config.idle_timeout:
                    windows += stream.flush(_WINDOWS_PER_TURN - len(windows))
                    if not len(stream):
                        progress.close(stream_id)
        self.statistics.lag = lag
        return windows

    def _bury(self, record: Any, reason: str) -> None:
        headers = dead_letter_headers(record.headers, reason, record.topic, record.offset)
        self._dead.append(_DeadLetter(record.key, record.value, headers))
        _LOG.warning("dead letter: %s offset %d: %s", record.topic, record.offset, reason)

    def _commit(self, writer: KafkaProducer, membership: Any, predictions: Sequence[Prediction]) -> None:
        offsets = {
            partition: OffsetAndMetadata(progress.commit_offset(), progress.metadata(), -1)
            for partition, progress in self._partitions.items()
        }
        writer.begin_transaction()
        try:
            for prediction in predictions:
                writer.send(self._settings.predictions_topic, prediction.to_bytes(), prediction.stream_id.encode())
            for letter in self._dead:
                writer.send(self._settings.dead_letter_topic, letter.value, letter.key, headers=letter.headers)
            if offsets:
                writer.send_offsets_to_transaction(offsets, membership)
            writer.commit_transaction()
        except KafkaError:
            writer.abort_transaction()
            raise
        self.statistics.windows += len(predictions)
        self.statistics.dead_letters += len(self._dead)
        self.statistics.transactions += 1
        self._dead.clear()
        self._committed_at = time.monotonic()


class _Assignment(ConsumerRebalanceListener):
    """Notes which partitions came and went, for the worker's thread to act on.

    The client calls this on its own I/O thread, where nothing may block; `apply` runs on the worker's.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[bool, list[TopicPartition]]] = queue.SimpleQueue()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._events.put((True, list(assigned)))

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._events.put((False, list(revoked)))

    def apply(self, consumer: KafkaConsumer, partitions: dict[TopicPartition, PartitionProgress]) -> None:
        """Drop the progress of partitions that went and load that of partitions that came.

        What a partition did is committed; what is in memory only can be rebuilt by its next owner.
        """
        while not self._events.empty():
            came, changed = self._events.get()
            for partition in changed:
                partitions.pop(partition, None)
                if came:
                    committed = consumer.committed(partition, metadata=True)
                    known = committed is not None and committed.offset is not None and committed.offset >= 0
                    partitions[partition] = (
                        restore(committed.offset, committed.metadata) if known else PartitionProgress()
                    )
