"""Reading what workers remembered of streams from the compacted state topic (`progress` says why this is the latest).

Partition p of the topic holds the streams of partition p of the frames topic: key = stream id, no value = forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError

from ray_fer.streaming.attempts import StoppedError
from ray_fer.streaming.kafka import consumer
from ray_fer.streaming.kafka_settings import KafkaSettings

_ANSWER_MS = 10_000


class StateReader:
    """Reads partitions of the state topic from beginning to end. Close it. `stopped`: nobody needs the answer now."""

    def __init__(self, settings: KafkaSettings, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped
        self._topic = settings.state_topic
        # A transaction that hangs is ended by the broker after this long; until then its marker is waited for.
        self._patience_s = settings.transaction_timeout_ms / 1000 + 30
        self._committed: KafkaConsumer = consumer(settings, max_poll_records=10_000)
        try:
            self._all: KafkaConsumer = consumer(settings, isolation_level="read_uncommitted")
        except KafkaError:
            self._committed.close(autocommit=False)
            raise

    def read(self, partition: int) -> dict[str, bytes]:
        """The last record of each stream that is not forgotten. Raises KafkaError (a time-out is one), StoppedError."""
        where = TopicPartition(self._topic, partition)
        # The end of what was written, committed or not: the last stable offset would hide a transaction that has ended
        # but whose marker is still on its way.
        end = self._all.end_offsets([where], timeout_ms=_ANSWER_MS)[where]
        self._committed.assign([where])
        self._committed.seek_to_beginning(where)
        deadline = time.monotonic() + self._patience_s
        found: dict[str, bytes] = {}
        # No position for as long as no broker tells where the partition begins.
        while (position := self._committed.position(where, timeout_ms=1000)) is None or position < end:
            if self._stopped():
                raise StoppedError("stopped while the state of a partition was read")
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"{self._topic} partition {partition} could not be read to its end {end}")
            for record in self._committed.poll(timeout_ms=200).get(where, ()):
                name = record.key.decode(errors="replace")
                found.pop(name, None)
                if record.value is not None:
                    found[name] = record.value
        return found

    def close(self) -> None:
        """Close both clients."""
        self._committed.close(autocommit=False)
        self._all.close(autocommit=False)
