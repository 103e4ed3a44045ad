"""From records of the frames topic into windows, or to the dead letters.

A segment by reference is fetched when its record is read, because its times say which windows it belongs to. While the
store does not answer, its partition alone is held: the record is given back and read again a little later, so nothing
of it is in any window, and its order in the log is kept.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from ray_fer.streaming.commits import DeadLetter
from ray_fer.streaming.frame_message import MessageError, parse_frame
from ray_fer.streaming.messages import dead_letter_headers
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.references import ReferencePolicy, StoreAwayError
from ray_fer.streaming.statistics import WorkerStatistics
from ray_fer.streaming.windows import BufferedFrame

_LOG = logging.getLogger(__name__)
_STORE_WAIT_S = 5.0


class Intake:
    """Takes records in, once or again. `dead` are the letters that wait for the next commit, with whose they are."""

    def __init__(self, references: ReferencePolicy, statistics: WorkerStatistics) -> None:
        self.dead: list[tuple[PartitionProgress, DeadLetter]] = []
        self._references = references
        self._statistics = statistics
        self._held: dict[TopicPartition, float] = {}

    def take(self, consumer: KafkaConsumer, progress: PartitionProgress, records: Sequence[Any]) -> None:
        """Take a partition's records; from the first one on whose segment's store is away, give them back."""
        for record in records:
            try:
                self._take(progress, record)
            except StoreAwayError as error:
                partition = TopicPartition(record.topic, record.partition)
                _LOG.warning("%s; partition %d is held for %.0f s", error, partition.partition, _STORE_WAIT_S)
                self._held[partition] = time.monotonic() + _STORE_WAIT_S
                with contextlib.suppress(ValueError):  # it may have gone in the meantime
                    consumer.seek(partition, record.offset)
                return

    def holds(self, partition: TopicPartition) -> bool:
        """Whether it is too early to read on in a partition."""
        return self._held.get(partition, 0.0) > time.monotonic()

    def bury(self, progress: PartitionProgress, record: Any, reason: str) -> None:
        """Make a record a dead letter."""
        own = [(name, content or b"") for name, content in record.headers]
        headers = dead_letter_headers(own, reason, record.topic, record.partition, record.offset)
        # The client sends no header without content, and no record without key and value.
        key = b"" if record.key is None and record.value is None else record.key
        self.dead.append((progress, DeadLetter(key, record.value, headers)))
        _LOG.warning("dead letter: %s[%d] offset %d: %s", record.topic, record.partition, record.offset, reason)

    def forget(self) -> None:
        """Begin anew, as after a session that has ended."""
        self.dead.clear()
        self._held.clear()

    def _take(self, progress: PartitionProgress, record: Any) -> None:
        """Raises StoreAwayError, before the record has left any trace."""
        wrong = None
        try:
            message = parse_frame(record.value, record.headers)
            source, frames = message.source(), message.frames(policy=self._references)
        except MessageError as error:
            wrong = str(error)
        first_time = progress.first_time(record.offset)
        if first_time:
            self._statistics.record(record.value)
        if wrong is not None:
            if first_time:
                self.bury(progress, record, wrong)
            return
        late = 0
        for pts_us, seq, index in frames:
            frame = BufferedFrame(pts_us, seq, source, index, record, record.offset, record.timestamp)
            verdict = progress.add(message.stream_id, frame)
            late += verdict == "late"
            if first_time:
                self._statistics.frame(message.stream_id, verdict, pts_us)
        if late and first_time:
            which = "" if len(frames) == 1 else f"{late} of its {len(frames)} frames are "
            self.bury(progress, record, f"{which}late: every window that holds them has been sealed")
