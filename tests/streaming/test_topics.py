"""Which topics fit each other, and what is said of those that do not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ray_fer.cli.stream_topics import retention_text, topics_table
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.topics import Topic, problems

SETTINGS = KafkaSettings(bootstrap_servers="kafka:9092")
DAY_MS = 24 * 3_600_000


def fitting() -> dict[str, Topic]:
    """What `create_topics` makes."""
    frames = Topic("frames", 6, 3, 100, "delete", DAY_MS, SETTINGS.max_message_bytes)
    return {
        "frames": frames,
        "predictions": replace(frames, name="predictions", partitions=4, max_message_bytes=1_048_588),
        "frames-dead-letter": replace(
            frames, name="frames-dead-letter", partitions=4, max_message_bytes=SETTINGS.dead_letter_bytes
        ),
        "frames-ray-fer-state": replace(
            frames, name="frames-ray-fer-state", cleanup_policy="compact", max_message_bytes=1_048_588
        ),
    }


def changed(name: str, **fields: Any) -> dict[str, Topic]:
    found = fitting()
    return {**found, name: replace(found[name], **fields)}


def test_topics_that_fit_have_no_problem() -> None:
    assert problems(SETTINGS, fitting()) == []


def test_nothing_is_said_of_what_the_broker_does_not_tell() -> None:
    untold = {
        name: replace(topic, cleanup_policy=None, retention_ms=None, max_message_bytes=None)
        for name, topic in fitting().items()
    }
    assert problems(SETTINGS, untold) == []


@pytest.mark.parametrize(
    ("found", "topic", "about", "parts"),
    [
        (
            changed("frames-ray-fer-state", partitions=4),
            "frames-ray-fer-state",
            "partitions",
            [
                "stop the workers",
                "kafka-topics --bootstrap-server kafka:9092 --topic frames-ray-fer-state --alter --partitions 6",
            ],
        ),
        (
            changed("frames-ray-fer-state", partitions=8),
            "frames-ray-fer-state",
            "partitions",
            [
                "kafka-topics --bootstrap-server kafka:9092 --topic frames-ray-fer-state --delete",
                "given out twice",
                "--create",
            ],
        ),
        (
            changed("frames-ray-fer-state", cleanup_policy="delete"),
            "frames-ray-fer-state",
            "cleanup",
            ["cleanup.policy delete", "--entity-name frames-ray-fer-state --add-config cleanup.policy=compact"],
        ),
        (
            # Old states would be deleted, and the windows of quiet streams given out again.
            changed("frames-ray-fer-state", cleanup_policy="compact,delete"),
            "frames-ray-fer-state",
            "cleanup",
            ["cleanup.policy=compact`"],
        ),
        (
            changed("frames", max_message_bytes=1_048_588),
            "frames",
            "size",
            [f"--entity-name frames --add-config max.message.bytes={SETTINGS.max_message_bytes}"],
        ),
        (
            changed("frames", max_message_bytes=50_000_000),
            "frames",
            "size",
            ["set max_message_bytes = 50000000"],
        ),
        (
            # As large as a frame is too small: a dead letter says in its headers what is wrong.
            changed("frames-dead-letter", max_message_bytes=SETTINGS.max_message_bytes),
            "frames-dead-letter",
            "size",
            [f"--add-config max.message.bytes={SETTINGS.dead_letter_bytes}"],
        ),
    ],
)
def test_a_problem_says_what_to_change(found: dict[str, Topic], topic: str, about: str, parts: list[str]) -> None:
    (problem,) = problems(SETTINGS, found)
    assert (problem.topic, problem.about) == (topic, about)
    for part in parts:
        assert part in problem.text


def test_missing_topics_are_listed() -> None:
    found = fitting()
    del found["frames"], found["frames-ray-fer-state"]
    wrong = problems(SETTINGS, found)
    assert [(problem.topic, problem.about) for problem in wrong] == [
        ("frames", "missing"),
        ("frames-ray-fer-state", "missing"),
    ]
    assert "ray-fer stream topics --create" in wrong[0].text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda topic: topic, "24 h"),
        (lambda topic: replace(topic, retention_ms=7 * DAY_MS), "7 d"),
        (lambda topic: replace(topic, retention_ms=90_000_000), "25 h"),
        (lambda topic: replace(topic, retention_ms=-1), "for ever"),
        (lambda topic: replace(topic, retention_ms=None), "not told"),
        (lambda topic: replace(topic, cleanup_policy="compact"), "newest of each key"),
    ],
)
def test_retention_is_readable(change: Callable[[Topic], Topic], text: str) -> None:
    assert retention_text(change(fitting()["frames"])) == text


def test_the_table_has_a_row_for_every_topic() -> None:
    found = changed("frames", max_message_bytes=1_048_588)
    del found["predictions"]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(topics_table(SETTINGS.topics(), found, problems(SETTINGS, found)))
    rows = [line.split() for line in console.export_text().replace("│", " ").splitlines()]
    cells = {row[0]: row[1:] for row in rows if row and row[0] in SETTINGS.topics()}
    assert cells["frames"] == ["6", "3", "24", "h", "1,048,588", "B", "100", "no"]
    assert cells["predictions"] == ["-"] * 6
    assert cells["frames-dead-letter"][-1] == "yes"
    assert cells["frames-ray-fer-state"][2:6] == ["newest", "of", "each", "key"]
