"""`ray-fer stream produce` as a user runs it, on the embedded broker: recordings, segments, live sources, Ctrl-C."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_fer.streaming.broker import EmbeddedBroker
from ray_fer.streaming.frame_message import FrameMessage, parse_frame
from ray_fer.streaming.kafka import assign_all, consumer
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.topics import create_topics
from ray_fer.video.decode import iter_frames
from tests.integration.conftest import hear_interrupts
from tests.integration.live_servers import http_camera, rtsp_camera, transport_stream

STREAMS = {"one": "single_face.mp4", "deep/two": "face_noface.mov"}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.bootstrap_servers


@pytest.fixture
def settings(broker: str) -> KafkaSettings:
    run = uuid.uuid4().hex[:8]
    names = {name: f"{run}-{name}" for name in ("frames_topic", "predictions_topic", "dead_letter_topic")}
    settings = KafkaSettings(bootstrap_servers=broker, partitions=2, **names)
    create_topics(settings)
    return settings


@pytest.fixture
def folder(tmp_path: Path, media: Path) -> Path:
    """Two recordings, one of them further down."""
    for name, file in STREAMS.items():
        path = tmp_path / "recordings" / Path(name).with_suffix(Path(file).suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(media / file)
    return tmp_path / "recordings"


class Command:
    """A running `ray-fer stream produce`."""

    def __init__(self, settings: KafkaSettings, environment: dict[str, str], *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            ["ray-fer", "stream", "produce", *map(str, arguments),
             "--bootstrap-servers", settings.bootstrap_servers, "--topic", settings.frames_topic],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=hear_interrupts,
        )  # fmt: skip

    def finish(self, timeout_s: float = 120) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.process.returncode, out, err


def read(settings: KafkaSettings, least: int) -> dict[str, list[FrameMessage]]:
    """The messages of each stream in the topic's order: at least `least`, and whatever else comes within a second."""
    reader = consumer(settings)
    assign_all(reader, settings.frames_topic)
    found: dict[str, list[FrameMessage]] = defaultdict(list)
    deadline, extra, count = time.monotonic() + 30, None, 0
    while time.monotonic() < min(deadline, extra or deadline):
        for records in reader.poll(timeout_ms=200).values():
            for record in records:
                message = parse_frame(record.value, record.headers)
                assert record.key == message.key()
                found[message.stream_id].append(message)
                count += 1
        if extra is None and count >= least:
            extra = time.monotonic() + 1
    reader.close(autocommit=False)
    return found


def times_and_numbers(messages: list[FrameMessage]) -> list[tuple[int, int]]:
    return [(pts_us, seq) for message in messages for pts_us, seq, _ in message.frames()]


