"""Settings come from file, environment and options, say where a mistake is, and keep the password to themselves."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ray_fer.streaming.kafka import client_arguments
from ray_fer.streaming.kafka_settings import OVERHEAD_BYTES, KafkaSettings
from ray_fer.streaming.messages import MAX_FRAME_BYTES

PASSWORD = "correct horse"
LOGIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "anna"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RAY_FER_KAFKA_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "kafka.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_later_sources_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 'group = "file"\nframes_topic = "file"\npredictions_topic = "file"\npartitions = 12\n')
    monkeypatch.setenv("RAY_FER_KAFKA_FRAMES_TOPIC", "environment")
    monkeypatch.setenv("RAY_FER_KAFKA_PREDICTIONS_TOPIC", "environment")
    monkeypatch.setenv("RAY_FER_KAFKA_SESSION_TIMEOUT_MS", "6000")
    monkeypatch.setenv("RAY_FER_KAFKA_INSTANCE", "")
    settings = KafkaSettings.read(path, predictions_topic="option", partitions=None)
    assert (settings.group, settings.frames_topic, settings.predictions_topic) == ("file", "environment", "option")
    assert (settings.partitions, settings.session_timeout_ms, settings.instance) == (12, 6000, None)


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_FER_KAFKA_CONFIG", str(written(tmp_path, 'group = "file"\n')))
    assert KafkaSettings.read().group == "file"
    other = tmp_path / "other.toml"
    other.write_text('group = "other"\n')
    assert KafkaSettings.read(other).group == "other"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("partitons = 3", ["kafka.toml: partitons: unknown key", "did you mean partitions?"]),
        ("colour = 3", ["kafka.toml: colour: unknown key", "known are bootstrap_servers, security_protocol"]),
        ("partitions = 0", ["kafka.toml: partitions:", "greater than or equal to 1", "got 0"]),
        ('security_protocol = "TLS"', ["security_protocol:", "'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'", "got 'TLS'"]),
        ('sasl_username = "anna"', ["kafka.toml: sasl_username is given, but security_protocol is not SASL"]),
        ('ssl_cafile = "ca.pem"', ["kafka.toml: ssl_cafile is given, but security_protocol is not SSL"]),
        ('security_protocol = "SASL_SSL"', ["kafka.toml: security_protocol SASL_SSL needs sasl_mechanism PLAIN"]),
        (
            'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"',
            ["kafka.toml: security_protocol SASL_SSL needs sasl_username"],
        ),
        (
            'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_username = "anna"',
            ["needs one of sasl_password_file and sasl_password", "RAY_FER_KAFKA_SASL_PASSWORD"],
        ),
        ('security_protocol = "SSL"\nssl_keyfile = "key.pem"', ["ssl_keyfile needs ssl_certfile"]),
        ("max_partition_fetch_bytes = 1000", ["is below max_message_bytes", "could not be read"]),
        ("fetch_max_bytes = 1000", ["fetch_max_bytes 1000 is below max_partition_fetch_bytes"]),
        ("partitions 3", ["kafka.toml: not TOML"]),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"kafka\.toml") as caught:
        KafkaSettings.read(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_mistake_elsewhere_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"option processing_guarantee: .*'exactly_once' or 'at_least_once', got 'x'"):
        KafkaSettings.read(processing_guarantee="x")
    with pytest.raises(ValueError, match=r"absent\.toml: no such Kafka settings file"):
        KafkaSettings.read(tmp_path / "absent.toml")
    monkeypatch.setenv("RAY_FER_KAFKA_MAX_POLL_RECORDS", "many")
    with pytest.raises(ValueError, match=r"^RAY_FER_KAFKA_MAX_POLL_RECORDS: .* got 'many'$"):
        KafkaSettings.read()
    monkeypatch.setenv("RAY_FER_KAFKA_MAX_POLL_RECORDS", "5")
    monkeypatch.setenv("RAY_FER_KAFKA_SASL_USER", "anna")
    with pytest.raises(ValueError, match=r"SASL_USER: unknown key; did you mean RAY_FER_KAFKA_SASL_USERNAME\?$"):
        KafkaSettings.read()


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"partitions: .*; .*colour: unknown key"):
        KafkaSettings.read(written(tmp_path, "partitions = 0\ncolour = 1\n"))


def test_the_password_is_not_shown_and_survives_the_way_to_a_replica() -> None:
    settings = KafkaSettings.read(**LOGIN, sasl_password=PASSWORD)
    sent = settings.model_dump()
    for shown in (str(settings), repr(settings), str(sent), settings.model_dump_json()):
        assert PASSWORD not in shown
        assert "anna" in shown
    arrived = KafkaSettings(**pickle.loads(pickle.dumps(sent)))
    assert arrived == settings
    assert client_arguments(arrived)["sasl_plain_password"] == PASSWORD


@pytest.mark.parametrize(
    "mistake", [{"partitions": 0}, {"ssl_keyfile": "x"}, {"colour": 1}, {"sasl_password": 12345678}]
)
def test_no_error_shows_the_password(mistake: dict[str, Any]) -> None:
    given = {**LOGIN, "sasl_password": PASSWORD, **mistake}
    with pytest.raises(ValidationError) as direct:
        KafkaSettings(**given)
    with pytest.raises(ValueError, match=next(iter(mistake))) as read:
        KafkaSettings.read(**given)
    for shown in (str(direct.value), str(read.value)):
        assert PASSWORD not in shown
        assert "12345678" not in shown


def test_the_password_may_lie_in_a_file_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    lines = [f'{name} = "{value}"' for name, value in LOGIN.items()]
    path = written(tmp_path, "\n".join([*lines, 'sasl_password_file = "secret"']))
    settings = KafkaSettings.read(path)
    assert client_arguments(settings)["sasl_plain_password"] == PASSWORD
    (tmp_path / "secret").write_text("changed")
    assert client_arguments(settings)["sasl_plain_password"] == "changed"
    (tmp_path / "secret").unlink()
    with pytest.raises(ValueError, match=r"sasl_password_file: .*secret: no such file on this machine"):
        client_arguments(settings)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_password_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    lines = [f'{name} = "{value}"' for name, value in {**LOGIN, "sasl_password": PASSWORD}.items()]
    path = written(tmp_path, "\n".join(lines))
    path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        KafkaSettings.read(path)
    assert (f"chmod o-r {path}" in caplog.text) == warned
    assert PASSWORD not in caplog.text


def test_a_readable_file_without_a_secret_is_nothing_to_warn_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, 'group = "g"\n')
    path.chmod(0o644)
    KafkaSettings.read(path)
    assert caplog.text == ""


def test_clients_are_told_how_to_get_in(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch(mode=0o600)
    path = written(
        tmp_path,
        'bootstrap_servers = "a:1,b:2"\nsecurity_protocol = "SSL"\nssl_cafile = "ca.pem"\nssl_certfile = "cert.pem"\n'
        'ssl_keyfile = "key.pem"\nssl_check_hostname = false\n',
    )
    assert client_arguments(KafkaSettings.read(path)) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SSL",
        "ssl_check_hostname": False,
        "ssl_cafile": str(tmp_path / "ca.pem"),
        "ssl_certfile": str(tmp_path / "cert.pem"),
        "ssl_keyfile": str(tmp_path / "key.pem"),
    }
    assert client_arguments(KafkaSettings()) == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "security_protocol": "PLAINTEXT",
    }


def test_sizes_follow_the_largest_record() -> None:
    default = KafkaSettings()
    assert default.max_message_bytes == MAX_FRAME_BYTES + OVERHEAD_BYTES
    large = KafkaSettings(max_message_bytes=20_000_000)
    for settings in (default, large):
        assert settings.fetch_bytes >= settings.partition_fetch_bytes >= settings.max_message_bytes
        assert settings.dead_letter_bytes > settings.max_message_bytes


def test_an_instance_has_a_transactional_id_of_its_own() -> None:
    named = KafkaSettings(group="g", instance="worker-3")
    assert named.transactional_id() == named.transactional_id() == "g-worker-3"
    unnamed = KafkaSettings(group="g")
    assert unnamed.transactional_id() != unnamed.transactional_id()


def test_the_example_file_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field is in it, as a comment where it has no useful default, with its default value."""
    example = Path(__file__).parents[2] / "cluster" / "kafka" / "kafka.toml"
    assert KafkaSettings.read(example) == KafkaSettings()
    text = example.read_text()
    for name in KafkaSettings.model_fields:
        assert f"\n{name} = " in text or f"\n# {name} = " in text, name
