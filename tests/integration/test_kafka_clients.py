"""The clients of the stream worker on a real Apache Kafka: fencing by instance and membership, compression, speed."""

from __future__ import annotations

import sys
import time
import uuid

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata

from ray_fer.streaming.client_speed import compare_clients
from ray_fer.streaming.commits import ExactlyOnce, Turn
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.kafka import admin, assign_all, consumer, group_consumer, worker_producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.topics import create_topics


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    run = uuid.uuid4().hex[:8]
    one = KafkaSettings(
        bootstrap_servers=kafka,
        group=run,
        frames_topic=f"{run}-frames",
        predictions_topic=f"{run}-predictions",
        dead_letter_topic=f"{run}-dead",
        partitions=1,
    )
    create_topics(one)
    return one


def values(settings: KafkaSettings, count: int) -> list[bytes]:
    """The first `count` committed records of the predictions topic."""
    reader = consumer(settings, consumer_timeout_ms=20_000)
    assign_all(reader, settings.predictions_topic)
    found = [record.value for _, record in zip(range(count), reader, strict=False)]
    reader.close(autocommit=False)
    return found


def test_a_new_process_of_an_instance_fences_the_old_one(settings: KafkaSettings) -> None:
    named = settings.model_copy(update={"instance": "worker-0"})
    old = worker_producer(named)
    old.init_transactions()
    old.begin_transaction()
    old.send(settings.predictions_topic, b"of the old one").get(10)
    new = worker_producer(named)
    new.init_transactions()
    new.begin_transaction()
    new.send(settings.predictions_topic, b"of the new one").get(10)
    new.commit_transaction()
    with pytest.raises(KafkaError):
        old.commit_transaction()
    old.close(timeout=5)
    new.close()
    assert values(settings, 1) == [b"of the new one"]


def test_who_is_no_member_of_the_group_any_more_commits_nothing(settings: KafkaSettings) -> None:
    """The broker would let it: offsets without a generation are those of a client that needs no group."""
    frames = TopicPartition(settings.frames_topic, 0)
    member = group_consumer(settings)
    member.subscribe([settings.frames_topic])
    deadline = time.monotonic() + 20
    while not member.assignment() and time.monotonic() < deadline:
        member.poll(timeout_ms=100)
    assert member.assignment() == {frames}
    member._coordinator.reset_generation()  # as when the broker answers a heartbeat: unknown member
    lost = member.group_metadata()
    offsets = {frames: OffsetAndMetadata(7, "", -1)}

    bare = worker_producer(settings)
    bare.init_transactions()
    bare.begin_transaction()
    bare.send_offsets_to_transaction(offsets, lost)
    bare.commit_transaction()
    bare.close()
    assert member.committed(frames) == 7

    output = ExactlyOnce(settings)
    with pytest.raises(UnknownMemberIdError, match="no member"):
        output.commit(Turn(lost, {frames: OffsetAndMetadata(8, "", -1)}, {}))
    output.close()
    assert member.committed(frames) == 7
    member.close(autocommit=False)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_results_are_read(settings: KafkaSettings, guarantee: str, compression: str) -> None:
    chosen = settings.model_copy(update={"processing_guarantee": guarantee, "compression": compression})
    # The last one is compressed to less than the limit of the topic, 1 MiB, and larger than that when read.
    sent = [b"a" * 1000, b"b" * 100_000, b"c" * 3_000_000]
    writer = worker_producer(chosen)
    if guarantee == "exactly_once":
        writer.init_transactions()
        writer.begin_transaction()
    for value in sent:
        writer.send(settings.predictions_topic, value)
    if guarantee == "exactly_once":
        writer.commit_transaction()
    writer.flush()
    writer.close()
    assert values(settings, 3) == sent


def test_both_clients_send_and_read_the_same_frames(settings: KafkaSettings) -> None:
    frames = [FrameMessage(f"camera-{number % 3}", number, number, "image/jpeg", bytes(9000)) for number in range(300)]
    speeds = compare_clients(settings, frames, rounds=2)
    assert [one.client for one in speeds] == ["kafka-python", "confluent-kafka"]
    for one in speeds:
        assert min(one.sent_mb_per_s, one.send_ms_per_mb, one.read_mb_per_s, one.read_ms_per_mb) > 0
    with admin(settings) as client:
        assert not [topic for topic in client.list_topics() if topic.startswith("clients-")]


def test_a_client_that_is_not_installed_is_named(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ValueError, match="pip install confluent-kafka"):
        compare_clients(settings, [])
