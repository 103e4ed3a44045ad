"""What the benchmarks of the stream conclude, and the loops that they compare it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ray_fer.bundle import PACKAGED
from ray_fer.process_use import Use
from ray_fer.serving import stream_speed
from ray_fer.serving.bare_loop import bare, naive
from ray_fer.serving.cameras import FPS, Footage, messages, record_footage
from ray_fer.serving.soak import flat_parts
from ray_fer.serving.stream_plots import plot_trials
from ray_fer.serving.stream_speed import Latency, System, Trial, most_streams
from ray_fer.serving.window_parts import parts_of_a_window
from ray_fer.streaming.kafka_settings import KafkaSettings
from ray_fer.streaming.options import StreamOptions
from ray_fer.streaming.windows import WindowConfig
from ray_fer.video.images import image_size

OPTIONS = StreamOptions(windows=WindowConfig(frames=16))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    return record_footage(tmp_path_factory.mktemp("footage"), seconds=2)


def test_cameras_send_pictures_of_the_size_and_rate_that_is_said(footage: Footage) -> None:
    sent = list(messages(footage, range(3), seconds=2))
    assert len(sent) == 3 * 2 * FPS
    assert image_size(sent[0].payload) == (640, 480)
    assert 30_000 < np.mean([len(one.payload) for one in sent]) < 80_000
    times = [one.pts_us for one in sent if one.stream_id == "camera-001"]
    assert np.allclose(np.diff(times), 1e6 / FPS, atol=1)
    assert [one.seq for one in sent if one.stream_id == "camera-001"] == list(range(2 * FPS))


def test_the_loop_over_chosen_frames_is_faster_than_the_one_over_all(footage: Footage) -> None:
    """Some ten times, as 3.2 of 30 frames are chosen; by processor time, which other processes do not change."""
    chosen, every = (sum(one.parts_ms.values()) for one in (
        bare(PACKAGED, footage, OPTIONS, 2, processes=1), naive(PACKAGED, footage, OPTIONS, 2, processes=1),
    ))  # fmt: skip
    assert every > 3 * chosen


def test_other_ways_to_do_a_part_are_told_with_what_they_change(footage: Footage) -> None:
    parts, others = parts_of_a_window(PACKAGED, footage, OPTIONS)
    assert list(parts) == ["decode", "detect", "align", "resize", "expression"]
    assert max(parts, key=lambda part: parts[part]) == "detect"
    assert {one.part for one in others} == {"decode", "detect", "expression"}
    assert all(one.ms == parts[one.part] for one in others)
    half = next(one for one in others if one.part == "decode")
    assert half.instead_ms < half.ms
    assert half.other_answers is not None
    assert 0 <= half.other_answers <= 1


def _backlog(monkeypatch: pytest.MonkeyPatch, turns: list[int], tick: float) -> float:
    """What is measured of a backlog of one stream of 60 s whose windows come in such turns, a tick after each other."""
    clock, left = [0.0], list(turns)

    @contextmanager
    def running(*_: object) -> Iterator[tuple[None, Callable[[], list[int]]]]:
        def poll() -> list[int]:
            clock[0] += tick
            return [0] * (left.pop(0) if left else 0)

        yield None, poll

    monkeypatch.setattr(stream_speed, "running", running)
    monkeypatch.setattr(stream_speed.time, "monotonic", lambda: clock[0])
    return stream_speed.backlog(System(PACKAGED, KafkaSettings(), OPTIONS, faces=1), [], 1, 60)[0]


def test_a_backlog_is_timed_from_a_turn_to_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """55 windows, of which those from the 4th to the 41st are timed, or as near to them as turns allow."""
    assert _backlog(monkeypatch, [2, 8, 8, 8, 8, 8, 8], tick=0.5) == pytest.approx(16)
    assert _backlog(monkeypatch, [40, 15], tick=1) == pytest.approx(15), "most were there before the first look"


def test_a_backlog_that_is_answered_at_once_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"55 windows .* before they could be timed: give a longer backlog"):
        _backlog(monkeypatch, [55], tick=1)


def _memory(*sizes: float) -> list[tuple[float, float]]:
    return [(float(second), 1e6 * size) for second, size in enumerate(sizes)]


def test_memory_is_flat_when_it_grows_no_more_after_a_third() -> None:
    filling = [100 + 40 * min(second, 30) for second in range(90)]
    leaking = [1000 + 5 * second for second in range(90)]
    jumping = [1000 + 300 * (second == 85) for second in range(90)]
    small = [20 + second / 4 for second in range(90)]
    memory = {"filling": filling, "leaking": leaking, "jumping": jumping, "small": small}
    flat = flat_parts({part: _memory(*sizes) for part, sizes in memory.items()})
    assert flat == {"filling": True, "leaking": False, "jumping": True, "small": True}


def _trial(streams: int, capacity: int) -> Trial:
    """Of a system that answers `capacity` windows a second: what comes in beyond them waits."""
    growth = max(0.0, streams / capacity - 1)
    # One of two workers keeps up all the same.
    latency = [
        Latency(second, 1 + growth * second * (number % 2), f"camera-{number % 2}")
        for number, second in enumerate(np.arange(0, 120, 0.2).tolist())
    ]
    rise = stream_speed._rise(latency)
    return Trial(streams, rise <= 1.0, 120, min(streams, capacity), 30.0 * streams, 1, 1, rise, 0, latency, Use())


@pytest.mark.parametrize(
    ("first", "most", "tried"),
    [
        (20, 30, [20, 22, 24, 26]),
        (25, 30, [25, 27]),
        (40, 30, [40, 36, 32, 29, 26, 23]),
        (20, 3, [20, 22, 24]),
        (40, 1, [40]),
    ],
)
def test_the_highest_number_of_streams_is_looked_for_up_and_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: int, most: int, tried: list[int]
) -> None:
    monkeypatch.setattr(stream_speed, "live_trial", lambda system, footage, streams, *_: _trial(streams, 25))
    trials = most_streams(System(PACKAGED, KafkaSettings(), OPTIONS, faces=1), [], first, 120, most)
    assert [one.streams for one in trials] == tried
    assert [one.flat for one in trials] == [one.streams <= 25 for one in trials]
    assert plot_trials(trials, tmp_path / "plot.png").stat().st_size > 10_000
