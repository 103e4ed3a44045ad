"""How many workers the policy asks Serve for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray_fer.serving.lag_policy import LagPolicy

POLICY = LagPolicy(target_lag=100)


def asked(lag: list[float], busy: list[float], partitions: int, now: int = 1) -> float:
    """What it wants when this is what the replicas said last."""

    def by_replica(values: list[float]) -> dict[str, list[Any]]:
        said = (SimpleNamespace(value=9999.0), *(SimpleNamespace(value=value) for value in values))
        return {f"replica {number}": [said[0], one] for number, one in enumerate(said[1:])}

    reported = {
        "lag_records": by_replica(lag), "busy": by_replica(busy), "partitions": by_replica([partitions] * len(lag))
    }  # fmt: skip
    context: Any = SimpleNamespace(raw_metrics=reported, target_num_replicas=now)
    return POLICY(context)[0]


@pytest.mark.parametrize(
    ("lag", "busy", "partitions", "wanted"),
    [
        ([0], [0.1], 8, 1),  # idle
        ([0, 0, 0], [0.0, 0.0, 0.0], 8, 1),
        ([250], [1.0], 8, 3),  # behind: one for each hundred
        ([5000, 0], [1.0, 0.2], 4, 4),  # never more than partitions
        ([0, 0], [0.7, 0.7], 8, 2),  # both are needed, although nothing waits
        ([20], [0.95], 8, 2),  # one that can hardly keep up
        ([30, 40], [0.1, 0.1], 8, 1),
    ],
)
def test_by_lag_and_by_load(lag: list[float], busy: list[float], partitions: int, wanted: int) -> None:
    assert asked(lag, busy, partitions) == wanted


def test_nobody_goes_while_there_is_a_backlog() -> None:
    assert asked([110, 0, 0], [0.1, 0.1, 0.1], 8, now=3) == 3
    assert asked([90, 0, 0], [0.1, 0.1, 0.1], 8, now=3) == 1


def test_before_anybody_has_reported_nothing_changes() -> None:
    context: Any = SimpleNamespace(raw_metrics={}, target_num_replicas=3)
    assert POLICY(context) == (3, {})
    assert asked([0], [0], partitions=0, now=2) == 2
