"""Have a stopped group read the frames topic again from another place.

What its workers remember of streams goes with the old position, so streams begin new sessions there, and windows that
were given out before are given out again, under the new sessions' names.
"""

from __future__ import annotations

import json

from kafka import ConsumerGroupMetadata, TopicPartition
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.kafka import BrokerError, admin, assign_all, consumer, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.positions import Start, start_offsets
from ray_fer.streaming.state_topic import StateReader

_STOPPED = ("Empty", "Dead", "")


def rewind(settings: KafkaSettings, start: Start) -> dict[TopicPartition, int]:
    """Commit `start` for the group and forget its streams, in one transaction; the new position of each partition.

    Raises BrokerError when workers of the group are running.
    """
    with admin(settings) as client:
        state = str(client.describe_groups([settings.group])[settings.group].get("group_state", ""))
    if state not in _STOPPED:
        raise BrokerError(f"group {settings.group!r} is {state.lower()}: stop its workers, then begin elsewhere")
    reader = consumer(settings)
    states = StateReader(settings)
    writer = producer(
        settings,
        transactional_id=f"{settings.group}-rewind",
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )
    try:
        offsets = start_offsets(reader, assign_all(reader, settings.frames_topic), start)
        writer.init_transactions()
        writer.begin_transaction()
        for partition in offsets:
            for stream_id in states.read(partition.partition):
                writer.send(settings.state_topic, None, stream_id.encode(), partition=partition.partition)
        metadata = {one: json.dumps({"handled": offset}) for one, offset in offsets.items()}
        writer.send_offsets_to_transaction(
            {one: OffsetAndMetadata(offset, metadata[one], -1) for one, offset in offsets.items()},
            ConsumerGroupMetadata(settings.group),
        )
        writer.commit_transaction()
    finally:
        reader.close(autocommit=False)
        states.close()
        writer.close(timeout=5)
    return offsets
