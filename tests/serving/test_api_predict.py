"""`POST /v1/predict` over HTTP, with the packaged model: what comes out, and what is refused how."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest

from ray_fer.bundle import PACKAGED, BundleError, release
from ray_fer.models.transform import TransformConfig
from ray_fer.serving import uploads
from ray_fer.serving.inference import Stages
from ray_fer.serving.options import ApiOptions, UploadLimits
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.windows import WindowConfig
from ray_fer.video.limits import MediaError
from tests.serving.api_backend import InProcessBackend, decoders, on_a_port

TIMEOUT_S = 60
LIMITS = UploadLimits(max_bytes=3 * 1024**2, max_seconds=20, max_images=40, max_windows=300, at_once=2, wait_s=0.5)


@pytest.fixture(scope="module")
def backend() -> InProcessBackend:
    return InProcessBackend(ApiOptions(uploads=LIMITS))


@pytest.fixture(scope="module")
def url(backend: InProcessBackend) -> Iterator[str]:
    with on_a_port(backend) as address:
        yield f"{address}/v1/predict"


def post(url: str, **arguments: Any) -> httpx.Response:
    return httpx.post(url, timeout=TIMEOUT_S, **arguments)


def video(path: Path) -> dict[str, Any]:
    return {"video": (path.name, path.read_bytes(), "video/mp4")}


def same(one: Prediction, other: Prediction) -> bool:
    """Whether two predictions say the same of the same window of differently named streams."""
    return (
        (one.window, one.status, one.expression) == (other.window, other.status, other.expression)
        and np.allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-4)
        and np.allclose(list(one.action_units.values()), list(other.action_units.values()), atol=1e-3)
    )


def test_a_video_gives_what_predict_gives(url: str, media: Path) -> None:
    for name in ("single_face.mp4", "face_noface.mov"):
        answer = post(url, files=video(media / name))
        assert answer.status_code == 200, answer.text
        result = answer.json()
        windows = [Prediction.model_validate(one) for one in result["windows"]]
        expected = list(predict_video(PACKAGED, media / name))
        assert len(windows) == len(expected) > 2
        assert all(same(one, other) for one, other in zip(windows, expected, strict=True))
        assert result["model"] == {"name": "cafer-synthfer", "version": release(PACKAGED)}
        assert {one.stream_id for one in windows} == {result["stream_id"]}
        assert result["broken"] == []


def test_windows_as_lines_of_another_model_and_other_windows(url: str, media: Path) -> None:
    with httpx.stream(
        "POST", f"{url}?format=ndjson&model=other&size=2&stride=0.5", files=video(media / "single_face.mp4"),
        timeout=TIMEOUT_S,
    ) as answer:  # fmt: skip
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert lines[-1] == {"type": "end", "windows": len(lines) - 1}
    windows = [Prediction.model_validate(line["prediction"]) for line in lines[:-1]]
    config = WindowConfig(size=2, stride=0.5, frames=16)
    expected = list(predict_video(PACKAGED, media / "single_face.mp4", config))
    assert all(same(one, other) for one, other in zip(windows, expected, strict=True))
    assert {one.model.name for one in windows} == {"other"}


def test_images_with_their_times_and_one_that_is_broken(url: str, media: Path) -> None:
    frames = list(video_messages(media / "single_face.mp4", "s"))[::3]
    images = [("images", (f"{number}.jpg", frame.payload, "image/jpeg")) for number, frame in enumerate(frames)]
    times = [str(frame.pts_us) for frame in frames]
    whole = post(url, files=images, data={"pts_us": times}).json()
    assert [one["window"]["index"] for one in whole["windows"]] == [0, 1, 2]
    assert whole["windows"][0]["window"]["frames"] == len(frames)
    assert {one["status"] for one in whole["windows"]} == {"ok"}
    images[4] = ("images", ("cut.jpg", frames[4].payload[:-400], "image/jpeg"))
    broken = post(url, files=images, data={"pts_us": times}).json()
    assert [one["item"] for one in broken["broken"]] == ["cut.jpg"]
    assert "truncated JPEG" in broken["broken"][0]["reason"]
    assert broken["windows"][0]["window"]["frames"] == len(frames) - 1
    by_rate = post(url, files=images[:4], data={"fps": "2"}).json()
    assert by_rate["windows"][-1]["window"]["index"] == 1


@pytest.mark.parametrize(
    ("query", "files", "data", "status", "reason"),
    [
        ("", {}, {}, 400, "send one of"),
        ("", {"video": ("a.mp4", b"x")}, {"url": "http://a/b"}, 400, "send one of"),
        ("?model=none", {"video": ("a.mp4", b"x")}, {}, 404, "choose one of cafer-synthfer, other"),
        ("?size=1&stride=2", {"video": ("a.mp4", b"x")}, {}, 400, "stride 2 s exceeds size 1 s"),
        ("?format=xml", {"video": ("a.mp4", b"x")}, {}, 422, "format"),
        ("", {"video": ("a.mp4", b"no video at all")}, {}, 400, "not a readable video"),
        ("", {"video": ("a.mp4", b"")}, {}, 400, "the file is empty"),
        ("?format=ndjson", {"video": ("a.mp4", b"no video")}, {}, 400, "not a readable video"),
        ("", {"images": ("a.jpg", b"GIF89a")}, {}, 400, "neither a JPEG nor a PNG"),
        ("", {"images": ("a.jpg", b"\xff\xd8\xff")}, {"pts_us": ["1", "2"]}, 400, "1 images and 2 times"),
        ("", {}, {"url": "file:///etc/passwd"}, 400, "give an http:// or https:// address"),
        ("", {}, {"url": "http://169.254.169.254/latest"}, 403, "--allow-host 169.254.169.254"),
        ("", {}, {"url": "http://user:secret@host/"}, 400, "without a user's name"),
    ],
)  # fmt: skip
def test_what_is_refused(
    url: str, query: str, files: dict[str, Any], data: dict[str, Any], status: int, reason: str
) -> None:
    answer = post(url + query, files=files or None, data=data)
    assert answer.status_code == status, answer.text
    assert reason in json.dumps(answer.json(), ensure_ascii=False)


def test_too_large_too_long_too_many(url: str, media: Path, tmp_path: Path) -> None:
    large = post(url, files={"video": ("a.mp4", bytes(LIMITS.max_bytes + 2 * 1024**2))})
    assert large.status_code == 413
    many = [("images", (f"{number}.jpg", b"x")) for number in range(LIMITS.max_images + 1)]
    answer = post(url, files=many)
    assert (answer.status_code, answer.json()["detail"]) == (413, "41 images; send at most 40, or a video")
    short = ApiOptions(uploads=LIMITS.model_copy(update={"max_seconds": 1.0}))
    with on_a_port(InProcessBackend(short)) as address:
        answer = post(f"{address}/v1/predict", files=video(media / "single_face.mp4"))
        assert answer.status_code == 400
        assert "longer than" in answer.json()["detail"]
    images = {"images": ("a.jpg", (media / "multi_face.jpg").read_bytes())}
    answer = post(f"{url}?size=600&stride=0.05", files=images, data={"pts_us": "60000000"})
    assert (answer.status_code, answer.json()["detail"]) == (
        413, "1201 windows of 600 s, one every 0.05 s; a request may ask for 300: choose a longer stride, or send less"
    )  # fmt: skip


@pytest.fixture
def file_server(media: Path) -> Iterator[str]:
    """host:port of a server with a video, a redirection, and one file that is too large."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/single_face.mp4")
                self.end_headers()
                return
            self.send_response(200 if self.path != "/none" else 404)
            self.end_headers()
            content = bytes(LIMITS.max_bytes + 1) if self.path == "/large" else (media / "single_face.mp4").read_bytes()
            try:
                self.wfile.write(content)
            except OSError:  # the client has seen enough
                return

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_address_of_an_allowed_host(file_server: str, media: Path) -> None:
    backend = InProcessBackend(ApiOptions(uploads=LIMITS, allow_hosts=[file_server]))
    with on_a_port(backend) as address:
        url = f"{address}/v1/predict"
        found = post(url, data={"url": f"http://{file_server}/single_face.mp4"}).json()
        expected = list(predict_video(PACKAGED, media / "single_face.mp4"))
        windows = [Prediction.model_validate(one) for one in found["windows"]]
        assert all(same(one, other) for one, other in zip(windows, expected, strict=True))
        for path, status, reason in (
            ("none", 400, "answers with status 404"),
            ("moved", 400, "answers with status 302; give the file's own address"),
            ("large", 413, "send a shorter one"),
        ):
            answer = post(url, data={"url": f"http://{file_server}/{path}"})
            assert (answer.status_code, reason in answer.json()["detail"]) == (status, True), answer.text


