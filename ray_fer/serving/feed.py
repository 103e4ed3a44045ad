"""The predictions topic as the API shows it: read on a thread, the newest ones kept, each under a number."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from pydantic import ValidationError

from ray_fer.streaming.kafka import assign_all, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction

KEPT = 20_000

Positions = dict[int, int]
"""The next offset of each partition: where somebody stands in the topic, whichever replica told them so."""


class Event(NamedTuple):
    """A prediction, its number in this feed, and where it lies in the topic."""

    number: int
    partition: int
    offset: int
    prediction: Prediction


class Recent:
    """The last 20,000 predictions that were added. One thread adds; any may read."""

    def __init__(self) -> None:
        self.count = 0
        """How many came so far; the number of the newest one."""
        self.unreadable = 0
        self.positions: Positions = {}
        """Up to where the topic has been read."""
        self._recent: deque[Event] = deque(maxlen=KEPT)

    @property
    def alive(self) -> bool:
        """Whether more may come."""
        return True

    def close(self) -> None:
        """No more come."""

    def add(self, partition: int, offset: int, value: bytes | None) -> None:
        """Take a record of the predictions topic; what is no prediction is counted."""
        try:
            prediction = Prediction.model_validate_json(value or b"")
        except ValidationError:
            self.unreadable += 1
        else:
            self._recent.append(Event(self.count + 1, partition, offset, prediction))
            self.count += 1
        self.positions[partition] = offset + 1

    def since(self, number: int, stream_id: str | None = None) -> list[Event]:
        """What came after the prediction of that number, oldest first; of one stream or of all."""
        fresh: list[Event] = []
        if number >= self.count:
            return fresh
        for event in reversed(self._recent.copy()):
            if event.number <= number:
                break
            if stream_id is None or event.prediction.stream_id == stream_id:
                fresh.append(event)
        return fresh[::-1]

    def newest(self, limit: int, stream_id: str | None = None) -> list[Event]:
        """The last ones, oldest first."""
        return self.since(0, stream_id)[-limit:] if limit else []

    def after(self, positions: Positions, stream_id: str | None = None) -> list[Event]:
        """What is known of what lies at or after these positions, oldest first."""
        return [event for event in self.since(0, stream_id) if event.offset >= positions.get(event.partition, 0)]


class Feed(Recent):
    """The committed predictions of all streams, as they come."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(settings,), name="predictions", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still reads; it ends when Kafka refuses it."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _read(self, settings: KafkaSettings) -> None:
        reader = consumer(settings)
        try:
            partitions = assign_all(reader, settings.predictions_topic)
            for partition, end in reader.end_offsets(partitions).items():
                if end > KEPT:  # none of what is before it would be kept
                    reader.seek(partition, end - KEPT)
            while not self._stop.is_set():
                for records in reader.poll(timeout_ms=200).values():
                    for record in records:
                        self.add(record.partition, record.offset, record.value)
        finally:
            reader.close(autocommit=False)
