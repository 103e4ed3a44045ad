"""Hostile uploads one after the other through one decoder: none spoils the next, and none leads anywhere else."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.options import ApiOptions, UploadLimits
from ray_fer.serving.uploads import checked, decode_limits, fetched
from ray_fer.streaming.frame_message import MAX_PTS_US
from ray_fer.video.limits import MediaError
from tests.encoded_video import write_video
from tests.hostile_uploads import CANARY, Upload, hostile_uploads, malformed_requests
from tests.serving.api_backend import InProcessBackend, no_decoder_stays, on_a_port

UPLOADS = UploadLimits(max_seconds=10, max_frames=1000, max_decode_seconds=5)
COUNT = 120


def taken(decoder: IsolatedDecoder, upload: Upload, folder: Path) -> str:
    """What comes of it: "frames", or the reason why there are none."""
    try:
        if upload.field == "images":
            checked(decoder, upload.data)
            return "frames"
        if upload.field == "url":
            with ExitStack() as stack:
                path = fetched(upload.data.decode(), [], UPLOADS, stack)
        else:
            path = folder / "upload"
            path.write_bytes(upload.data)
        for _, jpeg in decoder.pictures(range(len(decoder.open_video(path)))):
            assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None
        return "frames"
    except MediaError as error:
        return error.reason
    except PermissionError as error:
        return str(error)


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    for make in (
        lambda seed: list(hostile_uploads(seed, 40, tmp_path, "http://a/")),
        lambda s: malformed_requests(s, 40),
    ):
        assert list(make(1)) == list(make(1)) != list(make(2))


def test_a_decoder_takes_them_all_and_stays_as_it_was(tmp_path: Path, jpeg: bytes) -> None:
    # Whoever follows a reference finds a video here, which a text as secret would not give.
    secret = write_video(tmp_path / f"{CANARY}.mp4", frames=10)
    outcomes: list[tuple[Upload, str]] = []
    with socket.create_server(("127.0.0.1", 0)) as server, IsolatedDecoder(decode_limits(UPLOADS)) as decoder:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/{CANARY}.mp4"
        for upload in hostile_uploads(7, COUNT, secret, address):
            started = time.monotonic()
            outcomes.append((upload, taken(decoder, upload, tmp_path)))
            assert time.monotonic() - started < 15, upload.kind
            decoder.check_image(jpeg)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert taken(decoder, Upload("good", "video", "", "", secret.read_bytes()), tmp_path) == "frames"
    for upload, outcome in outcomes:
        assert outcome, upload.kind
        assert outcome.isprintable(), (upload.kind, outcome)
        assert CANARY not in outcome, (upload.kind, outcome)
        assert upload.kind not in ("reference", "address", "other format", "noise") or outcome != "frames", upload
    kinds = Counter(upload.kind for upload, _ in outcomes)
    assert len(kinds) == 17
    assert min(kinds.values()) >= 7
    frames = sum(outcome == "frames" for _, outcome in outcomes)
    assert 5 < frames < COUNT / 2, "some damage is slight, and most is not"
    no_decoder_stays()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with on_a_port(InProcessBackend(ApiOptions(uploads=UPLOADS.model_copy(update={"max_bytes": 1024**2})))) as address:
        yield f"{address}/v1/predict"


@pytest.mark.parametrize("fps", ["1e-320", "1e-300", "1e-12"])
def test_a_rate_that_puts_images_beyond_all_times(url: str, jpeg: bytes, fps: str) -> None:
    answer = httpx.post(url, files=[("images", ("a.jpg", jpeg))] * 2, data={"fps": fps}, timeout=30)
    assert answer.status_code in (200, 400, 422), answer.text
    windows = answer.json().get("windows", [])
    assert all(window["window"]["start_us"] <= MAX_PTS_US for window in windows)


def test_too_large_a_body_is_refused_like_everything_else(url: str) -> None:
    answer = httpx.post(url, files={"video": ("a.mp4", bytes(3 * 1024**2))}, timeout=30)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["detail"]
    assert answer.headers["content-security-policy"]
