"""Several stream workers in Ray Serve on a real Apache Kafka: figures that add up, and workers that come and go."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import serve
from ray.serve._private.common import DeploymentID
from ray.serve.context import _get_global_client

from ray_fer.bundle import PACKAGED
from ray_fer.serving.app import build
from ray_fer.serving.catalogue import models_of
from ray_fer.serving.local_ray import ray_session
from ray_fer.serving.options import ServingOptions
from ray_fer.serving.serve_stream import serve_stream
from ray_fer.streaming.broker import EmbeddedBroker, free_port
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from tests.integration.serve_traffic import (
    CONFIG,
    SESSION_TIMEOUT_S,
    STREAMS,
    Page,
    Traffic,
    flowing,
    own_topics,
    traffic_on,
    windows_until,
)
from tests.integration.stream_faults import wait_for

APP = "ray-fer-test"


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return own_topics(kafka)


@pytest.fixture
def traffic(settings: KafkaSettings, jpeg: bytes, media: Path) -> Iterator[Traffic]:
    with traffic_on(settings, jpeg, media) as one:
        yield one


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_workers_come_and_go_and_the_figures_add_up(settings: KafkaSettings, traffic: Traffic) -> None:
    def deploy() -> None:
        app = build(
            ServingOptions(
                models=models_of([PACKAGED]), kafka=settings, stream=StreamOptions(windows=CONFIG), faces=1, workers=2
            )
        )
        serve.run(app, name=APP, route_prefix="/", external_scaler_enabled=True)  # so that `_scale` may

    with ray_session():
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
        deploy()
        page = Page(f"http://127.0.0.1:{port}")
        wait_for(lambda: len(set(page.owners().values())) == 2, "two workers never shared the partitions")
        traffic.send(8)
        traffic.send_broken(3)
        wanted = windows_until(8)
        assert len(wanted) == 8 * 3
        wait_for(lambda: traffic.read().keys() >= wanted, "windows of the first part are missing")
        wait_for(lambda: page.total("ray_fer_dead_letters_total") == 3, "dead letters are missing")
        _check_figures(page, traffic)

        with flowing(traffic):
            left = set(page.owners().values())
            started = time.monotonic()
            _scale(1)
            wait_for(
                lambda: len(page.owners()) == 4 and len(set(page.owners().values())) == 1, "partitions are missing"
            )
            assert time.monotonic() - started < SESSION_TIMEOUT_S / 2, "the worker that went did not leave the group"
            assert set(page.owners().values()) < left
            deploy()  # a rolling update: every replica is another one after it
            wait_for(lambda: len(set(page.owners().values())) == 2, "the new workers never shared the partitions")
            assert not left & set(page.owners().values())
        assert traffic.seconds > 8 + 5
        wanted = windows_until(traffic.seconds)
        wait_for(lambda: traffic.read().keys() >= wanted, "windows are missing")
        time.sleep(2)
        assert traffic.read() == Counter(dict.fromkeys(wanted, 1))
        assert len({(one.stream_id, one.window.session) for one in traffic.predictions}) == len(STREAMS)


def test_more_workers_than_partitions_are_refused() -> None:
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, partitions=2)
        options = ServingOptions(models=models_of([PACKAGED]), kafka=settings, workers=3, faces=1)
        with pytest.raises(ValueError, match="3 workers, but topic 'frames' has 2 partitions"):
            serve_stream(options, "127.0.0.1", 1, wait=False)


def _check_figures(page: Page, traffic: Traffic) -> None:
    """Sums over both workers equal what was sent and what a reader of the predictions finds."""
    statuses = Counter(one.status for one in traffic.predictions)
    assert statuses["ok"] == 3
    assert page.total("ray_fer_workers") == 2
    assert page.total("ray_fer_records_total") == traffic.sent
    assert page.total("ray_fer_frames_total") == page.total("ray_fer_frames_total", verdict="kept") == traffic.sent - 3
    for status in ("ok", "no_face", "gap", "skipped", "failed"):
        assert page.total("ray_fer_windows_total", status=status) == statuses[status], status
    assert page.total("ray_fer_latency_seconds_count") == len(traffic.predictions)
    mean_s = page.total("ray_fer_latency_seconds_sum") / len(traffic.predictions)
    assert mean_s == pytest.approx(sum(one.latency_ms or 0 for one in traffic.predictions) / 24_000)
    assert page.total("ray_fer_lag_records") == 0
    assert page.total("ray_fer_live_streams") == len(STREAMS)
    assert page.total("ray_fer_batch_items_total", stage="expressions") == 3
    # Of each stream 24 of its 80 frames are chosen by three windows; the face is in those of one stream.
    searched = page.total("ray_fer_batch_items_total", stage="faces")
    assert page.total("ray_fer_faces_found_total") * len(STREAMS) == searched > 0
    for stage in ("fetch", "model", "faces", "expressions", "commit"):
        assert page.total("ray_fer_stage_seconds_total", stage=stage) > 0, stage
    assert all(value > 0 for _, value in page.metric("ray_fer_records_total")), "a worker without work"

    statistics = page.json("/v1/statistics")
    assert len(statistics["workers"]) == 2
    assert statistics["total"]["records"] == traffic.sent
    assert statistics["total"]["windows"] == {"skipped": 0, "failed": 0, "gap": 0} | statuses
    streams = page.json("/v1/streams")
    assert {one["stream_id"]: one["frames"] for one in streams} == dict.fromkeys(STREAMS, 80)
    assert all(one["lag_s"] == pytest.approx(0.9) for one in streams)
    heard = [one["heard_at"] for one in streams]
    assert heard == sorted(heard, reverse=True)
    assert page.json("/v1/streams?limit=3&offset=2") == streams[2:5]


def _scale(workers: int) -> None:
    """What Serve's autoscaler does: another number of replicas, and those that stay are not touched."""
    controller = _get_global_client()._controller
    ray.get(controller.update_deployment_replicas.remote(DeploymentID(name="Stream", app_name=APP), workers))
