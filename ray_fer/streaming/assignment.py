"""Which partitions are ours, and where their work goes on."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Collection
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from ray_fer.streaming.attempts import StoppedError
from ray_fer.streaming.progress import PartitionProgress, handled_from
from ray_fer.streaming.state_topic import StateReader
from ray_fer.streaming.windows import WindowConfig

_LOG = logging.getLogger(__name__)
_WARN_EVERY_S = 30.0


class Assignment(ConsumerRebalanceListener):
    """Notes which partitions came and went, for the worker's thread to act on.

    The client calls the listener's methods on its own I/O thread, where nothing may block; `apply` and `reload` run on
    the worker's. They wait for the broker until there is an answer or `stopped` says that nobody needs one.
    """

    def __init__(
        self, consumer: KafkaConsumer, reader: StateReader, config: WindowConfig, stopped: Callable[[], bool]
    ) -> None:
        self._stopped = stopped
        self._consumer = consumer
        self._reader = reader
        self._config = config
        self._events: queue.SimpleQueue[tuple[bool, list[TopicPartition]]] = queue.SimpleQueue()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._events.put((True, list(assigned)))

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._events.put((False, list(revoked)))

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._events.put((False, list(lost)))

    def apply(self, partitions: dict[TopicPartition, PartitionProgress]) -> None:
        """Drop the progress of partitions that went and load that of partitions that came.

        What a partition did is committed; what is in memory only can be rebuilt by its next owner.
        """
        while not self._events.empty():
            came, changed = self._events.get()
            for partition in changed:
                partitions.pop(partition, None)
                if came:
                    partitions[partition] = self._load(partition)[1]

    def reload(self, partitions: dict[TopicPartition, PartitionProgress]) -> None:
        """Forget what is not committed of the partitions that are still ours, and read them again from there."""
        self.apply(partitions)
        for partition in set(partitions) & self._consumer.assignment():
            offset, partitions[partition] = self._load(partition)
            if offset is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, offset)

    def _load(self, partition: TopicPartition) -> tuple[int | None, PartitionProgress]:
        # The order matters (`progress`): the offset is stable only when no transaction on it is pending any more.
        committed = self._committed(partition)
        remembered = self._reader.read(partition.partition)
        if committed is None or committed.offset is None or committed.offset < 0:
            return None, PartitionProgress(self._config, 0, remembered)
        handled = handled_from(committed.offset, committed.metadata)
        return committed.offset, PartitionProgress(self._config, handled, remembered, committed.offset)

    def _committed(self, partition: TopicPartition) -> Any:
        asked = warned = time.monotonic()
        while True:
            try:
                return self._consumer.committed(partition, metadata=True, timeout_ms=1000)
            except KafkaTimeoutError:
                if self._stopped():
                    raise StoppedError("stopped while the position of a partition was asked for") from None
            if time.monotonic() - warned >= _WARN_EVERY_S:
                warned = time.monotonic()
                _LOG.warning(
                    "%s[%d] waits: for %.0f s the broker has not told how far it is committed. It does not while a "
                    "transaction on that is open; one without end, as a broker that died may leave it, is found with "
                    "`kafka-transactions.sh find-hanging` and ended with its `abort`",
                    partition.topic,
                    partition.partition,
                    warned - asked,
                )
