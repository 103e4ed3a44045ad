"""Who is let in, and what happens before, and to those who may not stay."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ray_fer.serving.keys import KeyRing, add_key, remove_key
from ray_fer.serving.options import LOOPBACK, ApiOptions, UploadLimits
from tests.predictions import prediction
from tests.serving.api_backend import InProcessBackend, on_a_port
from tests.serving.test_api_live import closed_with, frame, live, started

OPEN = {"/healthz", "/readyz"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def key(file: Path) -> str:
    return add_key(file, "lab")


@pytest.fixture
def with_keys(key: str, file: Path) -> Iterator[str]:
    with on_a_port(InProcessBackend(keys=KeyRing.load(file))) as url:
        yield url


def answer_to(url: str, *pieces: bytes, within_s: float = 10) -> str:
    """What a server says to these bytes and no more."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=within_s) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(4096).decode()


def upload_head(length: int) -> bytes:
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    ).encode()


def test_nothing_is_read_of_who_shows_no_key(with_keys: str) -> None:
    assert answer_to(with_keys, upload_head(100_000_000)).startswith("HTTP/1.1 401 ")


def test_every_endpoint_asks_for_a_key_but_those_of_load_balancers(with_keys: str) -> None:
    endpoints = [
        (method, path.replace("{stream_id}", "s"))
        for path, operations in httpx.get(f"{with_keys}/openapi.json").json()["paths"].items()
        for method in operations
    ]
    assert len(endpoints) >= 10
    for method, path in endpoints:
        status = httpx.request(method, with_keys + path).status_code
        assert status == (200 if path in OPEN else 401), (method, path)
    assert httpx.get(f"{with_keys}/v1/nowhere").status_code == 401


def test_a_body_that_does_not_come() -> None:
    limits = UploadLimits(max_receive_seconds=1)
    with on_a_port(InProcessBackend(ApiOptions(uploads=limits))) as url:
        said = answer_to(url, upload_head(1000), b"--b\r\n")
        assert said.startswith("HTTP/1.1 408 "), said
        assert "longer than 1 s" in said
        # The time is of the body alone, not of the answer.
        with httpx.stream("GET", f"{url}/v1/events", timeout=5) as answer:
            time.sleep(1.5)
            assert answer.status_code == 200


def test_another_name_that_points_here() -> None:
    backend = InProcessBackend(ApiOptions(hosts=list(LOOPBACK)))
    with on_a_port(backend) as url:
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"):
            assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == 200, host
        for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "[", ""):
            refused = httpx.get(f"{url}/v1/models", headers={"Host": host})
            assert refused.status_code == 403, host
        assert "answers to 127.0.0.1, localhost, ::1" in refused.json()["detail"]
        upgrade = (
            "GET /v1/live HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert answer_to(url, upgrade.encode()).startswith("HTTP/1.1 403 ")


def test_a_page_from_elsewhere_opens_no_camera(with_keys: str, key: str) -> None:
    with on_a_port(InProcessBackend(ApiOptions(cors_origins=["https://lab.example"]))) as url:
        for origin in (None, url, "https://lab.example"):
            connect(live(url), origin=origin).close()  # type: ignore[arg-type]
        with pytest.raises(InvalidStatus, match="403"), connect(live(url), origin="https://evil.example"):  # type: ignore[arg-type]
            pass
    # Where a key is needed the page would have to know it.
    connect(live(with_keys), origin="https://app.example").close()  # type: ignore[arg-type]


def test_a_key_that_is_removed_ends_what_goes_on(with_keys: str, key: str, file: Path, jpeg: bytes) -> None:
    camera = started(live(with_keys), key=key)
    camera.send(frame(0, jpeg))
    ended = threading.Event()

    def listen() -> None:
        with httpx.stream(
            "GET", f"{with_keys}/v1/events", headers={"Authorization": f"Bearer {key}"}, timeout=20
        ) as answer:
            assert answer.status_code == 200
            listening.set()
            for _ in answer.iter_lines():
                pass
        ended.set()

    listening = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    assert listening.wait(10)
    assert not ended.wait(1.5)
    remove_key(file, "lab")
    assert ended.wait(10)
    camera.send(frame(100_000, jpeg))
    assert closed_with(camera) == (1008, "this API key has been removed")


def test_listeners_leave_room_for_others() -> None:
    backend = InProcessBackend(ApiOptions(listeners_at_once=1))
    assert backend.feed is not None
    backend.feed.add(0, 0, prediction(0, "Happy").to_bytes())
    with on_a_port(backend) as url, httpx.Client(timeout=5) as others:
        with httpx.stream("GET", f"{url}/v1/events?backlog=1", timeout=5) as first:
            lines = first.iter_lines()
            assert next(lines)
            refused = others.get(f"{url}/v1/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert others.get(f"{url}/v1/models").status_code == 200
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with others.stream("GET", f"{url}/v1/events") as again:
                if again.status_code == 200:
                    return
            time.sleep(0.1)
    raise AssertionError("the place of a listener who has gone stays taken")
