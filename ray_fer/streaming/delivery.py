"""Deliver messages to a topic: a bounded number of bytes on their way, and every frame that fails counted by reason."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from ray_fer.streaming.kafka import BrokerError, admin, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.timetable import Outgoing

UNACKNOWLEDGED_BYTES = 32 * 1024**2


class Delivery:
    """Messages to one topic. At most `max_bytes` of payloads are on their way; all of one stream in order.

    `undelivered` counts the frames that the broker did not take, by reason. `refused` is set once it has said that it
    will not take any.
    """

    def __init__(self, writer: KafkaProducer, topic: str, max_bytes: int = UNACKNOWLEDGED_BYTES) -> None:
        self.undelivered: Counter[str] = Counter()
        self.refused: str | None = None
        self._writer = writer
        self._topic = topic
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames = 0
        self._closed = False
        self._changed = threading.Condition()

    @classmethod
    def to(cls, settings: KafkaSettings) -> Delivery:
        """To the frames topic of `settings`. Raises BrokerError when it is not there or nobody lets us in."""
        with admin(settings) as client:
            if settings.frames_topic not in client.list_topics():
                raise BrokerError(
                    f"there is no topic {settings.frames_topic!r}; "
                    f"`ray-fer stream topics --create --topic {settings.frames_topic}` makes it"
                )
        return cls(producer(settings), settings.frames_topic)

    def has_room(self, outgoing: Outgoing, timeout_s: float) -> bool:
        """Wait until one more message may be sent; False when it may not after `timeout_s` seconds."""
        size = len(outgoing.message.payload)
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._bytes or self._bytes + size <= self._max_bytes, timeout=timeout_s
            )

    def send(self, outgoing: Outgoing) -> None:
        """Give a message to the client, which sends it again until the broker has it or the delivery times out."""
        message, size = outgoing.message, len(outgoing.message.payload)
        with self._changed:
            self._bytes += size
            self._frames += outgoing.frames
        try:
            sent = self._writer.send(self._topic, message.payload, message.key(), headers=message.headers())
        except KafkaError as error:
            self._settled(size, outgoing.frames, error)
            return
        sent.add_callback(lambda _: self._settled(size, outgoing.frames, None))
        sent.add_errback(lambda error: self._settled(size, outgoing.frames, error))

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for what is on its way, at most `timeout_s` seconds, and count what is not acknowledged by then."""
        with suppress(KafkaTimeoutError):
            self._writer.close(timeout=timeout_s)
        with self._changed:
            self._closed = True
            if self._frames:
                self.undelivered["not acknowledged before the end"] += self._frames

    def _settled(self, size: int, frames: int, error: Exception | None) -> None:
        with self._changed:
            if self._closed:  # and counted
                return
            self._bytes -= size
            self._frames -= frames
            if error is not None:
                self.undelivered[_why(error)] += frames
                if not getattr(error, "retriable", False) and not isinstance(error, MessageSizeTooLargeError):
                    self.refused = _why(error)
            self._changed.notify_all()


def undelivered_line(undelivered: Counter[str]) -> str:
    """How many frames were not delivered, and why, in one line."""
    reasons = "; ".join(f"{reason} ({frames})" for reason, frames in undelivered.most_common())
    return f"{undelivered.total()} frames were not delivered: {reasons}"


def _why(error: Exception) -> str:
    """The reason in words that are the same for every frame, so that frames can be counted by it."""
    if isinstance(error, KafkaTimeoutError):
        return "the broker did not acknowledge them in time"
    if isinstance(error, MessageSizeTooLargeError):
        return "larger than the topic or `max_message_bytes` allows"
    return str(error).split("\n")[0]
