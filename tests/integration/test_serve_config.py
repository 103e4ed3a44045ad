"""`serve deploy cluster/serve.yaml` on a Ray of its own: all endpoints, and another model while windows go on."""

from __future__ import annotations

import json
import shutil
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.sync.client import connect

from ray_fer.bundle import PACKAGED, release
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.broker import free_port
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.source import video_messages
from tests.integration.conftest import REPOSITORY
from tests.integration.ray_head import RayHead, ray_cluster
from tests.integration.serve_traffic import STREAMS, Page, Traffic, flowing, own_topics, traffic_on, windows_until
from tests.integration.stream_faults import wait_for
from tests.serving.test_api_predict import same

API_REPLICA, FACE_REPLICA = "ServeReplica:ray-fer:Api", "ServeReplica:ray-fer:Faces"

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture
def head(environment: dict[str, str]) -> Iterator[RayHead]:
    with ray_cluster(environment, None) as one:
        yield one


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return own_topics(kafka)


@pytest.fixture
def traffic(settings: KafkaSettings, jpeg: bytes, media: Path) -> Iterator[Traffic]:
    with traffic_on(settings, jpeg, media) as one:
        yield one


class Deployment:
    """The config file of the repository, made small, and changed from time to time."""

    def __init__(self, head: RayHead, kafka: KafkaSettings, file: Path) -> None:
        self._head, self._file = head, file
        self.config: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster" / "serve.yaml").read_text())
        self.port = free_port()
        self.config["http_options"]["port"] = self.port
        (application,) = self.config["applications"]
        self.arguments = application["args"]
        self.arguments |= {"workers": 1, "faces": 1, "expressions": 1, "kafka": kafka.model_dump(mode="json")}
        self.arguments["stream"]["windows"] |= {"allowed_lateness": 0.2, "idle_timeout": 300}
        (self.api,) = application["deployments"]
        self.url = f"http://127.0.0.1:{self.port}"

    def deploy(self, models: dict[str, Any]) -> None:
        self.api["user_config"] = models
        self._file.write_text(yaml.safe_dump(self.config))
        done = self._head.deploy(self._file)
        assert done.returncode == 0, done.stdout + done.stderr

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def served(self) -> dict[str, Any]:
        """`GET /v1/models`, {} while nobody answers."""
        try:
            answer = httpx.get(f"{self.url}/v1/models", timeout=5)
        except httpx.HTTPError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}

    def versions(self) -> dict[str, str]:
        return {one["role"]: one["version"] for one in self.served().get("models", [])}


def test_another_model_takes_over_and_no_window_is_lost(
    head: RayHead,
    settings: KafkaSettings,
    traffic: Traffic,
    tmp_path: Path,
    media: Path,
) -> None:
    candidate = tmp_path / "candidate"
    shutil.copytree(PACKAGED, candidate)
    config = json.loads((candidate / "config.json").read_text())
    (candidate / "config.json").write_text(json.dumps(config | {"version": "0.2.0"}))
    old, new = release(PACKAGED), release(candidate)
    deployment = Deployment(head, settings, tmp_path / "serve.yaml")
    deployment.deploy({"models": {"fer": "packaged"}})
    wait_for(deployment.ready, "the application did not come up", within_s=180)
    page = Page(deployment.url)
    _ask_everything(deployment.url, media, old)

    with flowing(traffic):
        wait_for(lambda: _answered(traffic)[old] > len(STREAMS), "no window was answered")
        replicas = _replicas(page)
        deployment.deploy({"models": {"fer": str(candidate), "old": "packaged"}})
        wait_for(lambda: deployment.versions().get("default") == new, "the new list of models never came")
        wait_for(lambda: _answered(traffic)[new] > len(STREAMS), "the new model answers nothing")
        deployment.deploy({"models": {"fer": str(tmp_path / "nowhere")}})
        wait_for(lambda: "no such bundle" in (deployment.served().get("refused") or ""), "a bad list is not refused")
        assert deployment.versions()["default"] == new
        half = {"model": "old", "fraction": 0.5}
        deployment.deploy(
            {"models": {"fer": str(candidate), "old": "packaged"}, "default": "fer", "canary": half, "shadow": half}
        )
        wait_for(lambda: deployment.versions().get("canary") == old, "no canary")
        before = _answered(traffic)[old]
        wait_for(lambda: _answered(traffic)[old] > before, "the canary answers nothing")
        assert _replicas(page) == replicas, "a replica was restarted"
    wanted = windows_until(traffic.seconds)
    wait_for(lambda: traffic.read().keys() >= wanted, "windows are missing")
    time.sleep(2)
    assert traffic.read() == Counter(dict.fromkeys(wanted, 1))
    assert page.total("ray_fer_model_failures_total") == 0
    models = {one.model.name for one in traffic.predictions}
    assert models == {"fer", "old"}

    # Serve keeps the refused list, and gives it to a replica that comes in the place of a dead one.
    deployment.deploy({"models": {"fer": str(tmp_path / "nowhere")}})
    wait_for(lambda: deployment.served().get("refused"), "a bad list is not refused")
    (api,) = head.workers(API_REPLICA)
    api.kill()
    api.wait(10)
    wait_for(deployment.served, "the API did not come back", within_s=60)
    assert "no such bundle" in deployment.served()["refused"]
    assert deployment.versions() == {"default": new, "canary": old, "shadow": old}
    assert page.total("ray_fer_models_refused") == 1


