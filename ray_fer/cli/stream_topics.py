"""`ray-fer stream topics`: the topics of a stream, what does not fit, and making or deleting them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ray_fer.cli.options import AsJson, Brokers, KafkaConfig
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.streaming.topics import Problem, Topic


@exit_on_bad_input
def topics(
    bootstrap_servers: Brokers = None,
    kafka_config: KafkaConfig = None,
    topic: Annotated[str | None, typer.Option(help="frames topic (default: of the settings)")] = None,
    create: Annotated[bool, typer.Option("--create", help="make the topics that are missing")] = False,
    partitions: Annotated[int | None, typer.Option(min=1, help="with --create: partitions of new topics")] = None,
    retention_hours: Annotated[
        float | None, typer.Option(min=0.01, help="with --create: how long frames are kept (default: 24)")
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="with --create (default: the cluster's default)")] = None,
    max_message_bytes: Annotated[
        int | None, typer.Option(min=1, help="largest record of the frames topic (default: of the settings)")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="delete the topics with all their records")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="confirms --delete")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the topics of the settings; exit code 1 if one is missing or does not fit the others."""
    from ray_fer.serving.demo_table import wide_console
    from ray_fer.streaming.kafka import check_broker
    from ray_fer.streaming.kafka_settings import KafkaSettings
    from ray_fer.streaming.topics import FRAMES_RETENTION_HOURS, create_topics, delete_topics, describe_topics, problems

    if not create and any(given is not None for given in (partitions, retention_hours, replicas)):
        raise ValueError("--partitions, --retention-hours and --replicas are for new topics: add --create")
    if create and delete:
        raise ValueError("give one of --create and --delete")
    settings = KafkaSettings.read(
        kafka_config, bootstrap_servers=bootstrap_servers, frames_topic=topic, partitions=partitions,
        max_message_bytes=max_message_bytes,
    )  # fmt: skip
    if delete and not yes:
        raise ValueError(f"this deletes {', '.join(settings.topics())} with all their records: add --yes")
    check_broker(settings.bootstrap_servers)
    console = wide_console()
    if delete:
        gone = delete_topics(settings)
        print(json.dumps({"deleted": gone}) if as_json else f"deleted: {', '.join(gone) or 'nothing'}")
        return
    made = create_topics(settings, retention_hours or FRAMES_RETENTION_HOURS, replicas or -1) if create else []
    found = describe_topics(settings)
    wrong = problems(settings, found)
    if as_json:
        listed = [asdict(found[name]) for name in settings.topics() if name in found]
        print(json.dumps({"topics": listed, "created": made, "problems": [asdict(one) for one in wrong]}))
    else:
        console.print(topics_table(settings.topics(), found, wrong))
        for problem in wrong:
            console.print(problem.text, style="red", soft_wrap=True, markup=False, highlight=False)
        if made and max_message_bytes is not None:
            console.print(
                f"put max_message_bytes = {max_message_bytes} in the Kafka settings of every program that uses them"
            )
    if wrong:
        raise SystemExit(1)


def topics_table(names: Sequence[str], found: Mapping[str, Topic], wrong: Sequence[Problem]) -> Table:
    """One row per topic; a topic that is missing has dashes."""
    table = Table(expand=False)
    for name in ("topic", "partitions", "replicas", "retention", "largest message", "offsets", "sizes agree"):
        table.add_column(
            name, justify="left" if name in ("topic", "retention", "sizes agree") else "right", no_wrap=True
        )
    oversized = {problem.topic for problem in wrong if problem.about == "size"}
    for name in names:
        topic = found.get(name)
        if topic is None:
            table.add_row(name, *"------")
            continue
        limit = topic.max_message_bytes
        table.add_row(
            name,
            str(topic.partitions),
            str(topic.replicas),
            retention_text(topic),
            "not told" if limit is None else f"{limit:,} B",
            f"{topic.offsets:,}",
            "no" if name in oversized else "not told" if limit is None else "yes",
        )
    return table


def retention_text(topic: Topic) -> str:
    """How long records are kept, e.g. ``24 h``, ``7 d``, ``newest of each key``."""
    if topic.cleanup_policy == "compact":
        return "newest of each key"
    if topic.retention_ms is None:
        return "not told"
    if topic.retention_ms < 0:
        return "for ever"
    hours = topic.retention_ms / 3_600_000
    return f"{hours / 24:g} d" if hours > 48 and hours % 24 == 0 else f"{hours:.4g} h"
