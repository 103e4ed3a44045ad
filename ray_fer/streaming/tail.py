"""Following the predictions or the dead letters of a stream, outside any consumer group."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from pydantic import ValidationError

from ray_fer.streaming.kafka import assign_all, consumer, one_line_errors
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import SCHEMA_VERSION, Prediction
from ray_fer.streaming.positions import Start, start_offsets

_POLL_MS = 200


@dataclass(frozen=True)
class SeenPrediction:
    """A record of the predictions topic. What is no prediction for this program has an `error` in its place."""

    stream_id: str
    partition: int
    offset: int
    prediction: Prediction | None = None
    error: str | None = None


@dataclass(frozen=True)
class SeenDeadLetter:
    """A record of the dead-letter topic; where it came from is None if its headers do not say."""

    stream_id: str
    reason: str
    topic: str | None
    partition: int | None
    offset: int | None
    bytes: int
    written_ms: int


def follow(
    settings: KafkaSettings, topic: str, start: Start, from_now: str | None = None
) -> Generator[list[Any], None, None]:
    """Kafka's committed records of `topic` from `start` on, without end: a list for every look, often empty.

    Of the topic `from_now`, if it exists, those that come from now on are given as well. Raises BrokerError.
    """
    with one_line_errors(settings):
        reader = consumer(settings)
        try:
            partitions = assign_all(reader, topic)
            numbers = () if from_now in (None, topic) else reader.partitions_for_topic(from_now)
            others = [TopicPartition(from_now, number) for number in numbers]
            reader.assign(partitions + others)
            for one, offset in (
                start_offsets(reader, partitions, start) | start_offsets(reader, others, "latest")
            ).items():
                reader.seek(one, offset)
            while True:
                yield [record for records in reader.poll(timeout_ms=_POLL_MS).values() for record in records]
        finally:
            reader.close(autocommit=False)


def see_prediction(record: Any) -> SeenPrediction:
    """Read a record of the predictions topic; never fails."""
    try:
        prediction = Prediction.model_validate_json(record.value or b"")
    except ValidationError as error:
        return SeenPrediction(_text(record.key) or "?", record.partition, record.offset, error=_reason(record, error))
    return SeenPrediction(prediction.stream_id, record.partition, record.offset, prediction)


def see_dead_letter(record: Any) -> SeenDeadLetter:
    """Read a record of the dead-letter topic; never fails."""
    headers = {name: _text(content) for name, content in record.headers}
    return SeenDeadLetter(
        stream_id=_text(record.key) or headers.get("stream-id") or "?",
        reason=headers.get("error") or "no reason given",
        topic=headers.get("error-topic"),
        partition=_number(headers.get("error-partition")),
        offset=_number(headers.get("error-offset")),
        bytes=len(record.value or b""),
        written_ms=record.timestamp,
    )


def _reason(record: Any, error: ValidationError) -> str:
    try:
        content = json.loads(record.value or b"")
    except ValueError:
        return "not JSON"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        return f"schema version {version}, this program reads {SCHEMA_VERSION}"
    first = error.errors()[0]
    return f"not a prediction: {'.'.join(map(str, first['loc']))}: {first['msg']}"


def _text(content: bytes | None) -> str:
    return "" if content is None else content.decode(errors="replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 19 else None
