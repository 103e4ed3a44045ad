"""Stream workers come when streams come, and go when they go; the lag returns to nothing, and no window is lost."""

from __future__ import annotations

import pytest

from ray_fer.serving.load_step import StepPlan, load_step, settled_s
from ray_fer.serving.local_ray import ray_session
from ray_fer.serving.options import Scaling
from ray_fer.streaming.kafka_settings import KafkaSettings

PLAN = StepPlan(
    low=1, high=9, before_s=6, during_s=45, after_s=75, workers=3,
    scaling=Scaling(look_back=11, upscale_delay=1, downscale_delay=5),
)  # fmt: skip


@pytest.mark.kafka
@pytest.mark.timeout(500)
def test_workers_follow_the_load(kafka: str) -> None:
    with ray_session():
        seen = load_step(KafkaSettings(bootstrap_servers=kafka, session_timeout_ms=10_000), PLAN)
    before = [one.replicas for one in seen.moments if one.at_s < PLAN.before_s]
    assert set(before) == {1}
    assert 2 <= seen.most_replicas <= PLAN.workers
    assert max(one.lag or 0 for one in seen.moments) > PLAN.target_lag, "there was nothing to scale for"
    assert settled_s(seen.moments, PLAN.before_s, PLAN.target_lag) is not None, "the lag did not return"
    assert seen.moments[-1].replicas == 1
    assert (seen.missing, seen.repeated) == (0, 0)
    assert seen.windows > 60
