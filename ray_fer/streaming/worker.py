"""The stream worker: frames topic -> windows -> model -> predictions topic, each turn a commit.

One thread owns the consumer and the producer; another one runs the model. While the model works on one turn's windows,
the next frames are fetched and put into their windows, but no window is given out. When it has answered, it is noted
what there is to commit: predictions, dead letters, what is remembered of streams, and offsets (`progress` says why that
is enough). Then the model gets the next windows, and only then the noted things go out together (`commits`), as the
model need not wait for that. If they are refused, what it works on is of no use either, and all is read again.

While more windows are sealed than one turn may hold, the partitions are paused: the client keeps its place in the
group, memory stays bounded, and the topic keeps what is not read yet.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnsupportedVersionError,
)
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.assignment import Assignment
from ray_fer.streaming.attempts import Attempts, Inference, StoppedError
from ray_fer.streaming.commits import AtLeastOnce, ExactlyOnce, Output, Turn
from ray_fer.streaming.faults import fault_point
from ray_fer.streaming.intake import Intake
from ray_fer.streaming.kafka import BrokerError, check_broker, group_consumer, one_line
from ray_fer.streaming.kafka_client import NotLetInError
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.state_topic import StateReader
from ray_fer.streaming.statistics import WorkerStatistics
from ray_fer.streaming.windows import Window

_LOG = logging.getLogger(__name__)
_COMMIT_EVERY_S = 5.0
_LONGEST_TURN_S = 0.5
_LONGEST_NAP_S = 0.05
_LONGEST_WAIT_S = 30.0
_ENDS_EVERY_S, _ENDS_MS = 2.0, 1000
_CLOSE_MS = 3000
_LOST = (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)
"""Refusals that mean: the group has changed since the records were read."""
_FINAL = (NotLetInError, AuthorizationError, FencedInstanceIdError, UnsupportedVersionError)
"""Refusals that stay: of the user, of what it asks for, of an instance's name that another worker has taken."""


