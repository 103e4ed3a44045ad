"""What the Serve application is refused for, before anything runs."""

from __future__ import annotations

import pytest

from ray_fer.bundle import PACKAGED
from ray_fer.serving.deployments import build_app
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions


def test_a_static_member_is_a_single_worker() -> None:
    settings = KafkaSettings(instance="worker-a")
    build_app(str(PACKAGED), settings, StreamOptions(), faces=1, workers=1)
    with pytest.raises(ValueError, match="instance 'worker-a' is the name of a single worker, and there are 2"):
        build_app(str(PACKAGED), settings, StreamOptions(), faces=1, workers=2)
