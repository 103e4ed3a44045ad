"""The four topics of a stream: making them, looking at them, and saying where they do not fit each other.

The state topic must have as many partitions as the frames topic, because what is remembered of a stream lies in the
partition with the number of its frames; and it must be compacted, because its newest record of a stream has to stay.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from kafka.protocol.consumer import OffsetSpec

from ray_fer.streaming.kafka import BrokerError, admin
from ray_fer.streaming.kafka_settings import OVERHEAD_BYTES, KafkaSettings

FRAMES_RETENTION_HOURS = 24.0
RESULTS_RETENTION_HOURS = 7 * 24.0
_LEARN_S, _FORGET_S = 10.0, 10.0

# A state partition is read from its beginning when a worker takes it over, and compaction passes over the newest
# segment: small segments and an eager cleaner keep that to tens of megabytes. Kafka's defaults are 1 GiB and 0.5.
_STATE_CONFIG = {
    "cleanup.policy": "compact",
    "segment.bytes": str(16 * 1024**2),
    "min.cleanable.dirty.ratio": "0.1",
}


@dataclass(frozen=True)
class Topic:
    """A topic as the broker has it. What the broker does not tell is None."""

    name: str
    partitions: int
    replicas: int
    offsets: int
    """Offsets from the oldest to the newest: its records, the markers of transactions, and records compacted away."""
    cleanup_policy: str | None
    retention_ms: int | None
    """-1: without end."""
    max_message_bytes: int | None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a topic, and the change that mends it."""

    topic: str
    about: Literal["missing", "partitions", "cleanup", "size"]
    text: str


def create_topics(
    settings: KafkaSettings, retention_hours: float = FRAMES_RETENTION_HOURS, replicas: int = -1
) -> list[str]:
    """Create those of the four topics that are missing; returns their names.

    `retention_hours` is for frames (predictions and dead letters stay for 7 days), `replicas` -1 takes the cluster's
    default. Raises BrokerError when the broker refuses, or when topics that were there do not fit.
    """
    with admin(settings) as client:
        existing = {name: len(topic["partitions"]) for name, topic in _metadata(client, settings).items()}
        wanted = _wanted(settings, existing.get(settings.frames_topic, settings.partitions), retention_hours)
        missing = {name: how | {"replication_factor": replicas} for name, how in wanted.items() if name not in existing}
        if missing:
            for topic in client.create_topics(missing, raise_errors=False)["topics"]:
                _raise_unless(topic, TopicAlreadyExistsError)  # another worker that starts now may have been faster
            client.wait_for_topics(list(missing))
        deadline = time.monotonic() + _LEARN_S
        while True:
            wrong = problems(settings, _describe(client, settings))
            # Each question may go to another broker, and one may not have heard of a new topic yet.
            if all(problem.about != "missing" for problem in wrong) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    if wrong:
        raise BrokerError("; ".join(problem.text for problem in wrong))
    return list(missing)


def delete_topics(settings: KafkaSettings) -> list[str]:
    """Delete the four topics with all their records; returns the names of those that were there."""
    with admin(settings) as client:
        names = sorted(_metadata(client, settings))
        answer = client.delete_topics(names, raise_errors=False)["topics"] if names else []
        for topic in answer:
            _raise_unless(topic, UnknownTopicOrPartitionError)
        # The broker answers before it has forgotten them; whoever creates them next would find them still there.
        deadline = time.monotonic() + _FORGET_S
        while time.monotonic() < deadline and set(names) & set(client.list_topics()):
            time.sleep(0.1)
    return sorted(topic["name"] for topic in answer if topic["error_code"] == 0)


def describe_topics(settings: KafkaSettings) -> dict[str, Topic]:
    """Those of the four topics that exist, by name. Raises BrokerError."""
    with admin(settings) as client:
        return _describe(client, settings)