def test_a_model_that_does_not_answer(media: Path) -> None:
    backend = InProcessBackend()

    def away(clips: list[np.ndarray], model: object) -> np.ndarray:
        raise TimeoutError("no replica")

    usual = backend.stages()
    backend.replaced_stages = Stages(usual.find_faces, away)
    with on_a_port(backend) as address:
        answer = post(f"{address}/v1/predict", files=video(media / "single_face.mp4"))
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the model does not answer; try again"
        assert int(answer.headers["retry-after"]) > 0


def test_when_all_turns_are_taken_others_wait_and_are_told(media: Path) -> None:
    backend = InProcessBackend(ApiOptions(uploads=LIMITS.model_copy(update={"at_once": 1})))
    usual, held = backend.stages(), []

    def slow(requests: list[Any], transform: TransformConfig) -> Any:
        held.append(1)
        time.sleep(2)
        return usual.find_faces(requests, transform)

    backend.replaced_stages = Stages(slow, usual.classify)
    with on_a_port(backend) as address:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(post(f"{address}/v1/predict", files=video(media / "single_face.mp4")).status_code)

        threads = [Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [200, 503]


def test_nothing_stays_of_an_upload_that_its_sender_gives_up(
    media: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backend = InProcessBackend()
    usual = backend.stages()

    def slow(requests: list[Any], transform: TransformConfig) -> Any:
        time.sleep(1)
        return usual.find_faces(requests, transform)

    backend.replaced_stages = Stages(slow, usual.classify)
    with on_a_port(backend) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/predict?format=ndjson", files=video(media / "single_face.mp4"), timeout=0.3)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if not list(tmp_path.iterdir()) and not decoders():
                break
            time.sleep(0.1)
        assert not list(tmp_path.iterdir())
        assert decoders() == []
        assert post(f"{address}/v1/predict", files=video(media / "single_face.mp4")).status_code == 200


@pytest.fixture
def hostile_server() -> Iterator[str]:
    """host:port of a server that never ends, drop by drop, and of one whose answer grows when it is unpacked."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/packed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            try:
                self.wfile.write(gzip.compress(bytes(10**6)) if self.path == "/packed" else b"")
                while self.path == "/drops":
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                return

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_allowed_host_that_means_harm(hostile_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_FETCH_S", 1.0)
    with ExitStack() as stack:
        for path, reason in (("drops", "takes longer than 1 s to give the file"), ("packed", "in the encoding gzip")):
            began = time.monotonic()
            with pytest.raises(MediaError, match=reason):
                uploads.fetched(f"http://{hostile_server}/{path}", [hostile_server], LIMITS, stack)
            assert time.monotonic() - began < 5


def test_more_images_than_a_form_usually_holds() -> None:
    limits = UploadLimits(max_images=1100)
    with on_a_port(InProcessBackend(ApiOptions(uploads=limits))) as address:
        images = [("images", (f"{number}.jpg", b"x", "image/jpeg")) for number in range(1101)]
        data = {"pts_us": [str(number) for number in range(1100)]}
        few = post(f"{address}/v1/predict", files=images[:1100], data=data)
        assert (few.status_code, few.json()["detail"]) == (400, "neither a JPEG nor a PNG")
        many = post(f"{address}/v1/predict", files=images, data=data)
        assert (many.status_code, many.json()["detail"]) == (413, "1101 images; send at most 1100, or a video")


def test_a_bundle_that_breaks_after_it_was_listed(media: Path) -> None:
    backend = InProcessBackend()

    def broken(clips: list[np.ndarray], model: object) -> np.ndarray:
        raise BundleError("model.safetensors is cut off")

    backend.replaced_stages = Stages(backend.stages().find_faces, broken)
    with on_a_port(backend) as address:
        answer = post(f"{address}/v1/predict", files=video(media / "single_face.mp4"))
        assert (answer.status_code, answer.json()["detail"]) == (503, "the model does not answer; try again")
