"""`WS /v1/live` as a camera uses it, and as others do."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ray_fer.bundle import PACKAGED
from ray_fer.models.transform import TransformConfig
from ray_fer.serving.catalogue import served
from ray_fer.serving.inference import Stages
from ray_fer.serving.keys import KeyRing, add_key
from ray_fer.serving.live_session import LiveSession, Start
from ray_fer.serving.options import ApiOptions, UploadLimits
from ray_fer.serving.predict import predict_video
from ray_fer.serving.uploads import TooLargeError
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.source import video_messages
from tests.serving.api_backend import InProcessBackend, on_a_port
from tests.serving.test_api_predict import same

START = {"type": "start", "size": 5, "stride": 1, "lateness": 0.2}


@pytest.fixture
def url() -> Iterator[str]:
    with on_a_port(InProcessBackend(ApiOptions(uploads=UploadLimits(live_at_once=2, live_bytes=500_000)))) as address:
        yield live(address)


def live(address: str) -> str:
    return f"{address.replace('http', 'ws')}/v1/live"


def started(url: str, **changed: Any) -> ClientConnection:
    connection = connect(url, max_size=2**24)
    connection.send(json.dumps(START | changed))
    ready = json.loads(connection.recv(timeout=30))
    assert ready["type"] == "ready", ready
    return connection


def frame(pts_us: int, image: bytes) -> bytes:
    return struct.pack(">Q", pts_us) + image


def rest(connection: ClientConnection) -> list[dict[str, Any]]:
    """All messages up to the end of the connection."""
    messages, code, _ = all_of(connection)
    assert code == 1000
    return messages


def all_of(connection: ClientConnection) -> tuple[list[dict[str, Any]], int, str]:
    """All messages, and the code and reason with which the server closes."""
    messages = []
    while True:
        try:
            messages.append(json.loads(connection.recv(timeout=30)))
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            return messages, code, closed.rcvd.reason if closed.rcvd else ""


def closed_with(connection: ClientConnection) -> tuple[int, str]:
    return all_of(connection)[1:]


def test_a_camera_gets_what_predict_says_of_the_same_frames(url: str, media: Path) -> None:
    connection = started(url)
    sent = list(video_messages(media / "face_noface.mov", "s"))
    for message in sent:
        connection.send(frame(message.pts_us, message.payload))
    connection.send('{"type": "end"}')
    messages = rest(connection)
    assert messages[-1] == {"type": "end", "frames": len(sent), "windows": len(messages) - 1}
    windows = [Prediction.model_validate(one["prediction"]) for one in messages[:-1]]
    expected = list(predict_video(PACKAGED, media / "face_noface.mov"))
    assert all(same(one, other) for one, other in zip(windows, expected, strict=True))
    assert all(one.latency_ms is not None and one.latency_ms > 0 for one in windows)


def test_windows_come_while_frames_go_on(url: str, media: Path) -> None:
    face = next(video_messages(media / "single_face.mp4", "s")).payload
    connection = started(url, size=1, stride=1, lateness=0)
    for tenth in range(11):
        connection.send(frame(tenth * 100_000, face))
    first = json.loads(connection.recv(timeout=30))
    assert first["prediction"]["window"]["index"] == 0
    assert first["prediction"]["status"] == "ok"
    connection.close()


def test_frames_that_cannot_be_used_are_told_and_the_connection_goes_on(url: str, media: Path, jpeg: bytes) -> None:
    face = next(video_messages(media / "single_face.mp4", "s")).payload
    connection = started(url, size=2, stride=2)
    connection.send(frame(0, b"GIF89a"))
    connection.send(frame(0, face))
    connection.send(frame(0, face))
    connection.send(frame(300_000, bytes(600_000)))
    connection.send(frame(500_000, face[:-300]))
    connection.send(frame(1_000_000, face))
    connection.send('{"type": "end"}')
    messages = rest(connection)
    reasons = {(one["pts_us"], one["reason"].split(";")[0]) for one in messages if one["type"] == "broken"}
    assert reasons == {
        (0, "neither a JPEG nor a PNG"),
        (300_000, "600000 bytes, more than 500000"),
        (500_000, "truncated JPEG: the end-of-image marker is missing"),
    } | {one for one in reasons if one[1] == "its time is before that of frames that came earlier"}
    (window,) = [one["prediction"] for one in messages if one["type"] == "window"]
    assert window["status"] == "ok"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "start message"),
        ('{"type": "begin"}', "start message: type"),
        ('{"type": "start", "size": -1}', "start message: size"),
        ('{"type": "start", "size": 1, "stride": 2}', "stride exceeds size"),
        ('{"type": "start", "colour": "blue"}', "start message: colour"),
        (b"\x00" * 40, "start message"),
    ],
)
def test_a_first_message_that_is_wrong(url: str, message: str | bytes, reason: str) -> None:
    with connect(url) as connection:
        connection.send(message)
        code, said = closed_with(connection)
    assert code == 1007
    assert reason in said


def test_later_messages_that_are_wrong(url: str) -> None:
    for message in ("pardon?", b"short", b"\xff" * 20):
        connection = started(url)
        connection.send(message)
        assert closed_with(connection)[0] == 1007


def test_an_unknown_model_and_too_many_connections(url: str) -> None:
    with connect(url) as connection:
        connection.send(json.dumps(START | {"model": "none"}))
        assert closed_with(connection) == (1008, "no model 'none' here; choose one of cafer-synthfer, other")
    held = [started(url) for _ in range(2)]
    with connect(url) as connection:
        connection.send(json.dumps(START))
        assert closed_with(connection) == (1013, "too many live connections; try again")
    held[0].close()
    time.sleep(0.5)
    started(url).close()
    held[1].close()


def test_a_key_is_asked_for_where_there_are_keys(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "camera", per_minute=1)
    with on_a_port(InProcessBackend(keys=KeyRing.load(tmp_path / "keys.json"))) as address:
        for given, reason in ((None, "an API key is needed"), ("rf_wrong", "no such API key")):
            with connect(live(address)) as connection:
                connection.send(json.dumps(START | {"key": given}))
                code, said = closed_with(connection)
                assert (code, reason in said) == (1008, True)
        started(live(address), key=key).close()
        with connect(live(address)) as connection:
            connection.send(json.dumps(START | {"key": key}))
            assert "has spent its requests" in closed_with(connection)[1]


def test_a_model_that_is_too_slow_passes_over_old_windows(media: Path) -> None:
    backend = InProcessBackend()
    usual = backend.stages()

    def slow(requests: list[Any], transform: TransformConfig) -> Any:
        time.sleep(1)
        return usual.find_faces(requests, transform)

    backend.replaced_stages = Stages(slow, usual.classify)
    face = next(video_messages(media / "single_face.mp4", "s")).payload
    with on_a_port(backend) as address:
        connection = started(live(address), size=0.2, stride=0.2, lateness=0)
        for tenth in range(100):
            connection.send(frame(tenth * 100_000, face))
        connection.send('{"type": "end"}')
        windows = [one["prediction"] for one in rest(connection) if one["type"] == "window"]
    assert [one["window"]["index"] for one in windows] == list(range(50))
    statuses = [one["status"] for one in windows]
    assert statuses.count("skipped") > 20
    assert statuses[-8:] == ["ok"] * 8


def alone(limits: UploadLimits, **start: Any) -> LiveSession:
    """A session that nobody answers."""
    model = served(PACKAGED)
    stages, decoder = Stages(None, None), None  # type: ignore[arg-type]
    return LiveSession("s", Start.model_validate(START | start), lambda: model, stages, decoder, limits)  # type: ignore[arg-type]


def test_frames_are_let_go_while_the_model_does_not_answer(jpeg: bytes) -> None:
    session = alone(UploadLimits(), size=0.1, stride=0.05, lateness=0)
    tracemalloc.start()
    for number in range(400):
        session.add(frame(number * 50_000, jpeg + bytes(50_000)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert session.waiting > 390, "every window is told of"
    assert held < 2_000_000, "20 MB of frames came"


def test_more_bytes_than_a_connection_may_hold(jpeg: bytes) -> None:
    limits = UploadLimits(live_held_bytes=1_000_000)
    session = alone(limits, size=60)
    image = jpeg + bytes(100_000)
    frames = (frame(number * 4_000_000, image) for number in range(16))
    with pytest.raises(TooLargeError, match="choose shorter windows"):
        deque(map(session.add, frames))
    assert 8 < session.frames < 12


def test_more_windows_than_anybody_waits_for(jpeg: bytes) -> None:
    session = alone(UploadLimits(), size=0.1, stride=0.05, lateness=0)
    frames = (frame(number * 1_000_000, jpeg) for number in range(10**6))
    with pytest.raises(TooLargeError, match="choose a longer stride"):
        deque(map(session.add, frames))
    assert session.waiting <= 10_200


def test_a_failure_of_ours_is_said_and_counted(media: Path) -> None:
    backend = InProcessBackend()

    def broken(requests: list[Any], transform: TransformConfig) -> Any:
        raise RuntimeError("out of memory")

    backend.replaced_stages = Stages(broken, backend.stages().classify)
    face = next(video_messages(media / "single_face.mp4", "s")).payload
    with on_a_port(backend) as address:
        failed = started(live(address), size=0.2, stride=0.2, lateness=0)
        failed.send(frame(0, face))
        failed.send(frame(500_000, face))
        assert closed_with(failed) == (1011, "the server failed; its log says why")
        left = started(live(address))
        left.close(1001)
        time.sleep(0.5)
        page = httpx.get(f"{address}/metrics").text
    for status in (1011, 1001):
        assert f'ray_fer_api_requests_total{{endpoint="/v1/live",replica="api-a",status="{status}"}} 1.0' in page