def problems(settings: KafkaSettings, found: Mapping[str, Topic]) -> list[Problem]:
    """What is missing or does not fit; nothing is said of what the broker did not tell."""
    wrong = [
        Problem(name, "missing", f"there is no topic {name!r}; `ray-fer stream topics --create` makes it")
        for name in settings.topics()
        if name not in found
    ]
    frames, state = found.get(settings.frames_topic), found.get(settings.state_topic)
    if frames is not None and state is not None and frames.partitions != state.partitions:
        wrong.append(Problem(state.name, "partitions", _partition_advice(settings, frames, state)))
    if state is not None and state.cleanup_policy not in (None, "compact"):
        change = _alter(settings, state.name, "cleanup.policy=compact")
        wrong.append(
            Problem(state.name, "cleanup", f"topic {state.name!r} has cleanup.policy {state.cleanup_policy}: {change}")
        )
    if frames is not None and frames.max_message_bytes not in (None, settings.max_message_bytes):
        change = _alter(settings, frames.name, f"max.message.bytes={settings.max_message_bytes}")
        wrong.append(
            Problem(
                frames.name,
                "size",
                f"topic {frames.name!r} takes records of up to {frames.max_message_bytes} bytes, the settings say "
                f"{settings.max_message_bytes}: {change}, or set max_message_bytes = {frames.max_message_bytes}",
            )
        )
    letters = found.get(settings.dead_letter_topic)
    limit = None if letters is None else letters.max_message_bytes
    if letters is not None and limit is not None and limit < settings.dead_letter_bytes:
        change = _alter(settings, letters.name, f"max.message.bytes={settings.dead_letter_bytes}")
        wrong.append(
            Problem(
                letters.name,
                "size",
                f"topic {letters.name!r} takes records of up to {limit} bytes; a dead letter needs {OVERHEAD_BYTES} "
                f"more than a frame: {change}",
            )
        )
    return wrong


def _wanted(settings: KafkaSettings, frames_partitions: int, retention_hours: float) -> dict[str, dict]:
    results = {"retention.ms": _milliseconds(RESULTS_RETENTION_HOURS)}
    frames = {"retention.ms": _milliseconds(retention_hours), "max.message.bytes": str(settings.max_message_bytes)}
    letters = results | {"max.message.bytes": str(settings.dead_letter_bytes)}
    return {
        settings.frames_topic: {"num_partitions": frames_partitions, "configs": frames},
        settings.predictions_topic: {"num_partitions": settings.partitions, "configs": results},
        settings.dead_letter_topic: {"num_partitions": settings.partitions, "configs": letters},
        settings.state_topic: {"num_partitions": frames_partitions, "configs": _STATE_CONFIG},
    }


def _raise_unless(answer: dict, harmless: type[KafkaError]) -> None:
    error = for_code(answer["error_code"])
    if error not in (NoError, harmless):
        raise BrokerError(f"topic {answer['name']!r}: {answer['error_message'] or error.__name__}")


def _milliseconds(hours: float) -> str:
    return str(round(hours * 3_600_000))


def _metadata(client: KafkaAdminClient, settings: KafkaSettings) -> dict[str, Any]:
    """What the broker that is asked knows of those of the four topics that it knows."""
    # Only of topics that exist: a broker may create a topic that it is asked about.
    names = sorted(set(client.list_topics()) & set(settings.topics()))
    described = client.describe_topics(names) if names else []
    return {topic["name"]: topic for topic in described if topic["partitions"]}


def _describe(client: KafkaAdminClient, settings: KafkaSettings) -> dict[str, Topic]:
    described = _metadata(client, settings)
    counts = {name: len(topic["partitions"]) for name, topic in described.items()}
    if not counts:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]
    configs = client.describe_configs(resources, config_filter="all").get("topic", {})
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    oldest = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    newest = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    found = {}
    for name, count in counts.items():
        values = {key: config["value"] for key, config in configs.get(name, {}).items()}
        retention, limit = values.get("retention.ms"), values.get("max.message.bytes")
        found[name] = Topic(
            name=name,
            partitions=count,
            replicas=min(len(partition["replica_nodes"]) for partition in described[name]["partitions"]),
            offsets=sum(newest[one].offset - oldest[one].offset for one in partitions if one.topic == name),
            cleanup_policy=values.get("cleanup.policy"),
            retention_ms=None if retention is None else int(retention),
            max_message_bytes=None if limit is None else int(limit),
        )
    return found


def _partition_advice(settings: KafkaSettings, frames: Topic, state: Topic) -> str:
    change = f"kafka-topics --bootstrap-server {settings.bootstrap_servers} --topic {state.name}"
    if state.partitions < frames.partitions:
        advice = f"run `{change} --alter --partitions {frames.partitions}`"
    else:
        advice = (
            f"delete it with `{change} --delete` (windows that are open now may then be given out twice) and run "
            "`ray-fer stream topics --create`"
        )
    return (
        f"topic {state.name!r} has {state.partitions} partitions, {frames.name!r} {frames.partitions}: "
        f"stop the workers, then {advice}"
    )


def _alter(settings: KafkaSettings, topic: str, change: str) -> str:
    return (
        f"run `kafka-configs --bootstrap-server {settings.bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {change}`"
    )
