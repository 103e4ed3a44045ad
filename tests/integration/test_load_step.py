"""Stream workers come when streams come, and go when they go; the lag returns to nothing, and no window is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.conftest import REPOSITORY

BEFORE_S, TARGET_LAG = 6, 300
PLAN = ["--low", "1", "--high", "9", "--workers", "3", "--before", str(BEFORE_S), "--during", "45", "--after", "100"]


@pytest.mark.kafka
@pytest.mark.timeout(500)
def test_workers_follow_the_load(kafka: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "jobs/bench_load_step.py", "--bootstrap-servers", kafka, "--json", *PLAN]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=450)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    moments = seen["moments"]
    assert {one["replicas"] for one in moments if one["at_s"] < BEFORE_S} == {1}
    assert 2 <= seen["most_replicas"] <= 3
    assert max(one["lag"] or 0 for one in moments) > TARGET_LAG, "there was nothing to scale for"
    assert seen["settled_s"] is not None, "the lag did not return"
    assert moments[-1]["replicas"] == 1
    assert (seen["missing"], seen["repeated"]) == (0, 0)
    assert seen["windows"] > 60
