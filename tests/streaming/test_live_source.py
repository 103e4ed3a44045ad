"""Live sources: event times that rise, reconnection, what is dropped, and cameras that are none."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import av.error
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.streaming import live_input
from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.live_input import LiveFrame, is_live, live_frames, live_name
from ray_fer.streaming.live_source import Arrivals, EventTimes, LiveSource
from ray_fer.streaming.timetable import Outgoing
from ray_fer.video.limits import MediaError

REFUSED = av.error.ConnectionRefusedError(111, "Connection refused")
SILENT = av.error.ExitError(1, "Immediate exit requested")
NOT_FOUND = av.error.HTTPNotFoundError(1, "Server returned 404 Not Found")


class World:
    """A source that does what a script says at each connection, the clock, and the event that stops it at the end."""

    def __init__(self, script: Sequence[Sequence[object]]) -> None:
        self.now = 100.0
        self.waited: list[float] = []
        self._script = iter(script)
        self._over = False

    def opened(self, source: str) -> Iterator[LiveFrame]:
        """Numbers are frames that come so many seconds after the one before, with no time of their own."""
        for step in next(self._script):
            if isinstance(step, Exception):
                raise step
            own, after = step if isinstance(step, tuple) else (None, step)
            self.now += after
            yield own, lambda: np.zeros((32, 32, 3), np.uint8)

    def clock(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self._over

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds
        self._script, script = iter(rest := list(self._script)), rest
        self._over = not script


def watch(script: Sequence[Sequence[object]], **options: object) -> tuple[World, list[FrameMessage], list[str]]:
    """What a source sends and reports while its connections follow a script."""
    world, arrivals, reports = World(script), Arrivals(), []
    options = {"encoding": Encoding(), "start_us": 0, **options}
    source = LiveSource("rtsp://camera", "cam", opened=world.opened, clock=world.clock, **options)  # type: ignore[arg-type]
    source.run(arrivals, reports.append, world)  # type: ignore[arg-type]
    return world, list(all_of(arrivals)), reports


def all_of(arrivals: Arrivals) -> Iterator[FrameMessage]:
    while (arrived := arrivals.take(0)) is not None:
        yield arrived.message


def test_a_lost_source_is_opened_again_less_and_less_often_until_it_is_back() -> None:
    script = [[0, 1, SILENT], *[[REFUSED]] * 6, [0, 1]]
    world, sent, reports = watch(script)
    assert world.waited == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [message.seq for message in sent] == [0, 1, 2, 3]
    # While it was away, event time went on with the clock.
    assert [message.pts_us for message in sent] == [0, 1_000_000, 92_000_000, 93_000_000]
    assert reports == [
        "cam: nothing came for 10 s; trying again in 1 s, then less and less often, at least every 30 s",
        "cam: back after 91 s",
        "cam: it has ended; trying again in 30 s, then less and less often, at least every 30 s",
    ]


def test_delays_begin_anew_after_a_connection_that_held() -> None:
    world, _, _ = watch([[0, REFUSED], [REFUSED], [*[1] * 31, REFUSED], [0]])
    assert world.waited == [1, 2, 1, 2]


def test_a_source_that_is_not_up_yet_is_waited_for() -> None:
    _, sent, reports = watch([[REFUSED], [REFUSED], [0, 1]])
    assert [message.seq for message in sent] == [0, 1]
    assert reports[:2] == [
        "cam: Connection refused; trying again in 1 s, then less and less often, at least every 30 s",
        "cam: back after 3 s",
    ]


@pytest.mark.parametrize("error", [NOT_FOUND, MediaError("rtsp://u:p@camera", "sends no video")])
def test_what_is_no_live_video_from_the_first_is_an_error(error: Exception) -> None:
    with pytest.raises(MediaError, match=r"^cam: (Server returned 404 Not Found|sends no video)$"):
        watch([[error]])


def test_what_was_there_once_is_waited_for_whatever_its_server_says() -> None:
    _, sent, _ = watch([[0, NOT_FOUND], [NOT_FOUND], [0]])
    assert [message.seq for message in sent] == [0, 1]


def test_a_source_without_start_begins_now() -> None:
    _, sent, _ = watch([[0]], start_us=None)
    assert sent[0].pts_us > 1_700_000_000_000_000


@pytest.mark.parametrize(("fps", "kept"), [(30, 90), (10, 31), (1, 4), (None, 90)])
def test_the_highest_rate_leaves_frames_out_and_keeps_all_of_a_source_of_that_rate(
    fps: float | None, kept: int
) -> None:
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 90)
    times = np.sort(np.arange(90) / 30 + jitter)
    _, sent, _ = watch([np.diff(times, prepend=times[0]).tolist()], fps=fps)
    assert abs(len(sent) - kept) <= 1 if fps not in (30, None) else len(sent) == kept
    assert [message.seq for message in sent] == list(range(len(sent)))


def test_segments_are_cut_by_seconds_and_a_loss_ends_one() -> None:
    script = [[0, *[0.1] * 11, REFUSED], [0, *[0.1] * 3]]
    _, sent, _ = watch(script, encoding=Encoding(segment_seconds=1.0))
    assert [(m.content_type, m.seq, len(m.frames())) for m in sent] == [
        ("video/mp4", 0, 10), ("video/mp4", 10, 2), ("video/mp4", 12, 4),
    ]  # fmt: skip
    times = [at for message in sent for at, _, _ in message.frames()]
    assert times == [*range(0, 1_200_000, 100_000), *range(2_100_000, 2_500_000, 100_000)]


def test_the_sources_own_clock_counts_where_frames_come_in_bursts() -> None:
    _, sent, _ = watch([[(7_000_000, 0), (7_040_000, 0.001), (7_080_000, 0.001), (7_120_000, 0.118)]])
    assert [message.pts_us for message in sent] == [0, 40_000, 80_000, 120_000]


def test_our_clock_counts_where_the_sources_jumps_or_stands() -> None:
    clock = EventTimes(1000)
    steps = [(0, 0), (40, 40), (90_000_000_040, 80), (90_000_000_080, 120), (5, 160), (5, 200), (None, 240), (45, 280)]
    assert [clock.of(own, ours) for own, ours in steps] == [1000, 1040, 1080, 1120, 1160, 1200, 1240, 1280]


@given(st.lists(st.tuples(st.none() | st.integers(-(10**9), 10**12), st.integers(0, 10**8))), st.integers(0, 10**15))
def test_event_times_always_rise(frames: list[tuple[int | None, int]], start: int) -> None:
    clock, ours, times = EventTimes(start), 0, []
    for own, passed in frames:
        ours += passed
        times.append(clock.of(own, ours))
    assert times == sorted(set(times))
    assert times[:1] == [start][: len(times)]


def waiting(stream_id: str, seq: int, size: int, frames: int = 1) -> Outgoing:
    return Outgoing(FrameMessage(stream_id, 0, seq, "image/jpeg", b"x" * size), frames, 0)


def test_the_oldest_is_dropped_when_nobody_takes_it_and_counted() -> None:
    arrivals = Arrivals(max_bytes=100)
    for seq in range(5):
        arrivals.put(waiting("a", seq, 40, frames=3))
    arrivals.put(waiting("b", 0, 10))
    assert arrivals.dropped == {"a": 9}
    assert [(m.stream_id, m.seq) for m in all_of(arrivals)] == [("a", 3), ("a", 4), ("b", 0)]
    arrivals.put(waiting("b", 1, 100))
    assert arrivals.dropped == {"a": 9}, "what was taken takes no room"


def test_the_newest_stays_however_large() -> None:
    arrivals = Arrivals(max_bytes=100)
    arrivals.put(waiting("a", 0, 10))
    arrivals.put(waiting("a", 1, 1000))
    assert [message.seq for message in all_of(arrivals)] == [1]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("rtsp://user:secret@10.0.0.5:8554/cam/1?token=abc", "10.0.0.5:8554/cam/1"),
        ("https://example.org/", "example.org"),
        ("camera:0", "camera:0"),
    ],
)
def test_a_live_source_is_named_without_its_secrets(source: str, name: str) -> None:
    assert is_live(source)
    assert live_name(source) == name


@pytest.mark.parametrize("source", ["video.mp4", "/data/camera", "./camera:0/video.mp4"])
def test_files_are_not_live(source: str) -> None:
    assert not is_live(source)


@pytest.mark.parametrize("source", ["ftp://host/x.mp4", "camera:", "camera:front", "file:///etc/passwd"])
def test_what_cannot_be_opened_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="give"):
        is_live(source)


def test_a_camera_is_read_through_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # FFmpeg's test picture in the place of the device; the number is how many seconds it runs.
    device = ("lavfi", "testsrc2=size=64x48:rate=20:duration={}")
    monkeypatch.setattr(live_input, "_DEVICES", {sys.platform: device})
    frames = [(at, picture()) for at, picture in live_frames("camera:1")]
    assert [at for at, _ in frames] == list(range(0, 1_000_000, 50_000))
    assert {picture.shape for _, picture in frames} == {(48, 64, 3)}
    assert (frames[0][1] != frames[-1][1]).any()


def test_a_camera_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(av.error.FFmpegError):
        next(live_frames("camera:97"))
