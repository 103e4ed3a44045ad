"""A node dies that serves: the others take over its work, and every window comes once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_fer.streaming.kafka_settings import KafkaSettings
from tests.integration.ray_head import RayHead, ray_cluster
from tests.integration.serve_traffic import STREAMS, Traffic, flowing, own_topics, traffic_on, windows_until
from tests.integration.stream_faults import wait_for
from tests.integration.test_serve_config import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

WORKER = "ServeReplica:ray-fer:Stream"


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[RayHead]:
    """The head runs nothing of ours, as the documents of Ray advise."""
    with ray_cluster(environment, 0, 3, 3) as one:
        yield one


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return own_topics(kafka, session_timeout_s=8)


@pytest.fixture
def traffic(settings: KafkaSettings, jpeg: bytes, media: Path) -> Iterator[Traffic]:
    with traffic_on(settings, jpeg, media) as one:
        yield one


def test_a_killed_node_loses_and_repeats_no_window(
    cluster: RayHead, settings: KafkaSettings, traffic: Traffic, tmp_path: Path
) -> None:
    deployment = Deployment(cluster, settings, tmp_path / "serve.yaml")
    deployment.arguments |= {"workers": 2, "faces": 2}
    deployment.deploy({"models": {"fer": "packaged"}})
    wait_for(deployment.ready, "the application did not come up", within_s=180)
    with flowing(traffic):
        wait_for(lambda: len(traffic.read()) > len(STREAMS), "no window was answered")
        dead, left = sorted(cluster.nodes, key=lambda node: node.runs(WORKER), reverse=True)
        assert dead.runs(WORKER)
        dead.kill()
        before = traffic.seconds
        wait_for(lambda: traffic.read().keys() >= windows_until(before + 5), "the work of the dead node stays undone")
    wanted = windows_until(traffic.seconds)
    wait_for(lambda: traffic.read().keys() >= wanted, "windows are missing")
    time.sleep(2)
    assert traffic.read() == Counter(dict.fromkeys(wanted, 1))
    assert left.runs(WORKER)
    wait_for(deployment.ready, "the API did not come back", within_s=60)
