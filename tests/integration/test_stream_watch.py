"""`ray-fer stream topics` and `ray-fer stream tail` as a user runs them, on the embedded broker and on Apache Kafka."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ray_fer.cli import app
from ray_fer.streaming.apache_kafka import KafkaCluster
from ray_fer.streaming.broker import EmbeddedBroker
from ray_fer.streaming.kafka import admin, producer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import (
    CultureInfo,
    ModelInfo,
    Prediction,
    WindowInfo,
    dead_letter_headers,
)
from ray_fer.streaming.topics import create_topics, describe_topics
from tests.integration.conftest import KAFKA_USER

DAY_MS = 24 * 3_600_000


def stream(*arguments: str | Path) -> Result:
    """Run a command that ends by itself."""
    return CliRunner().invoke(app, ["stream", *map(str, arguments)])


def lines(*arguments: str | Path) -> list[str]:
    result = stream(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def topics_of_its_own(servers: str, **fields: str | int) -> KafkaSettings:
    run = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=servers,
        frames_topic=f"{run}-frames",
        predictions_topic=f"{run}-predictions",
        dead_letter_topic=f"{run}-dead",
        partitions=2,
        **fields,  # type: ignore[arg-type]
    )


def written(settings: KafkaSettings, folder: Path) -> Path:
    """The settings as a file, with the password in a file beside it."""
    fields = settings.model_dump(exclude_defaults=True, exclude={"sasl_password"})
    if settings.sasl_password is not None:
        (folder / "secret").write_text(settings.sasl_password.get_secret_value())
        (folder / "secret").chmod(0o600)
        fields["sasl_password_file"] = "secret"
    path = folder / "kafka.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items()))
    return path


def prediction(stream_id: str, index: int) -> Prediction:
    return Prediction(
        stream_id=stream_id,
        window=WindowInfo(index=index, start_us=index * 1_000_000, end_us=(index + 5) * 1_000_000, frames=9, faces=9),
        status="ok",
        expression="Happy",
        probabilities={"Happy": 0.75, "Sad": 0.25},
        culture=CultureInfo(source="global_prior", weights={}),
        model=ModelInfo(name="m", version="1"),
        latency_ms=12.0,
    )


def send(settings: KafkaSettings, predictions: list[Prediction]) -> None:
    """Into partition 0, in order, each a batch of its own: the embedded broker counts batches in its offsets."""
    writer = producer(settings)
    for one in predictions:
        writer.send(settings.predictions_topic, one.to_bytes(), one.stream_id.encode(), partition=0).get(10)
    writer.close()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaSettings, Path]]:
    """Predictions of two streams, one of another version, and two dead letters; and the file of the settings."""
    with EmbeddedBroker() as broker:
        settings = topics_of_its_own(broker.bootstrap_servers)
        create_topics(settings)
        send(settings, [prediction(name, index) for index in range(4) for name in ("a", "b")])
        writer = producer(settings)
        writer.send(settings.predictions_topic, b'{"schema_version": 99}', b"c", partition=0).get(10)
        for offset, reason in enumerate(("truncated JPEG", "header 'seq' is missing")):
            headers = dead_letter_headers([("stream-id", b"a")], reason, settings.frames_topic, 1, offset)
            writer.send(settings.dead_letter_topic, b"12345", b"a", headers=headers, partition=0).get(10)
        writer.close()
        yield settings, written(settings, tmp_path_factory.mktemp("settings"))


def test_lines_of_all_predictions(embedded: tuple[KafkaSettings, Path]) -> None:
    shown = lines("tail", "--kafka-config", embedded[1], "--limit", "9")
    assert [line.split("  ")[:2] for line in shown[:2]] == [["a", "0-5 s"], ["b", "0-5 s"]]
    assert shown[8].startswith("c  unreadable at 0:8: schema version 99, this program reads ")


def test_json_of_one_stream_from_an_offset(embedded: tuple[KafkaSettings, Path]) -> None:
    options = ["tail", "--kafka-config", embedded[1], "--json", "--stream", "b", "--from", "3", "--limit", "3"]
    assert [Prediction.model_validate_json(line) for line in lines(*options)] == [prediction("b", k) for k in (1, 2, 3)]


def test_dead_letters_with_reason_and_origin(embedded: tuple[KafkaSettings, Path]) -> None:
    settings, file = embedded
    first, second = lines("tail", "--kafka-config", file, "--dead-letters", "--json", "--limit", "2")
    shown = json.loads(first)
    assert datetime.fromisoformat(shown.pop("written")).tzinfo is not None
    assert shown == {
        "stream_id": "a",
        "reason": "truncated JPEG",
        "topic": settings.frames_topic,
        "partition": 1,
        "offset": 0,
        "bytes": 5,
    }
    assert json.loads(second)["reason"] == "header 'seq' is missing"
    (line,) = lines("tail", "--kafka-config", file, "--dead-letters", "--limit", "1")
    assert line.endswith(f"  a  {settings.frames_topic} 1:0  5 bytes  truncated JPEG")


def test_a_topic_that_is_not_there_is_not_made(embedded: tuple[KafkaSettings, Path]) -> None:
    result = stream("tail", "--kafka-config", embedded[1], "--topic", "nowhere")
    assert result.exit_code == 2
    assert result.stderr == "error: there is no topic 'nowhere'; `ray-fer stream topics --create` makes it\n"
    with admin(embedded[0]) as client:
        assert "nowhere" not in client.list_topics()


def test_the_live_table_on_a_terminal(embedded: tuple[KafkaSettings, Path], environment: dict[str, str]) -> None:
    settings, file = embedded
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 150, 0, 0))
    command = ["ray-fer", "stream", "tail", "--kafka-config", str(file)]
    process = subprocess.Popen(
        command, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL, env=environment | {"TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    os.close(terminal)
    shown = ""
    try:
        shown += until(screen, "8 windows   3 streams   0 new dead letters   1 unreadable predictions")
        writer = producer(settings)
        writer.send(settings.dead_letter_topic, b"x", b"b", partition=0).get(10)
        writer.close()
        shown += until(screen, "1 new dead letters")
        process.send_signal(signal.SIGINT)
        until(screen, None)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(screen)
    assert "3-8 s" in shown
    assert "█████████░░░ 0.75" in shown


def until(screen: int, text: str | None, timeout_s: float = 60) -> str:
    """What comes until `text` was in it, or with None until the terminal is closed."""
    seen = b""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(OSError):  # the other end is closed
        while time.monotonic() < deadline and (text is None or text.encode() not in seen):
            seen += os.read(screen, 65536)
    if text is not None:
        assert text in seen.decode()
    return seen.decode()


def test_topics_are_made_shown_and_deleted(kafka: str, tmp_path: Path) -> None:
    settings = topics_of_its_own(kafka)
    file = written(settings, tmp_path)
    with admin(settings) as client:
        client.create_topics(
            {settings.frames_topic: {"num_partitions": 5, "configs": {"max.message.bytes": "8454144"}}}
        )
    before = stream("topics", "--kafka-config", file, "--json")
    assert before.exit_code == 1
    assert [one["about"] for one in json.loads(before.stdout)["problems"]] == ["missing"] * 3
    made = json.loads(lines("topics", "--kafka-config", file, "--create", "--retention-hours", "2", "--json")[0])
    assert made["created"] == settings.topics()[1:]
    assert made["problems"] == []
    found = {one["name"]: one for one in made["topics"]}
    assert found[settings.state_topic]["partitions"] == found[settings.frames_topic]["partitions"] == 5
    assert found[settings.state_topic]["cleanup_policy"] == "compact"
    assert found[settings.dead_letter_topic]["retention_ms"] == 7 * DAY_MS
    send(settings, [prediction("a", index) for index in range(3)])
    assert describe_topics(settings)[settings.predictions_topic].offsets == 3
    assert settings.state_topic in "".join(lines("topics", "--kafka-config", file))
    refused = stream("topics", "--kafka-config", file, "--delete")
    assert refused.exit_code == 2
    assert "add --yes" in refused.stderr
    assert lines("topics", "--kafka-config", file, "--delete", "--yes", "--json") == [
        json.dumps({"deleted": sorted(settings.topics())})
    ]
    assert json.loads(lines("topics", "--kafka-config", file, "--create", "--retention-hours", "2", "--json")[0])[
        "topics"
    ][0] == {
        "name": settings.frames_topic,
        "partitions": 2,
        "replicas": 1,
        "offsets": 0,
        "cleanup_policy": "delete",
        "retention_ms": 7_200_000,
        "max_message_bytes": settings.max_message_bytes,
    }


def test_topics_that_do_not_fit_are_an_error_that_says_what_to_change(kafka: str, tmp_path: Path) -> None:
    settings = topics_of_its_own(kafka)
    with admin(settings) as client:
        client.create_topics({settings.state_topic: {"num_partitions": 1}})
    result = stream("topics", "--kafka-config", written(settings, tmp_path), "--create")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert f"--topic {settings.state_topic} --alter --partitions 2" in result.stderr
    assert f"--entity-name {settings.state_topic} --add-config cleanup.policy=compact" in result.stderr


def test_tail_from_a_time_and_from_the_end(kafka: str, tmp_path: Path) -> None:
    settings = topics_of_its_own(kafka)
    create_topics(settings)
    send(settings, [prediction("old", index) for index in range(3)])
    time.sleep(0.01)
    now = datetime.now(UTC).isoformat()
    send(settings, [prediction("new", 0)])
    options = ["tail", "--kafka-config", written(settings, tmp_path), "--json", "--limit", "1"]
    (shown,) = lines(*options, "--from", now)
    assert json.loads(shown)["stream_id"] == "new"
    (first,) = lines(*options)
    assert json.loads(first)["stream_id"] == "old"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_broker_that_asks_for_a_password(kafka_cluster: KafkaCluster, tmp_path: Path, mechanism: str) -> None:
    name, password = KAFKA_USER
    settings = topics_of_its_own(
        kafka_cluster.secure_servers,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        sasl_username=name,
        sasl_password=password,
    )
    file = written(settings, tmp_path)
    assert password not in file.read_text()
    assert json.loads(lines("topics", "--kafka-config", file, "--create", "--json")[0])["problems"] == []
    send(settings, [prediction("a", 0)])
    (shown,) = lines("tail", "--kafka-config", file, "--json", "--limit", "1")
    assert json.loads(shown)["stream_id"] == "a"
    (tmp_path / "secret").write_text("wrong")
    result = stream("topics", "--kafka-config", file)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "sasl_" in result.stderr
    assert "Traceback" not in result.output
