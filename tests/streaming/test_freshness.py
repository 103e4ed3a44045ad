"""Which windows are passed over when the model cannot keep up."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ray_fer.streaming.freshness import Freshness
from ray_fer.streaming.payload import Payload
from ray_fer.streaming.windows import BufferedFrame, Window


def window(*arrived_ms: int | None) -> Window:
    frames = tuple(
        BufferedFrame(number, number, Payload("image/jpeg", b""), arrived_ms=arrived)
        for number, arrived in enumerate(arrived_ms)
    )
    return Window("s", 0, 0, 1, len(frames), frames)


def test_only_freshest_passes_windows_over_and_by_their_newest_frame() -> None:
    freshest = Freshness(policy="freshest", max_staleness=2)
    assert freshest.stale(window(0, 1000), now_ms=3001)
    assert not freshest.stale(window(0, 1000), now_ms=3000)
    assert not freshest.stale(window(None), now_ms=1e12), "nobody knows when it came"
    assert not freshest.stale(window(), now_ms=1e12), "a gap costs nothing"
    assert not Freshness(max_staleness=2).stale(window(0), now_ms=1e12)


def test_a_staleness_that_is_no_time_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Freshness(policy="freshest", max_staleness=0)
