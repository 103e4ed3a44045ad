"""The stream worker: frames topic -> windows -> model -> predictions topic, each turn a commit.

One thread owns the consumer and the producer; another one runs the model. While the model works on one turn's windows,
the next frames are fetched and put into their windows, but no window is given out and nothing is committed: then
predictions, dead letters, what is remembered of streams, and offsets go out together (`commits`; `progress` says what
is committed and why that is enough).

While more windows are sealed than one turn may hold, the partitions are paused: the client keeps its place in the
group, memory stays bounded, and the topic keeps what is not read yet.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.assignment import Assignment
from ray_fer.streaming.attempts import Attempts, Inference, StoppedError
from ray_fer.streaming.commits import AtLeastOnce, DeadLetter, ExactlyOnce, Output, Turn
from ray_fer.streaming.faults import fault_point
from ray_fer.streaming.frame_message import MessageError, parse_frame
from ray_fer.streaming.kafka import group_consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import dead_letter_headers
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.state_topic import StateReader
from ray_fer.streaming.statistics import WorkerStatistics
from ray_fer.streaming.windows import BufferedFrame, Window

_LOG = logging.getLogger(__name__)
_COMMIT_EVERY_S = 5.0
_LONGEST_TURN_S = 0.5
_SESSIONS_WITHOUT_PROGRESS = 5
_LOST = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Refusals that mean: the group has changed since the records were read."""