@pytest.mark.parametrize("options", [[], ["--segment-seconds", "1"]])
def test_a_folder_arrives_whole_and_in_order(
    options: list[str], folder: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    code, out, err = Command(settings, environment, folder, "--speed", "0", *options).finish()
    assert code == 0, err
    expected = {
        stream: [(frame.pts_us, frame.index) for frame in iter_frames(next(folder.glob(f"{stream}.*")))]
        for stream in STREAMS
    }
    total = sum(map(len, expected.values()))
    found = read(settings, 5 if options else total)
    assert set(found) == set(expected)
    for stream, sent in found.items():
        times, numbers = zip(*times_and_numbers(sent), strict=True)
        wanted, ranks = zip(*expected[stream], strict=True)
        assert numbers == ranks
        # Times within a segment are counted from its first frame, which rounds once more.
        assert times == pytest.approx(wanted, abs=1)
    kinds = {message.content_type for sent in found.values() for message in sent}
    assert kinds == ({"video/mp4"} if options else {"image/jpeg"})
    assert re.fullmatch(rf"{total} frames of 2 streams, [0-9.]+ MB, delivered to \S+ in [0-9.]+ s\n", out)


def test_a_loop_goes_on_until_it_is_interrupted_and_loses_nothing(
    media: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    arguments = [media / "single_face.mp4", "--speed", "0", "--loop", "--start", "2026-11-21T14:30:00+00:00"]
    command = Command(settings, environment, *arguments)
    found = read(settings, 100)
    command.process.send_signal(signal.SIGINT)
    code, out, err = command.finish()
    assert (code, err) == (130, "")
    sent = int(out.split()[0])
    found = read(settings, sent)
    numbers = times_and_numbers(found["single_face"])
    assert [seq for _, seq in numbers] == list(range(sent))
    once = [frame.pts_us for frame in iter_frames(media / "single_face.mp4")]
    assert once[-1] < 3_000_000
    start = 1_795_271_400_000_000
    assert [at for at, _ in numbers] == [
        start + 3_000_000 * (n // len(once)) + once[n % len(once)] for n in range(sent)
    ]


def test_live_http_is_opened_again_when_it_ends(
    media: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    with http_camera(transport_stream(media / "single_face.mp4"), seconds=1.0) as url:
        command = Command(settings, environment, url, "--stream-id", "cam", "--limit", "100")
        code, out, err = command.finish()
    assert code == 0, err
    assert out.startswith("100 frames of 1 stream")
    assert re.search(r"^cam: .*; trying again in 1 s", err, re.MULTILINE)
    assert re.search(r"^cam: back after \d+ s$", err, re.MULTILINE)
    numbers = times_and_numbers(read(settings, 100)["cam"])
    assert [seq for _, seq in numbers] == list(range(100))
    times = [at for at, _ in numbers]
    assert times == sorted(set(times))
    assert abs(times[0] / 1e6 - time.time()) < 3600, "event time begins now"
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert sum(step in (33_333, 33_334) for step in steps) > 90, "event time is the source's"
    assert sum(step > 900_000 for step in steps) == 1, "and ours where it was away"


def test_rtsp_is_read_over_tcp_and_cut_into_segments(
    media: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    with rtsp_camera(transport_stream(media / "single_face.mp4"), seconds=2.0) as url:
        arguments = [url, "--segment-seconds", "0.5", "--fps", "10", "--start", "0", "--limit", "15"]
        code, out, err = Command(settings, environment, *arguments).finish()
    assert code == 0, err
    assert "secret" not in out + err
    ((stream, sent),) = read(settings, 3).items()
    assert re.fullmatch(r"127\.0\.0\.1:\d+/live", stream)
    assert {message.content_type for message in sent} == {"video/mp4"}
    numbers = times_and_numbers(sent)
    assert [seq for _, seq in numbers] == list(range(len(numbers)))
    assert 15 <= len(numbers) <= 20
    times = [at for at, _ in numbers]
    assert times[0] == 0
    assert all(90_000 < after - before < 110_000 for before, after in itertools.pairwise(times[1:]))


def test_a_broken_video_among_others_is_named_and_the_others_are_sent(
    folder: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    (folder / "broken.mp4").write_bytes(b"not a video")
    code, out, err = Command(settings, environment, folder, "--speed", "0").finish()
    assert code == 1
    assert re.search(r"^error: \S+/broken\.mp4: not a readable video", err, re.MULTILINE)
    assert "1 of the streams could not be read to their end" in out
    assert set(read(settings, 200)) == set(STREAMS)


def test_nothing_but_a_broken_video_is_bad_input(
    tmp_path: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    code, out, err = Command(settings, environment, tmp_path / "broken.mp4").finish()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_topic_that_is_not_there_is_said_to_be_missing(
    media: Path, settings: KafkaSettings, environment: dict[str, str]
) -> None:
    missing = settings.model_copy(update={"frames_topic": "nowhere"})
    arguments = (missing, environment, media / "single_face.mp4", "--speed", "0", "--limit", "3")
    code, _, err = Command(*arguments).finish()
    assert code == 2
    advice = "ray-fer stream topics --create --topic nowhere"
    assert err == f"error: there is no topic 'nowhere'; `{advice}` makes it\n"
    command = [*advice.split(), "--bootstrap-servers", settings.bootstrap_servers]
    subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    assert Command(*arguments).finish()[0] == 0


def test_frames_that_the_broker_does_not_get_are_counted(
    media: Path, environment: dict[str, str], settings: KafkaSettings
) -> None:
    with EmbeddedBroker() as doomed:
        own = settings.model_copy(update={"bootstrap_servers": doomed.bootstrap_servers})
        create_topics(own)
        command = Command(own, environment, media / "single_face.mp4", "--loop")
        read(own, 10)
    time.sleep(1)  # frames go on being read, and nobody takes them
    os.kill(command.process.pid, signal.SIGINT)
    code, out, err = command.finish()
    assert code == 130
    lost = re.search(r"^error: (\d+) frames were not delivered: not acknowledged before the end", err, re.MULTILINE)
    assert lost is not None
    assert int(lost[1]) > 0
    assert int(out.split()[0]) >= 10
