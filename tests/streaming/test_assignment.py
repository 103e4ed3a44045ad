"""Where work on a partition goes on, while the broker does not tell."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from ray_fer.streaming import assignment
from ray_fer.streaming.assignment import Assignment
from ray_fer.streaming.attempts import StoppedError
from ray_fer.streaming.kafka_client import OwnAssignor
from ray_fer.streaming.progress import PartitionProgress
from ray_fer.streaming.windows import WindowConfig

PARTITION = TopicPartition("frames", 2)


class SilentConsumer:
    """Does not tell what is committed the first `silent` times."""

    def __init__(self, silent: int) -> None:
        self.silent = silent

    def committed(self, *_: Any, **__: Any) -> None:
        if self.silent:
            self.silent -= 1
            raise KafkaTimeoutError


class EmptyState:
    """A state topic without a record."""

    def read(self, partition: int) -> dict[str, bytes]:
        assert partition == PARTITION.partition
        return {}


def applied(consumer: Any, stopped: bool = False) -> dict[TopicPartition, PartitionProgress]:
    reader: Any = EmptyState()
    one = Assignment(consumer, reader, WindowConfig(), lambda: stopped)
    one.on_partitions_assigned([PARTITION])
    partitions: dict[TopicPartition, PartitionProgress] = {}
    one.apply(partitions)
    return partitions


def test_a_long_wait_for_the_committed_position_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(assignment, "_WARN_EVERY_S", 0.0)
    assert applied(SilentConsumer(2)).keys() == {PARTITION}
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all(text.startswith("frames[2] waits") and "find-hanging" in text for text in told)


def test_a_short_wait_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert applied(SilentConsumer(2)).keys() == {PARTITION}
    assert not caplog.records


def test_nobody_waits_once_the_worker_is_stopped() -> None:
    with pytest.raises(StoppedError):
        applied(SilentConsumer(1), stopped=True)


def test_a_member_claims_what_it_has_and_not_what_it_was_given_once() -> None:
    has = {PARTITION, TopicPartition("frames", 0)}
    assignor = OwnAssignor()
    assignor.claim(lambda: has)
    (claim,) = assignor.metadata({"frames"}).owned_partitions
    assert (claim.topic, claim.partitions) == ("frames", [0, 2])
    has.clear()  # as when its membership is lost
    assert not assignor.metadata({"frames"}).owned_partitions
