"""Windows of a recorded video: those of a stream of all its frames, of which only the chosen ones are asked for."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.streaming.payload import Payload
from ray_fer.streaming.recorded_windows import count_windows, frame_times_us, recorded_windows, video_windows
from ray_fer.streaming.source import video_messages
from ray_fer.streaming.windows import BufferedFrame, StreamWindows, Window, WindowConfig

configs = st.builds(
    lambda size, share, frames, lateness, gap: WindowConfig(
        size=size, stride=size * share, frames=frames, allowed_lateness=lateness, max_gap_windows=gap
    ),
    st.floats(0.2, 5), st.one_of(st.sampled_from([0.1, 0.2, 0.5, 1.0]), st.floats(0.05, 1)), st.integers(1, 20),
    st.sampled_from([0.0, 0.5, 3.0]), st.sampled_from([0, 3, 60]),
)  # fmt: skip
# Mostly as in a video, and now and then a silence that is longer than many windows.
steps = st.one_of(st.integers(1, 400_000), st.integers(1, 400_000), st.integers(1, 40_000_000))
times = st.lists(steps, max_size=120).map(lambda steps: [0, *accumulate(steps)])


def picture(number: int) -> bytes:
    return f"picture {number}".encode()


def of_all_frames(times_us: Sequence[int], config: WindowConfig) -> list[Window]:
    """Every frame put into a stream, one after the other."""
    stream, found = StreamWindows("s", config), []
    for number, time_us in enumerate(times_us):
        stream.add(BufferedFrame(time_us, number, Payload("image/jpeg", picture(number))))
        found += stream.ready()
    return found + stream.flush()


def told(window: Window) -> tuple[object, ...]:
    chosen = [(frame.pts_us, frame.seq, frame.payload.data) for frame in window.chosen]
    return window.index, window.start_us, window.end_us, window.frames, chosen


@given(times, configs)
@settings(max_examples=150, deadline=None)
def test_those_of_a_stream_and_no_picture_early(times_us: list[int], config: WindowConfig) -> None:
    asked, given_out = [], []

    def pictures(numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        asked.append(list(numbers))
        for number in numbers:
            given_out.append(number)
            yield number, picture(number)

    expected = [told(window) for window in of_all_frames(times_us, config)]
    found = []
    needed: set[int] = set()
    for window in recorded_windows("s", times_us, pictures, config):
        found.append(told(window))
        needed |= {frame.seq for frame in window.chosen}
        assert max(given_out, default=-1) <= max(needed, default=-1), "a picture that only a later window needs"
    assert found == expected
    assert asked == [sorted(needed)]
    assert given_out == sorted(needed)


@given(times, st.integers(0, 100_000_000), configs)
@settings(max_examples=300, deadline=None)
def test_their_number_is_known_before(times_us: list[int], start_us: int, config: WindowConfig) -> None:
    shifted = [start_us + time_us for time_us in times_us]
    assert count_windows(shifted[::-1], config) == len(of_all_frames(shifted, config))


@given(times, configs)
@settings(max_examples=60, deadline=None)
def test_a_picture_lives_from_its_first_window_to_its_last(times_us: list[int], config: WindowConfig) -> None:
    chosen = [{frame.seq for frame in window.chosen} for window in of_all_frames(times_us, config)]
    given_out: dict[int, weakref.ref[Payload]] = {}

    def look(window: Window) -> None:
        for frame in window.chosen:
            known = given_out.setdefault(frame.seq, weakref.ref(frame.payload))
            assert known() is frame.payload, "windows that overlap share their frames"

    windows = recorded_windows("s", times_us, lambda numbers: ((one, picture(one)) for one in numbers), config)
    for place in range(len(chosen)):
        look(next(windows))
        alive = {number for number, payload in given_out.items() if payload() is not None}
        # The window that came last is let go of when the next one is asked for.
        assert alive <= set().union(*chosen[place:]), "a picture that no window needs any more"
    assert next(windows, None) is None
    assert not any(payload() for payload in given_out.values())


def test_windows_share_frames_and_let_go_of_what_no_other_needs() -> None:
    def pictures(numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        return ((number, picture(number)) for number in numbers)

    config = WindowConfig(size=2, stride=1, frames=4)
    windows = recorded_windows("s", [number * 250_000 for number in range(40)], pictures, config)
    first, second = next(windows), next(windows)
    shared = {id(frame) for frame in first.chosen} & {id(frame) for frame in second.chosen}
    assert len(shared) == 2
    alive = [weakref.ref(frame.payload) for frame in first.chosen]
    del first, second
    next(windows)
    gc.collect()
    assert [one() for one in alive] == [None] * 4


def test_of_a_video_file(media: Path) -> None:
    video = media / "single_face.mp4"
    messages = list(video_messages(video, "s"))
    assert frame_times_us(video) == [message.pts_us for message in messages]
    for config in (WindowConfig(), WindowConfig(size=1, stride=0.3, frames=5, allowed_lateness=0)):
        stream, expected = StreamWindows("s", config), []
        for message in messages:
            stream.add(BufferedFrame(message.pts_us, message.seq, Payload("image/jpeg", message.payload)))
            expected += stream.ready()
        expected += stream.flush()
        assert len(expected) > 2
        found = video_windows(video, "s", config)
        assert [told(window) for window in found] == [told(window) for window in expected]
