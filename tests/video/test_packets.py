"""Frames reached through keyframes, against decoding everything: every codec, container and timing that may differ."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_fer.video import decode
from ray_fer.video.container import open_video
from ray_fer.video.decode import count_frames, iter_frames, read_frames
from ray_fer.video.limits import DEFAULT_LIMITS, Deadline, MediaError
from ray_fer.video.packets import IndexCache, PacketIndex, Run, build_index, plan_runs
from tests.encoded_video import remux, write_video

GROUPS = "keyint=12:min-keyint=12:scenecut=0"
QUIET_265 = "log-level=none:keyint=12:min-keyint=12"
IRREGULAR_MS = np.cumsum(np.random.default_rng(1).integers(5, 90, 60)).tolist()


def _edited(folder: Path) -> Path:
    """An MP4 of 48 frames whose first 9 are decoded but hidden: an edit list starts between keyframes."""
    whole = write_video(folder / "whole.mp4", options={"bf": "2", "x264-params": GROUPS})
    data = bytearray(whole.read_bytes())
    place = data.index(b"elst") + 8
    assert int.from_bytes(data[place : place + 4], "big") == 1
    timescale = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    start = int.from_bytes(data[place + 8 : place + 12], "big") + 9 * timescale // 30
    data[place + 8 : place + 12] = start.to_bytes(4, "big")
    data[place + 4 : place + 8] = (51 * 1000 // 30).to_bytes(4, "big")
    edited = folder / "edited.mp4"
    edited.write_bytes(data)
    return edited


def _late(folder: Path) -> Path:
    """A transport stream that was switched on in the middle of a group."""
    whole = write_video(folder / "whole.ts", options={"bf": "2", "x264-params": GROUPS})
    return remux(whole, folder / "late.ts", first=5)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "h264 long group": lambda f: write_video(f / "v.mp4", options={"g": "250", "bf": "3"}),
    "h264 pyramid": lambda f: write_video(f / "v.mkv", options={"x264-params": f"bframes=5:b-pyramid=normal:{GROUPS}"}),
    "h264 open groups mp4": lambda f: write_video(f / "v.mp4", options={"x264-params": f"open-gop=1:{GROUPS}"}),
    "h264 open groups mkv": lambda f: write_video(f / "v.mkv", options={"x264-params": f"open-gop=1:{GROUPS}"}),
    "h264 open groups ts": lambda f: write_video(f / "v.ts", options={"x264-params": f"open-gop=1:{GROUPS}"}),
    "h264 intra only": lambda f: write_video(f / "v.mp4", options={"g": "1"}),
    "h264 intra refresh": lambda f: write_video(f / "v.mkv", options={"x264-params": "intra-refresh=1:keyint=15"}),
    "h264 without times": lambda f: write_video(f / "v.h264", options={"x264-params": GROUPS}),
    "h264 in avi": lambda f: write_video(f / "v.avi", options={"bf": "2", "x264-params": GROUPS}),
    "h264 in flv": lambda f: write_video(f / "v.flv", options={"bf": "2", "x264-params": GROUPS}),
    "h264 interlaced": lambda f: write_video(f / "v.mp4", options={"x264-params": f"tff=1:{GROUPS}"}),
    "h264 fragmented": lambda f: write_video(
        f / "v.mp4", options={"x264-params": GROUPS}, container={"movflags": "frag_keyframe+empty_moov"}
    ),
    "h264 variable rate": lambda f: write_video(f / "v.mp4", options={"x264-params": GROUPS}, times_ms=IRREGULAR_MS),
    "h264 edit list": _edited,
    "h264 late start": _late,
    "hevc open groups": lambda f: write_video(
        f / "v.mp4", "libx265", options={"x265-params": QUIET_265 + ":open-gop=1"}
    ),
    "hevc temporal layers": lambda f: write_video(
        f / "v.mp4", "libx265", options={"x265-params": QUIET_265 + ":temporal-layers=3:b-pyramid=1"}
    ),
    "hevc ts": lambda f: write_video(f / "v.ts", "libx265", options={"x265-params": QUIET_265}),
    "vp9 hidden frames": lambda f: write_video(
        f / "v.webm", "libvpx-vp9", options={"g": "12", "auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}
    ),
    "vp8": lambda f: write_video(
        f / "v.webm", "libvpx", options={"g": "12", "auto-alt-ref": "1", "lag-in-frames": "12"}
    ),
    "av1": lambda f: write_video(f / "v.mp4", "libsvtav1", options={"g": "12", "preset": "12"}),
    "mpeg4 avi": lambda f: write_video(f / "v.avi", "mpeg4", options={"bf": "2", "g": "12"}),
    "mpeg4 mp4": lambda f: write_video(f / "v.mp4", "mpeg4", options={"bf": "2", "g": "12"}),
    "mpeg2 ts": lambda f: write_video(f / "v.ts", "mpeg2video", options={"bf": "2", "g": "12"}),
    "mpeg2 ps": lambda f: write_video(f / "v.mpg", "mpeg2video", options={"bf": "2", "g": "12"}),
    "mjpeg mov": lambda f: write_video(f / "v.mov", "mjpeg", pixels="yuvj420p"),
    "ffv1": lambda f: write_video(f / "v.mkv", "ffv1"),
    "wmv": lambda f: write_video(f / "v.wmv", "wmv2"),
    "gif": lambda f: write_video(f / "v.gif", "gif", pixels="rgb8"),
    "apng": lambda f: write_video(f / "v.apng", "apng", pixels="rgb24"),
}
COUNTED_BY_DECODING = {
    "h264 without times",
    "h264 in avi",
    "h264 late start",
    "vp8",
    "mpeg4 avi",
    "mpeg4 mp4",
    "wmv",
    "gif",
    "apng",
}
DECODED_FROM_THE_START = {"h264 without times", "h264 in avi", "h264 late start", "h264 intra refresh"}


class Video:
    """A written video, and what decoding all of it gives."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        self.pts = [frame.pts for frame in frames]
        self.frames = list(iter_frames(path))
        assert len(self.frames) == len(frames)