class StreamWorker:
    """Runs until `stop` is called. `infer` gets closed windows and returns their predictions in the same order."""

    def __init__(
        self,
        settings: KafkaSettings,
        options: StreamOptions,
        infer: Callable[[Sequence[Window]], Inference],
    ) -> None:
        self.statistics = WorkerStatistics()
        self.topic_partitions = 0
        """Partitions of the frames topic, whoever reads them; 0 before they are known."""
        self._settings = settings
        self._options = options
        self._attempts = Attempts(infer)
        self._stop = threading.Event()
        self._partitions: dict[TopicPartition, PartitionProgress] = {}
        self._intake = Intake(options.references, self.statistics)
        self._job: Future[Inference] | None = None
        self._given_out: list[tuple[PartitionProgress, Window]] = []
        self._committed_at = self._turned_at = time.monotonic()
        self._ends: Mapping[TopicPartition, int] = {}
        self._ends_at = 0.0

    def stop(self) -> None:
        """Ask the loop to finish its turn, commit and leave the group.

        While no broker answers nothing is committed, and `run` ends within seconds: after `transaction_timeout_ms` and
        a little more where a commit is under way.
        """
        self._stop.set()
        self._attempts.stop()

    def run(self) -> None:
        """Consume until stopped; a failed transaction or lost broker starts over from the last commit.

        However long the brokers are away: they are asked for again after a wait that grows to half a minute, each time
        with a warning, while the topics keep what was not read. Raises BrokerError for what does not pass: who we are,
        or what we ask for, is refused, or another worker has this one's `instance`.
        """
        failures = 0
        while not self._stop.is_set():
            before = self.statistics.commits
            try:
                self._session()
            except StoppedError:
                return
            except _FINAL as error:
                raise BrokerError(f"{self._settings.bootstrap_servers}: {one_line(error)}") from error
            except (BrokerError, KafkaError) as error:
                self.statistics.failed_turns += 1
                failures = failures + 1 if self.statistics.commits == before else 1
                pause = min(2.0 ** (failures - 1), _LONGEST_WAIT_S)
                _LOG.warning("%s; starting over from the last commit in %.0f s", error, pause)
                self._stop.wait(pause)

    def _session(self) -> None:
        self._partitions.clear()
        self._intake.forget()
        self._forget_turn()
        check_broker(self._settings.bootstrap_servers)
        consumer = group_consumer(self._settings)
        reader, output = None, None
        pool = ThreadPoolExecutor(1, thread_name_prefix="stream-model")
        try:
            reader = StateReader(self._settings, self._stop.is_set)
            output = self._output(consumer)
            assignment = Assignment(consumer, reader, self._options.windows, self._stop.is_set)
            consumer.subscribe([self._settings.frames_topic], listener=assignment)
            while not self._stop.is_set() or self._job is not None:
                self._turn(consumer, output, assignment, pool)
        finally:
            pool.shutdown(cancel_futures=True)
            consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
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
        assigned = consumer.assignment()
        paused = {one for one in assigned if full or self._intake.holds(one)}
        consumer.pause(*paused)
        consumer.resume(*(assigned - paused))
        with self.statistics.stage("fetch"):
            if self._job is not None:
                # Frames of live streams come all the time: to be woken by each of them would cost more than to let
                # them gather until the model has answered.
                wait([self._job], timeout=_LONGEST_NAP_S)
            polled = consumer.poll(timeout_ms=0 if full or self._job is not None else 100)
        # The generation these records belong to: if the group rebalances before the commit, the broker refuses it.
        membership = consumer.group_metadata()
        assignment.apply(self._partitions)
        fault_point("after-poll")
        for partition, records in polled.items():
            if partition in self._partitions:
                self._intake.take(consumer, self._partitions[partition], records)
        self._look_around(consumer, full)
        if self._job is None and not self._stop.is_set():
            self._give_out(pool)
        if self._job is not None and not self._job.done():
            return
        answer = self._answer()
        if self._job is None and not self._intake.dead and time.monotonic() - self._committed_at < _COMMIT_EVERY_S:
            return
        turn = self._take_turn(membership, answer)
        if not self._stop.is_set():
            self._give_out(pool)
        if turn.offsets:
            with self.statistics.stage("commit"):
                self._commit(output, assignment, turn)

    def _look_around(self, consumer: KafkaConsumer, full: bool) -> None:
        """Measure the lag, and count silence where there was nothing to read.

        No silence while the partitions are paused, and little for a turn that took long: a stream is silent when frames
        were looked for and did not come, not when nobody looked.
        """
        now = time.monotonic()
        elapsed, self._turned_at = now - self._turned_at, now
        ends = self._ends_of_paused(consumer, now) if full else {}
        lag = {}
        for partition, progress in self._partitions.items():
            end = max(
                (one for one in (consumer.highwater(partition), ends.get(partition)) if one is not None), default=None
            )
            # By position, which also passes over what is no record for us, such as the markers of transactions.
            position = consumer.position(partition, timeout_ms=0)
            unread = 0 if end is None or position is None else max(0, end - position)
            lag[partition.partition] = unread
            # Before the first answer to a fetch nothing is known, least of all that there is nothing to read.
            if end is not None and position is not None and not unread and not full:
                progress.looked(min(elapsed, _LONGEST_TURN_S))
        self.statistics.observe(lag, self._partitions.values(), self._attempts.failures)
        if self._partitions:
            self.topic_partitions = len(consumer.partitions_for_topic(self._settings.frames_topic) or ())

    def _ends_of_paused(self, consumer: KafkaConsumer, now: float) -> Mapping[TopicPartition, int]:
        """Where the partitions end that nobody fetches from, which would tell it; asked for now and then."""
        if now - self._ends_at > _ENDS_EVERY_S:
            self._ends_at = now
            with contextlib.suppress(KafkaError):  # what is known stays; the next fetch says what is wrong
                self._ends = consumer.end_offsets(list(self._partitions), timeout_ms=_ENDS_MS)
        return self._ends

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
                self._intake.bury(owner, frame.record, reason)
        return answer

    def _take_turn(self, membership: Any, answer: Inference | None) -> Turn:
        """All that there is to commit, as of now. Called before the next windows are given out."""
        # What belongs to partitions that went in the meantime is their next owner's.
        ours = {id(progress) for progress in self._partitions.values()}
        answered = zip(self._given_out, answer.predictions if answer else (), strict=True)
        turn = Turn(
            membership,
            {
                partition: OffsetAndMetadata(progress.commit_offset(), progress.metadata(), -1)
                for partition, progress in self._partitions.items()
            },
            {partition: progress.take_changes() for partition, progress in self._partitions.items()},
            [prediction for (progress, _), prediction in answered if id(progress) in ours],
            [letter for progress, letter in self._intake.dead if id(progress) in ours],
        )
        self._forget_turn()
        self._committed_at = time.monotonic()
        return turn

    def _commit(self, output: Output, assignment: Assignment, turn: Turn) -> None:
        try:
            output.commit(turn)
        except _LOST as error:
            self.statistics.failed_turns += 1
            _LOG.info("%s; reading again from the last commit what is still ours", error)
            assignment.reload(self._partitions)
            return
        self.statistics.committed(turn)

    def _forget_turn(self) -> None:
        self._intake.dead.clear()
        self._given_out.clear()
        self._job = None


__all__ = ["Inference", "StreamWorker", "WorkerStatistics"]
