"""Windows against a slow model of their semantics."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_fer.streaming.payload import Payload
from ray_fer.streaming.windows import LET_GO, MAX_REORDER, BufferedFrame, Resume, StreamWindows, Window, WindowConfig

S = 1_000_000


def frame(pts_us: int, seq: int = 0, offset: int = 0) -> BufferedFrame:
    return BufferedFrame(pts_us, seq, Payload("image/jpeg", b""), offset=offset)


def run(config: WindowConfig, times: list[int], asked: list[bool] | None = None) -> tuple[list[Window], list[str]]:
    """Windows and verdicts of frames with these times; `asked` says after which of them windows are taken."""
    windows = StreamWindows("s", config)
    out, verdicts = [], []
    for seq, pts in enumerate(times):
        # Numbered as they should have come, so that nothing looks like a restart.
        verdicts.append(windows.add(frame(pts, 1 + sorted(range(len(times)), key=times.__getitem__).index(seq), seq)))
        if asked is None or asked[seq]:
            out += windows.ready()
    return out + windows.flush(), verdicts


def slow_choice(times: list[int], start: int, config: WindowConfig) -> list[int]:
    """The frames nearest to the points of the stream's grid; where frames do not fill the window, each of those beside
    a point about equally often."""
    size = config.size_us
    step = Fraction(size, config.frames)
    around = int(start // step)
    points = [int(j * step) for j in range(around, around + config.frames + 2) if start <= j * step < start + size]
    assert len(points) == config.frames
    if times[0] - start > step or start + size - times[-1] > step:
        beside = set()
        for p in points:
            beside |= {max((i for i in range(len(times)) if times[i] < p), default=None)}
            beside |= {min((i for i in range(len(times)) if times[i] >= p), default=None)}
        there = sorted(beside - {None})
        return [there[int((j + 0.5) * len(there) / config.frames)] for j in range(config.frames)]
    return [min(range(len(times)), key=lambda i, p=p: (abs(times[i] - p), times[i])) for p in points]


def test_overlapping_windows_choose_the_same_frames() -> None:
    times = [i * 40_000 for i in range(25 * 30)]
    windows, _ = run(WindowConfig(), times)
    full = [w for w in windows if w.end_us <= 30 * S]
    decoded = {f.pts_us for w in full for f in w.chosen}
    assert len(decoded) <= 3.2 * 30 + 1
    for window in full:
        steps = np.diff([f.pts_us for f in window.chosen])
        assert abs(steps - 312_500).max() <= 40_000


def test_a_window_for_every_second_of_a_video() -> None:
    times = [i * 40_000 for i in range(60)]  # 2.4 s at 25 fps
    windows, _ = run(WindowConfig(), times)
    assert [(w.index, w.start_us, w.end_us) for w in windows] == [(0, 0, 5 * S), (1, S, 6 * S), (2, 2 * S, 7 * S)]
    assert [w.frames for w in windows] == [60, 35, 10]
    assert all(len(w.chosen) == 16 for w in windows)


def test_windows_of_a_live_clock_start_where_its_frames_do() -> None:
    start = 1_700_000_000 * S
    windows, _ = run(WindowConfig(), [start + i * 100_000 for i in range(20)])
    assert [w.index for w in windows] == list(range(1_699_999_996, 1_700_000_002))


def test_a_window_waits_for_late_frames_and_no_longer() -> None:
    windows = StreamWindows("s", WindowConfig(size=2, stride=2, allowed_lateness=0.5))
    assert windows.add(frame(0, 1)) == "kept"
    assert windows.add(frame(2_400_000, 4)) == "kept"
    assert windows.ready() == []
    assert windows.add(frame(1_900_000, 2)) == "kept"  # late, but within the allowance
    assert windows.add(frame(2_500_000, 5)) == "kept"
    assert windows.add(frame(1_950_000, 3)) == "late"  # although nobody has asked for the window yet
    (closed,) = windows.ready()
    assert closed.frames == 2


def test_a_frame_joins_only_those_of_its_windows_that_are_open() -> None:
    windows = StreamWindows("s", WindowConfig(size=2, stride=1, allowed_lateness=0))
    for number, pts in enumerate([0, 2 * S, 1_500_000]):  # the second seals window 0; the third is of 0 and 1
        assert windows.add(frame(pts, (1, 3, 2)[number], number)) == "kept"
    assert [(w.index, w.frames) for w in windows.flush()] == [(0, 1), (1, 2), (2, 1)]


def test_a_frame_too_old_for_all_windows_is_late_or_begins_anew() -> None:
    """Its number tells: delayed frames have one that was passed lately."""

    def verdict(seq: int) -> str:
        windows = StreamWindows("s", WindowConfig(size=1, stride=1, allowed_lateness=0))
        for second in range(3):
            assert windows.add(frame(second * S, 5000 + second)) == "kept"
        return windows.add(frame(S // 2, seq))

    assert verdict(0) == "restart"  # the stream counts from 0 again
    assert verdict(5003) == "restart"  # the clock went back
    assert verdict(5002 - MAX_REORDER - 1) == "restart"  # the frame with number 0 was lost
    assert verdict(5001) == "late"
    assert verdict(5002 - MAX_REORDER) == "late"


def test_a_stream_may_count_anew_while_its_clock_runs_on() -> None:
    windows = StreamWindows("s", WindowConfig(size=1, stride=1, allowed_lateness=0))
    for second, seq in enumerate([800, 801, 0, 1]):
        assert windows.add(frame(second * S, seq)) == "kept"
    assert windows.add(frame(S // 2, 2)) == "restart"  # a number not seen since it counts anew


def test_the_first_frame_to_come_need_not_be_the_oldest() -> None:
    windows, verdicts = run(WindowConfig(size=5, stride=1, allowed_lateness=0.5), [5 * S, 4_900_000])
    assert verdicts == ["kept", "kept"]
    assert [w.index for w in windows] == [0, 1, 2, 3, 4, 5]


def test_duplicates_are_told() -> None:
    windows = StreamWindows("s", WindowConfig())
    assert windows.add(frame(0, 0)) == "kept"
    assert windows.add(frame(0, 0)) == "duplicate"
    assert windows.add(frame(0, 1)) == "kept"


def test_a_silence_longer_than_a_window_gives_gaps() -> None:
    windows, _ = run(WindowConfig(size=2, stride=1), [0, 5 * S])
    assert [(w.index, w.frames) for w in windows] == [(0, 1), (1, 0), (2, 0), (3, 0), (4, 1), (5, 1)]
    assert windows[1].chosen == ()


def test_a_very_long_silence_is_skipped_over() -> None:
    windows, _ = run(WindowConfig(size=1, stride=1, max_gap_windows=3), [0, 1000 * S])
    assert [w.index for w in windows] == [0, 1000]


def test_limit_leaves_the_rest_for_later() -> None:
    windows = StreamWindows("s", WindowConfig(size=1, stride=1, allowed_lateness=0))
    for second in range(6):
        windows.add(frame(second * S, second, offset=second))
    assert windows.waiting() == 5
    assert [w.index for w in windows.ready(2)] == [0, 1]
    assert windows.resume(99) == Resume(next_index=2, offset=2, newest_us=S, highest=1)
    assert [w.index for w in windows.ready()] == [2, 3, 4]
    assert [w.index for w in windows.flush()] == [5]
    assert windows.resume(99) == Resume(next_index=6, offset=99, newest_us=5 * S, highest=5)


def test_a_restarted_stream_does_not_repeat_windows() -> None:
    windows = StreamWindows("s", WindowConfig(size=2, stride=1), resume=Resume(3, 0, 3 * S, 10))
    assert windows.add(frame(2_900_000, 9)) == "late"
    assert windows.add(frame(3_000_000, 11)) == "kept"
    assert [w.index for w in windows.flush()] == [3]


def test_stride_beyond_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="fall between windows"):
        WindowConfig(size=1, stride=2)


@st.composite
def streams(draw: st.DrawFn) -> tuple[WindowConfig, list[int], list[bool]]:
    stride = draw(st.sampled_from([0.5, 1.0, 2.0]))
    size = stride * draw(st.sampled_from([1, 2, 5]))
    lateness = draw(st.sampled_from([0.0, 0.5, 3.0]))
    frames = draw(st.integers(1, 6))
    times = draw(st.lists(st.integers(0, 30 * S), min_size=1, max_size=60))
    if draw(st.booleans()):
        times.sort()
    config = WindowConfig(size=size, stride=stride, frames=frames, allowed_lateness=lateness, max_gap_windows=1000)
    return config, times, draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)))


@settings(max_examples=300, deadline=None)
@given(streams())
def test_against_a_slow_model(case: tuple[WindowConfig, list[int], list[bool]]) -> None:
    """The model keeps every frame for ever and asks, after each, which windows the watermark has passed.

    When the windows are asked for makes no difference.
    """
    config, times, asked = case
    got, verdicts = run(config, times, asked)
    size, stride, late_by = config.size_us, config.stride_us, config.lateness_us
    kept: list[tuple[int, int, int]] = []  # time, number, first window that was open when it came
    expected: dict[int, list[tuple[int, int]]] = {}
    next_index, newest, expected_verdicts = None, -1, []

    def in_window(k: int, pts: int, first: int) -> bool:
        return k >= first and k * stride <= pts < k * stride + size

    def close(last: int) -> None:
        nonlocal next_index
        holders = [k for k in range(31 * S // stride + 1) if any(in_window(k, p, f) for p, _, f in kept)]
        if next_index is None:
            if not holders or holders[0] > last:
                return
            next_index = holders[0]
        while next_index <= last and any(k >= next_index for k in holders):
            expected[next_index] = sorted((p, n) for p, n, f in kept if in_window(next_index, p, f))
            next_index += 1

    for seq, pts in enumerate(times):
        last_end = pts // stride * stride + size
        if last_end <= newest - late_by or (next_index is not None and pts // stride < next_index):
            expected_verdicts.append("late")
        else:
            kept.append((pts, seq, max((newest - late_by - size) // stride + 1, next_index or 0)))
            newest = max(newest, pts)
            expected_verdicts.append("kept")
        close((newest - late_by - size) // stride)
    close(newest // stride)

    assert verdicts == expected_verdicts
    assert [w.index for w in got] == list(expected)
    for window in got:
        inside = expected[window.index]
        assert window.frames == len(inside)
        if inside:
            chosen = [inside[i] for i in slow_choice([pts for pts, _ in inside], window.start_us, config)]
            assert [f.pts_us for f in window.chosen] == [pts for pts, _ in chosen]
        assert all(f.payload is not LET_GO for f in window.chosen)


def test_pictures_that_no_window_can_choose_are_let_go_of() -> None:
    windows = StreamWindows("s", WindowConfig())
    most = 0
    for number in range(60 * 30):
        windows.add(BufferedFrame(number * S // 30, number, Payload("image/jpeg", bytes(100))))
        windows.ready()
        frames, held = windows.held()
        most = max(most, held)
        assert held < 100 * 45
    assert frames >= 150  # they are counted still
    assert most > 100 * 30  # two for each of 3.2 points a second, for 5.5 s


def test_a_frame_that_comes_late_is_no_reason_to_let_go_of_what_a_sealed_window_chose() -> None:
    windows = StreamWindows("s", WindowConfig(size=2, stride=1, frames=2, allowed_lateness=0))
    for number, pts in enumerate([0, S - 200_000, S + 200_000, 2 * S]):
        windows.add(frame(pts, number, number))
    assert windows.waiting() == 1  # window 0 is sealed; its point at 1 s has neighbours of 0.2 s
    windows.add(frame(S - 100_000, 4, 4))
    windows.add(frame(S + 100_000, 5, 5))  # nearer, and only of window 1
    first, *_ = windows.flush()
    assert [f.pts_us for f in first.chosen] == [0, S - 200_000]
    assert all(f.payload is not LET_GO for f in first.chosen)