@pytest.fixture(scope="module", params=list(WRITERS))
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(request.param, WRITERS[request.param](tmp_path_factory.mktemp("videos")))


@pytest.fixture(params=["in memory", "from the file"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether packets stay in memory after indexing, or are read again after seeking."""
    monkeypatch.setattr(decode, "_INDICES", IndexCache(0 if request.param == "in memory" else 4))
    if request.param == "from the file":
        monkeypatch.setattr(decode, "_KEPT_BYTES", 0)
        monkeypatch.setattr(decode, "_SEEK_COST", 0)
    return request.param


def check(video: Video, ranks: list[int]) -> None:
    found = read_frames(video.path, ranks)
    assert [frame.index for frame in found] == ranks
    for frame in found:
        expected = video.frames[frame.index]
        assert frame.pts_us == expected.pts_us
        np.testing.assert_array_equal(frame.image, expected.image)


@pytest.mark.usefixtures("source")
def test_frames_are_those_of_decoding_everything(video: Video) -> None:
    count = len(video.frames)
    assert count_frames(video.path) == count
    check(video, list(range(count)))
    check(video, [count - 1])
    check(video, list(range(3, count, 11)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("source")
def test_any_frames_are_those_of_decoding_everything(video: Video, data: st.DataObject) -> None:
    ranks = data.draw(st.sets(st.integers(0, len(video.frames) - 1), min_size=1, max_size=8))
    check(video, sorted(ranks))


def test_times_are_those_of_the_decoder(video: Video) -> None:
    times = [frame.pts_us for frame in video.frames]
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    if None not in video.pts and video.pts == sorted(video.pts):
        with av.open(str(video.path)) as container:
            base = container.streams.video[0].time_base
        assert base is not None
        assert times == [round((pts - video.pts[0]) * base * 1_000_000) for pts in video.pts]


def index_of(path: Path) -> PacketIndex:
    with open_video(str(path), DEFAULT_LIMITS) as (container, stream):
        return build_index(str(path), container, stream, DEFAULT_LIMITS, Deadline("", 60), keep=0)[0]


def test_which_files_are_counted_by_their_packets(video: Video) -> None:
    index = index_of(video.path)
    assert index.counted == (video.kind not in COUNTED_BY_DECODING)
    assert index.counted == (index.packet_of is not None)


def test_which_files_are_decoded_from_the_start(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_INDICES", cache := IndexCache(1))
    read_frames(video.path, [0, len(video.frames) - 1])
    (index,) = cache._known.values()
    assert (index.packet_of is None) == (video.kind in DECODED_FROM_THE_START)


def test_only_the_groups_of_wanted_frames_are_decoded(tmp_path: Path) -> None:
    index = index_of(write_video(tmp_path / "v.mp4", options={"bf": "0", "x264-params": GROUPS}))
    assert [(run.first, run.last) for run in plan_runs(index, [0, 3, 40, 41], gap=0)] == [(0, 3), (36, 41)]
    assert [(run.first, run.last) for run in plan_runs(index, [11, 12], gap=0)] == [(0, 12)]
    assert [(run.first, run.last) for run in plan_runs(index, [10, 12], gap=0)] == [(0, 10), (12, 12)]
    assert [(run.first, run.last) for run in plan_runs(index, [10, 12], gap=1)] == [(0, 12)]


def test_leading_frames_of_an_open_group_need_the_group_before() -> None:
    # Decoding order I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8, named by presentation time.
    pts = np.array([0, 3, 1, 2, 6, 4, 5, 9, 7, 8])
    none = np.zeros(10, bool)
    keyframe = np.isin(np.arange(10), (0, 4))
    index = PacketIndex(Fraction(1, 30), pts, pts, pts, keyframe, none, np.sort(pts), np.argsort(pts), True)
    assert [(run.first, run.last) for run in plan_runs(index, [5], gap=0)] == [(0, 6)]
    assert [(run.first, run.last) for run in plan_runs(index, [7], gap=0)] == [(4, 8)]


def test_a_decoder_that_answers_otherwise_than_the_packets_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", options={"x264-params": GROUPS})
    expected = list(iter_frames(path))
    monkeypatch.setattr(decode, "_INDICES", IndexCache(0))
    packet = int(np.argsort(index_of(path).pts)[5])
    monkeypatch.setattr(decode, "plan_runs", lambda *_: [Run(packet, packet, {packet: 5})])  # starts at no keyframe
    (frame,) = read_frames(path, [5])
    np.testing.assert_array_equal(frame.image, expected[5].image)


def test_a_changed_file_is_indexed_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=20)
    assert count_frames(path) == 20
    write_video(path, frames=30)
    assert count_frames(path) == 30


def test_frames_that_are_not_there(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=20)
    assert [frame.index for frame in iter_frames(path, wanted=[2, 19, 20, 400])] == [2, 19]
    for rank in (20, -1):
        with pytest.raises(MediaError, match="it has 20 frames"):
            read_frames(path, [rank])