def test_faces_are_found_by_more_replicas_while_there_is_more_to_do(
    head: RayHead, settings: KafkaSettings, tmp_path: Path, media: Path
) -> None:
    deployment = Deployment(head, settings, tmp_path / "serve.yaml")
    deployment.arguments |= {"faces": "1-2", "scaling": {"look_back": 10.5, "upscale_delay": 1, "downscale_delay": 5}}
    deployment.deploy({"models": {"fer": "packaged"}})
    wait_for(deployment.ready, "the application did not come up", within_s=180)
    assert len(head.workers(FACE_REPLICA)) == 1
    video, stop = (media / "single_face.mp4").read_bytes(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = httpx.post(f"{deployment.url}/v1/predict", files={"video": ("a.mp4", video)}, timeout=120)
            assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask) for _ in range(4)]
        try:
            wait_for(lambda: len(head.workers(FACE_REPLICA)) == 2, "no second replica came", within_s=90)
        finally:
            stop.set()
    for one in asking:
        one.result()
    wait_for(lambda: len(head.workers(FACE_REPLICA)) == 1, "the second replica stays", within_s=90)


def _answered(traffic: Traffic) -> Counter[str]:
    """Windows by the version that answered them."""
    traffic.read()
    return Counter(one.model.version for one in traffic.predictions)


def _replicas(page: Page) -> set[str]:
    """Of the workers and of the API."""
    apis = {labels["replica"] for labels, _ in page.metric("ray_fer_api_seconds_count")}
    return apis | set(page.owners().values())


def _ask_everything(url: str, media: Path, version: str) -> None:
    """Every endpoint through Serve's own proxy."""
    expected = list(predict_video(PACKAGED, media / "single_face.mp4"))
    video = {"video": ("face.mp4", (media / "single_face.mp4").read_bytes(), "video/mp4")}
    whole = httpx.post(f"{url}/v1/predict", files=video, timeout=60)
    assert whole.status_code == 200, whole.text
    windows = [Prediction.model_validate(one) for one in whole.json()["windows"]]
    assert all(same(one, other) for one, other in zip(windows, expected, strict=True))
    assert {one.model.version for one in windows} == {version}
    with httpx.stream("POST", f"{url}/v1/predict?format=ndjson", files=video, timeout=60) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert [line["type"] for line in lines] == ["window"] * len(expected) + ["end"]
    large = httpx.post(f"{url}/v1/predict", files={"video": ("none.mp4", bytes(1000))}, timeout=60)
    assert (large.status_code, "not a readable video" in large.text) == (400, True)

    with connect(f"{url.replace('http', 'ws')}/v1/live", max_size=2**24) as socket:
        socket.send(json.dumps({"type": "start"}))
        assert json.loads(socket.recv(timeout=30))["type"] == "ready"
        for message in video_messages(media / "single_face.mp4", "s"):
            socket.send(struct.pack(">Q", message.pts_us) + message.payload)
        socket.send('{"type": "end"}')
        live = [json.loads(message) for message in socket]
    assert [one["type"] for one in live] == ["window"] * len(expected) + ["end"]

    assert httpx.get(f"{url}/v1/streams", timeout=10).json() == []
    assert httpx.get(f"{url}/v1/statistics", timeout=10).json()["total"]["records"] == 0
    assert "ray_fer_model_info" in httpx.get(f"{url}/metrics", timeout=10).text
    assert "<title>" in httpx.get(f"{url}/", timeout=10).text
    assert httpx.get(f"{url}/openapi.json", timeout=10).json()["info"]["title"] == "ray_fer"