class StreamWorker:
    """Runs until `stop` is called. `infer` gets closed windows and returns their predictions in the same order."""

    def __init__(
        self,
        settings: KafkaSettings,
        options: StreamOptions,
        infer: Callable[[Sequence[Window]], Inference],
    ) -> None:
        self.statistics = WorkerStatistics()
        self._settings = settings
        self._options = options
        self._attempts = Attempts(infer)
        self._stop = threading.Event()
        self._partitions: dict[TopicPartition, PartitionProgress] = {}
        self._dead: list[tuple[PartitionProgress, DeadLetter]] = []
        self._job: Future[Inference] | None = None
        self._given_out: list[tuple[PartitionProgress, Window]] = []
        self._committed_at = self._turned_at = time.monotonic()

    def stop(self) -> None:
        """Ask the loop to finish its turn, commit and leave the group."""
        self._stop.set()
        self._attempts.stop()

    def run(self) -> None:
        """Consume until stopped; a failed transaction or lost broker starts over from the last commit.

        Raises the KafkaError of the last of several sessions in a row that committed nothing.
        """
        failures = 0
        while not self._stop.is_set():
            before = self.statistics.commits
            try:
                self._session()
            except StoppedError:
                return
            except KafkaError as error:
                failures = failures + 1 if self.statistics.commits == before else 1
                if failures >= _SESSIONS_WITHOUT_PROGRESS:
                    raise
                _LOG.warning("%s; starting over from the last commit", error)
                self._stop.wait(min(2.0**failures, 10.0))

    def _session(self) -> None:
        self._partitions.clear()
        self._forget_turn()
        consumer = group_consumer(self._settings)
        reader, output = None, None
        pool = ThreadPoolExecutor(1, thread_name_prefix="stream-model")
        try:
            reader = StateReader(self._settings)
            output = self._output(consumer)
            assignment = Assignment(consumer, reader, self._options.windows)
            consumer.subscribe([self._settings.frames_topic], listener=assignment)
            while not self._stop.is_set() or self._job is not None:
                self._turn(consumer, output, assignment, pool)
        finally:
            pool.shutdown(cancel_futures=True)
            consumer.close(autocommit=False)
            for client in (reader, output):
                if client is not None:
                    client.close()

    def _output(self, consumer: KafkaConsumer) -> Output:
        if self._settings.processing_guarantee == "exactly_once":
            return ExactlyOnce(self._settings)
        return AtLeastOnce(self._settings, consumer)

    def _turn(self, consumer: KafkaConsumer, output: Output, assignment: Assignment, pool: ThreadPoolExecutor) -> None:
        full = self._waiting() >= self._options.windows_per_turn
        # Paused or resumed every time, because a rebalance forgets it.
        (consumer.pause if full else consumer.resume)(*consumer.assignment())
        with self.statistics.stage("fetch"):
            polled = consumer.poll(timeout_ms=20 if self._job is not None else 0 if full else 100)
        # The generation these records belong to: if the group rebalances before the commit, the broker refuses it.
        membership = consumer.group_metadata()
        assignment.apply(self._partitions)
        fault_point("after-poll")
        for partition, records in polled.items():
            for record in records if partition in self._partitions else ():
                self._take(self._partitions[partition], record)
        self._look_around(consumer, full)
        if self._job is None and not self._stop.is_set():
            self._give_out(pool)
        if self._job is not None and not self._job.done():
            return
        answer = self._answer()
        if self._job is not None or self._dead or time.monotonic() - self._committed_at > _COMMIT_EVERY_S:
            with self.statistics.stage("commit"):
                self._commit(output, assignment, membership, answer)

    def _take(self, progress: PartitionProgress, record: Any) -> None:
        first_time = progress.first_time(record.offset)
        try:
            message = parse_frame(record.value, record.headers)
            source, frames = message.source(), message.frames(policy=self._options.references)
        except MessageError as error:
            if first_time:
                self._bury(progress, record, str(error))
            return
        late = 0
        for pts_us, seq, index in frames:
            frame = BufferedFrame(pts_us, seq, source, index, record, record.offset, record.timestamp)
            verdict = progress.add(message.stream_id, frame)
            late += verdict == "late"
            if first_time:
                self.statistics.frame(message.stream_id, verdict)
        if late and first_time:
            which = "" if len(frames) == 1 else f"{late} of its {len(frames)} frames are "
            self._bury(progress, record, f"{which}late: every window that holds them has been sealed")

    def _look_around(self, consumer: KafkaConsumer, full: bool) -> None:
        """Measure the lag, and count silence where there was nothing to read.

        No silence while the partitions are paused, and little for a turn that took long: a stream is silent when frames
        were looked for and did not come, not when nobody looked.
        """
        now = time.monotonic()
        elapsed, self._turned_at = now - self._turned_at, now
        lag = 0
        for partition, progress in self._partitions.items():
            end = consumer.highwater(partition)
            # By position, which also passes over what is no record for us, such as the markers of transactions.
            unread = 0 if end is None else max(0, end - consumer.position(partition))
            lag += unread
            # Before the first answer to a fetch nothing is known, least of all that there is nothing to read.
            if end is not None and not unread and not full:
                progress.looked(min(elapsed, _LONGEST_TURN_S))
        self.statistics.observe(lag, self._partitions.values())

    def _waiting(self) -> int:
        return sum(progress.waiting() for progress in self._partitions.values())

    def _give_out(self, pool: ThreadPoolExecutor) -> None:
        """Start the model on one turn's share of sealed windows, if there are any."""
        for progress in list(self._partitions.values()):
            room = self._options.windows_per_turn - len(self._given_out)
            self._given_out += [(progress, window) for window in progress.ready(room)]
        if self._given_out:
            now_ms = time.time() * 1000
            windows = [
                replace(window, skipped=True, chosen=()) if self._options.freshness.stale(window, now_ms) else window
                for _, window in self._given_out
            ]
            self._job = pool.submit(self.statistics.timed, "model", self._attempts.run, windows)

    def _answer(self) -> Inference | None:
        """What the model said of the windows that were given out; None where there are none.

        Raises StoppedError when the worker was told to stop while the model failed: nothing of the turn is committed.
        """
        if self._job is None:
            return None
        answer = self._job.result()
        fault_point("after-infer")
        for frame, reason in answer.broken:
            # By identity: frames of two streams are equal when their times and numbers are.
            owner, stream_id = next(
                (one, window.stream_id)
                for one, window in self._given_out
                if any(frame is chosen for chosen in window.chosen)
            )
            if owner.report(stream_id, frame.offset):
                self._bury(owner, frame.record, reason)
        return answer

    def _bury(self, progress: PartitionProgress, record: Any, reason: str) -> None:
        headers = dead_letter_headers(record.headers, reason, record.topic, record.partition, record.offset)
        self._dead.append((progress, DeadLetter(record.key, record.value, headers)))
        _LOG.warning("dead letter: %s[%d] offset %d: %s", record.topic, record.partition, record.offset, reason)

    def _commit(self, output: Output, assignment: Assignment, membership: Any, answer: Inference | None) -> None:
        # What belongs to partitions that went in the meantime is their next owner's.
        ours = {id(progress) for progress in self._partitions.values()}
        answered = zip(self._given_out, answer.predictions if answer else (), strict=True)
        turn = Turn(
            membership,
            {
                partition: OffsetAndMetadata(progress.commit_offset(), progress.metadata(), -1)
                for partition, progress in self._partitions.items()
            },
            {partition: progress.changes() for partition, progress in self._partitions.items()},
            [prediction for (progress, _), prediction in answered if id(progress) in ours],
            [letter for progress, letter in self._dead if id(progress) in ours],
        )
        self._forget_turn()
        self._committed_at = time.monotonic()
        if not turn.offsets:
            return
        try:
            output.commit(turn)
        except _LOST as error:
            _LOG.info("%s; reading again from the last commit what is still ours", error)
            assignment.reload(self._partitions)
            return
        for partition, told in turn.state.items():
            self._partitions[partition].committed(told)
        self.statistics.committed(turn)

    def _forget_turn(self) -> None:
        self._dead.clear()
        self._given_out.clear()
        self._job = None


__all__ = ["Inference", "StreamWorker", "WorkerStatistics"]
