"""kcat, which shares no code with our client, writes frames and reads what comes of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jsonschema import validate

from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import SCHEMA_FILE
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.topics import create_topics
from ray_fer.streaming.worker import Inference, StreamWorker
from tests.integration.conftest import need
from tests.integration.stream_faults import settings_of_a_run
from tests.integration.stream_traffic import CONFIG, answer

Kcat = Callable[..., str]


@pytest.fixture
def kcat(kafka: str) -> Kcat:
    """Runs kcat on the test's Kafka; gives what it prints."""
    need([] if shutil.which("kcat") else ["kcat"], "it is a second client of Kafka")

    def run(*arguments: str) -> str:
        command = ["kcat", "-b", kafka, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    return run


@pytest.fixture
def settings(kafka: str) -> Iterator[KafkaSettings]:
    """Topics on which a worker runs."""
    settings = settings_of_a_run(kafka)
    create_topics(settings)
    worker = StreamWorker(
        settings, StreamOptions(windows=CONFIG), lambda windows: Inference([answer(one) for one in windows], [])
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield settings
    worker.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_kcat_writes_frames_and_reads_predictions(
    kcat: Kcat, settings: KafkaSettings, jpeg: bytes, tmp_path: Path
) -> None:
    picture = tmp_path / "frame.jpg"
    picture.write_bytes(jpeg)

    def send(seq: int, pts_us: int, *headers: str) -> None:
        all_headers = ("stream-id=door", f"seq={seq}", f"pts-us={pts_us}", "content-type=image/jpeg", *headers)
        options = [option for header in all_headers for option in ("-H", header)]
        kcat("-P", "-t", settings.frames_topic, "-k", "door", *options, str(picture))

    for seq in range(12):
        send(seq, seq * 250_000)
    send(12, 3_000_000, "content-type=image/webp")
    send(12, 5_300_000)

    committed = ("-C", "-X", "isolation.level=read_committed", "-o", "beginning", "-q")
    windows = ("-t", settings.predictions_topic, "-f", "%k %s\n")
    # Seven: the stream's last frame closes what ends until 0.3 s before it. With -c kcat waits for as many.
    kcat(*committed, *windows, "-c", "7")
    # With -e it reads to the end, so there is no eighth.
    lines = kcat(*committed, *windows, "-e").splitlines()
    keys, values = zip(*(line.split(" ", 1) for line in lines), strict=True)
    assert set(keys) == {"door"}
    predictions = [json.loads(value) for value in values]
    schema = json.loads(SCHEMA_FILE.read_text())
    for prediction in predictions:
        validate(prediction, schema)
    assert [one["window"]["index"] for one in predictions] == list(range(7))
    assert [one["window"]["frames"] for one in predictions] == [8, 8, 8, 6, 4, 2, 0]
    assert [one["status"] for one in predictions] == ["ok"] * 6 + ["gap"]

    (letter,) = kcat(*committed, "-t", settings.dead_letter_topic, "-f", "%k %S %h\n", "-e").splitlines()
    key, size, headers = letter.split(" ", 2)
    assert (key, int(size)) == ("door", len(jpeg))
    assert "image/webp" in headers
    assert "error=content-type 'image/webp' is not supported" in headers
