"""A thousand hostile uploads over HTTP: no status above 499, nothing that hangs, nothing that stays or leaks."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from ray_fer.serving.options import ApiOptions, UploadLimits
from tests.hostile_uploads import CANARY, Upload, hostile_uploads
from tests.serving.api_backend import InProcessBackend, decoders, on_a_port

COUNT = 1000
LIMITS = UploadLimits(
    max_bytes=4 * 1024**2, max_seconds=10, max_frames=1000, max_decode_seconds=5, at_once=4, wait_s=120
)
FINE = {200, 400, 413, 422}
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
    yield f"http://127.0.0.1:{server.server_address[1]}/{CANARY}.ts", asked
    server.shutdown()
    server.server_close()
    thread.join()


def send(client: httpx.Client, url: str, upload: Upload) -> tuple[int, float, str]:
    """Status, seconds, and the text of the answer."""
    started = time.monotonic()
    file = (upload.filename, upload.data, upload.content_type or None)
    answer = client.post(url, files=[(upload.field, file)], timeout=LONGEST_S)
    return answer.status_code, time.monotonic() - started, answer.text


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
    memory, handles = [], []
    uploads = list(hostile_uploads(1, COUNT, secret, visited[0]))
    with on_a_port(InProcessBackend(ApiOptions(uploads=LIMITS))) as address, ThreadPoolExecutor(4) as pool:
        url = f"{address}/v1/predict"
        good = Upload("good", "video", "face.mp4", "video/mp4", (media / "single_face.mp4").read_bytes())
        with httpx.Client() as client:
            for half in ([good], uploads[: COUNT // 2], uploads[COUNT // 2 :], [good]):
                done = [(one, pool.submit(send, client, url, one)) for one in half]
                for upload, answer in done:
                    status, seconds, text = answer.result()
                    statuses[status] += 1
                    assert status in FINE, (upload.kind, upload.filename, status, text[:300])
                    assert seconds < LONGEST_S, (upload.kind, seconds)
                    assert CANARY not in text, upload.kind
                    assert str(temporary) not in text, upload.kind
                    if status != 200:
                        assert json.loads(text)["detail"], upload.kind
                gc.collect()
                memory.append(me.memory_info().rss)
                handles.append(me.num_fds())
        assert status == 200, "a good upload is not answered afterwards"
        deadline = time.monotonic() + 10
        while list(temporary.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(temporary.iterdir()) == []
        assert decoders() == []
    assert visited[1] == [], "an address in an upload was followed"
    assert memory[2] - memory[1] < 60e6, [round(size / 1e6) for size in memory]
    assert handles[2] <= handles[1] + 4
    assert statuses[400] > COUNT / 2
