"""A thousand hostile uploads and requests over HTTP: no status above 499, and nothing that hangs, stays or leaks."""

from __future__ import annotations

import gc
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
import psutil
import pytest

from ray_fer.serving.options import ApiOptions, UploadLimits
from tests.hostile_uploads import CANARY, RawRequest, Upload, hostile_uploads, malformed_requests
from tests.serving.api_backend import InProcessBackend, decoders, on_a_port

T = TypeVar("T")

COUNT, MALFORMED = 1000, 160
LIMITS = UploadLimits(
    max_bytes=4 * 1024**2, max_seconds=10, max_frames=1000, max_decode_seconds=5, at_once=4, wait_s=120
)
FINE = {200, 400, 403, 404, 422}  # nothing here is larger than the limit
LONGEST_S = 60.0


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """Address of a web server, and which of its paths were asked for."""
    asked: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/picture.ts", asked
    server.shutdown()
    server.server_close()
    thread.join()


class Answer(NamedTuple):
    """What came back, and after how many seconds."""

    status: int
    seconds: float
    text: str


def send(client: httpx.Client, url: str, sent: Upload | RawRequest) -> Answer:
    """The answer to one of them."""
    started = time.monotonic()
    if isinstance(sent, RawRequest):
        headers = [(name.encode(), value.encode("latin-1")) for name, value in sent.headers.items()]
        answer = client.post(url + sent.query, headers=headers, content=sent.body, timeout=LONGEST_S)
    elif sent.field == "url":
        answer = client.post(url, data={"url": sent.data.decode()}, timeout=LONGEST_S)
    else:
        file = (sent.filename, sent.data, sent.content_type or None)
        answer = client.post(url, files=[(sent.field, file)], timeout=LONGEST_S)
    return Answer(answer.status_code, time.monotonic() - started, answer.text)


def reasons(text: str) -> list[str]:
    """What a refusal says: its one line, or one for each parameter that is wrong."""
    detail = json.loads(text)["detail"]
    return [detail] if isinstance(detail, str) else [one["msg"] for one in detail]


@pytest.mark.timeout(600)
def test_a_thousand_hostile_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visited: tuple[str, list[str]], media: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    secret = tmp_path / "secret.txt"
    secret.write_text(CANARY * 100)
    me = psutil.Process()
    statuses: Counter[int] = Counter()
    memory: list[int] = []
    handles: list[int] = []
    good = Upload("good", "video", "face.mp4", "video/mp4", (media / "single_face.mp4").read_bytes())
    hostile: list[Upload | RawRequest] = [*hostile_uploads(1, COUNT - MALFORMED, secret, visited[0])]
    hostile += malformed_requests(1, MALFORMED)
    random.Random(1).shuffle(hostile)
    with on_a_port(InProcessBackend(ApiOptions(uploads=LIMITS))) as address:
        url = f"{address}/v1/predict"
        for part in ([good], hostile[: COUNT // 2], hostile[COUNT // 2 :], [good]):
            with httpx.Client() as client, ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(partial(send, client, url), part))
            for sent, answer in zip(part, answers, strict=True):
                statuses[answer.status] += 1
                said = (sent.kind, sent[1:-1], answer.text[:300])
                assert answer.status in FINE, (answer.status, *said)
                assert answer.seconds < LONGEST_S, (answer.seconds, *said)
                assert CANARY not in answer.text, said
                assert str(temporary) not in answer.text, said
                if answer.status != 200:
                    lines = reasons(answer.text)
                    assert lines, said
                    assert all(line and "\n" not in line for line in lines), said
            gc.collect()
            memory.append(me.memory_info().rss)
            handles.append(settled(lambda: me.num_fds(), lambda now: not handles or now <= handles[0]))
        assert answers[0].status == 200, "a good upload is not answered afterwards"
        assert settled(lambda: list(temporary.iterdir()), lambda files: not files) == []
        assert settled(decoders, lambda left: not left) == []
    assert visited[1] == [], "an address in an upload was followed"
    assert memory[2] - memory[1] < 60e6, [round(size / 1e6) for size in memory]
    assert max(handles) <= handles[0], handles
    assert statuses[400] > COUNT / 2
    assert statuses.keys() >= FINE, "each kind of answer has been looked at"


def settled(look: Callable[[], T], well: Callable[[T], bool]) -> T:
    """What `look` sees as soon as it is well, or after ten seconds."""
    deadline = time.monotonic() + 10
    while not well(now := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return now
