"""The endpoints of the streams and of the deployment's state, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ray_fer.serving.catalogue import Share
from ray_fer.streaming.messages import Prediction
from tests.predictions import prediction
from tests.serving.api_backend import InProcessBackend, on_a_port


@pytest.fixture
def backend() -> InProcessBackend:
    return InProcessBackend()


@pytest.fixture
def url(backend: InProcessBackend) -> Iterator[str]:
    with on_a_port(backend) as address:
        yield address


def put(backend: InProcessBackend, stream_id: str, index: int, partition: int = 0) -> None:
    """A prediction that has come through Kafka."""
    assert backend.feed is not None
    one = prediction(index, "Happy").model_copy(update={"stream_id": stream_id})
    backend.feed.add(partition, backend.feed.positions.get(partition, 0), one.to_bytes())


class Listener:
    """Server-sent events of an address, as they come."""

    def __init__(self, url: str, count: int, headers: dict[str, str] | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.began = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(url, count, headers or {}), daemon=True)
        self._thread.start()
        assert self.began.wait(10)

    def _listen(self, url: str, count: int, headers: dict[str, str]) -> None:
        with httpx.stream("GET", url, headers=headers, timeout=20) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            self.began.set()
            found: dict[str, str] = {}
            for line in answer.iter_lines():
                if line:
                    name, _, value = line.partition(":")
                    found[name] = value.strip()
                elif "data" in found:
                    assert found["event"] == "window"
                    self.events.append((found["id"], json.loads(found["data"])))
                    found = {}
                if len(self.events) == count:
                    return

    def heard(self) -> list[tuple[str, int]]:
        """(stream, window) of all events, when all have come."""
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), f"only {len(self.events)} events came"
        return [(one["stream_id"], one["window"]["index"]) for _, one in self.events]


def test_windows_come_as_they_are_known_and_who_comes_back_goes_on(backend: InProcessBackend, url: str) -> None:
    for index in range(3):
        put(backend, "a", index, partition=0)
        put(backend, "b", index, partition=1)
    listener = Listener(f"{url}/v1/events?backlog=2", 4)
    put(backend, "a", 3)
    put(backend, "b", 3, partition=1)
    assert listener.heard() == [("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    second = listener.events[1][0]
    again = Listener(f"{url}/v1/events", 2, {"Last-Event-ID": second})
    assert again.heard() == [("a", 3), ("b", 3)]


def test_events_of_one_stream_whatever_its_name(backend: InProcessBackend, url: str) -> None:
    name = "ward 3/bed #2?<b>&%é\nnorth"
    put(backend, name, 0)
    put(backend, "other", 0)
    listener = Listener(f"{url}/v1/streams/{quote(name, safe='')}/events?backlog=5", 2)
    put(backend, "other", 1)
    put(backend, name, 1)
    assert listener.heard() == [(name, 0), (name, 1)]
    known = httpx.get(f"{url}/v1/streams/{quote(name, safe='')}/windows").json()
    assert [Prediction.model_validate(one).window.index for one in known] == [0, 1]
    assert httpx.get(f"{url}/v1/streams/{quote(name, safe='')}/windows?limit=1").json() == known[1:]


def test_figures_of_streams_and_workers(backend: InProcessBackend, url: str) -> None:
    for stream in ("a", "b", "c"):
        backend.worker.frame(stream, "kept", 5_000_000)
    backend.worker.record(b"12345")
    backend.worker.lag_records = {0: 7}
    streams = httpx.get(f"{url}/v1/streams").json()
    assert [one["stream_id"] for one in streams] == ["c", "b", "a"]
    assert streams[0] | {"replica": "worker-a", "frames": 1, "newest_us": 5_000_000, "lag_s": None} == streams[0]
    assert httpx.get(f"{url}/v1/streams?limit=1&offset=1").json() == streams[1:2]
    put(backend, "a", 0)
    statistics = httpx.get(f"{url}/v1/statistics").json()
    assert statistics["total"]["records"] == 1
    assert statistics["total"]["lag_records"] == {"0": 7}
    assert list(statistics["workers"]) == ["worker-a"]
    assert (statistics["predictions"], statistics["unreadable"]) == (1, 0)


def test_a_worker_that_does_not_answer(backend: InProcessBackend, url: str) -> None:
    backend.silent_workers = True
    for path in ("/v1/streams", "/v1/statistics", "/metrics"):
        answer = httpx.get(url + path)
        assert answer.status_code == 503, path
        assert "a stream worker does not answer" in answer.json()["detail"]
    ready = httpx.get(f"{url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["workers"] == "a stream worker does not answer"
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}


def test_without_kafka_there_are_no_streams() -> None:
    with on_a_port(InProcessBackend(streams=False)) as url:
        for path in ("/v1/streams", "/v1/statistics", "/v1/events", "/v1/streams/a/windows", "/v1/streams/a/events"):
            answer = httpx.get(url + path)
            assert answer.status_code == 404, path
            assert "reads no Kafka streams" in answer.json()["detail"]
        assert httpx.get(f"{url}/v1/models").json()["stream"] is False
        assert httpx.get(f"{url}/readyz").json() == {"ready": True, "checks": {"models": "ok"}}


def test_models_and_the_parts_they_play(backend: InProcessBackend, url: str) -> None:
    assert backend.models is not None
    backend.models = replace(backend.models, canary=Share(model="other", fraction=0.25), refused="no such bundle")
    listed = httpx.get(f"{url}/v1/models").json()
    assert [(one["name"], one["role"], one["fraction"]) for one in listed["models"]] == [
        ("cafer-synthfer", "default", None), ("other", "canary", 0.25),
    ]  # fmt: skip
    assert listed["models"][0]["frames"] == 16
    assert len(listed["models"][0]["classes"]) == 7
    assert (listed["default"], listed["refused"]) == ("cafer-synthfer", "no such bundle")
    assert listed["windows"] == {"size": 5.0, "stride": 1.0}
    backend.models = None
    assert httpx.get(f"{url}/v1/models").status_code == 503
    assert httpx.get(f"{url}/readyz").json()["checks"]["models"] == "no models are configured"


def test_metrics_of_workers_requests_and_models(backend: InProcessBackend, url: str) -> None:
    backend.worker.shadow_windows["yes"] += 3
    httpx.get(f"{url}/v1/models")
    httpx.get(f"{url}/v1/nothing/here")
    page = httpx.get(f"{url}/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    samples = [one for family in text_string_to_metric_families(page.text) for one in family.samples]

    def value(name: str, /, **labels: str) -> float:
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    assert value("ray_fer_api_requests_total", endpoint="/v1/models", status="200", replica="api-a") == 1
    assert value("ray_fer_api_requests_total", endpoint="other", status="404") == 1
    assert value("ray_fer_api_seconds_count", endpoint="/v1/models") == 1
    assert value("ray_fer_shadow_windows_total", agreed="yes") == 3
    assert value("ray_fer_model_info", name="cafer-synthfer", role="default") == 1
    assert value("ray_fer_workers") == 1


def test_pages_come_from_here_and_say_so(url: str) -> None:
    page = httpx.get(f"{url}/")
    assert "<title>" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    docs = httpx.get(f"{url}/docs")
    assert docs.status_code == 200
    assert "https://" not in docs.text.replace("https://json-schema.org", "")
    description = httpx.get(f"{url}/openapi.json").json()
    assert {"/v1/predict", "/v1/streams", "/v1/events", "/v1/models", "/metrics", "/healthz", "/readyz"} <= set(
        description["paths"]
    )
    for path, operations in description["paths"].items():
        for operation in operations.values():
            assert operation.get("description"), path
    assert httpx.get(f"{url}/static/../api.py").status_code == 404


def test_other_origins_are_let_in_by_name_alone() -> None:
    from ray_fer.serving.options import ApiOptions

    origin = {"Origin": "https://lab.example"}
    with on_a_port(InProcessBackend()) as url:
        assert "access-control-allow-origin" not in httpx.get(f"{url}/v1/models", headers=origin).headers
    with on_a_port(InProcessBackend(ApiOptions(cors_origins=["https://lab.example"]))) as url:
        allowed = httpx.get(f"{url}/v1/models", headers=origin).headers
        assert allowed["access-control-allow-origin"] == "https://lab.example"
        other = httpx.get(f"{url}/v1/models", headers={"Origin": "https://evil.example"}).headers
        assert "access-control-allow-origin" not in other
