"""Videos joined end to end, tables that point at the same bytes many times, and frames without times."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ray_fer.video import decode, packets
from ray_fer.video.container import open_video
from ray_fer.video.decode import count_frames, iter_frames, read_frames
from ray_fer.video.limits import DEFAULT_LIMITS, Deadline, MediaError
from ray_fer.video.packets import PacketIndex, build_index
from tests.encoded_video import write_video
from tests.video.test_packets import GROUPS, index_of


def _joined(folder: Path, suffix: str, size: tuple[int, int], start_ms: int) -> Path:
    """Two videos of 20 frames, one file after the other, the second from `start_ms` on."""
    one = write_video(folder / f"1{suffix}", frames=20, options={"bf": "2", "x264-params": GROUPS})
    times = [start_ms + round(frame * 1000 / 30) for frame in range(20)]
    two = write_video(
        folder / f"2{suffix}", frames=20, size=size, options={"bf": "2", "x264-params": GROUPS}, times_ms=times
    )
    header = 13 if suffix == ".flv" else 0
    joined = folder / f"joined{suffix}"
    joined.write_bytes(one.read_bytes() + two.read_bytes()[header:])
    return joined


@pytest.mark.parametrize(
    ("suffix", "size", "start_ms"),
    [(".ts", (96, 80), 11), (".ts", (128, 64), 0), (".flv", (128, 64), 700), (".flv", (128, 64), 900)],
)
def test_files_joined_end_to_end(tmp_path: Path, suffix: str, size: tuple[int, int], start_ms: int) -> None:
    path = _joined(tmp_path, suffix, size, start_ms)
    frames = list(iter_frames(path))
    expected = [*iter_frames(tmp_path / f"1{suffix}"), *iter_frames(tmp_path / f"2{suffix}")]
    assert len(frames) == count_frames(path) == len(expected) == 40
    for frame, other in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, other.image)
    times = np.array([frame.pts_us for frame in frames])
    assert np.diff(times) == pytest.approx(1e6 / 30, abs=2000) or start_ms == 900
    assert (np.diff(times) > 0).all()
    for ranks in ([3, 17, 22, 39], [0], [25]):
        for frame in read_frames(path, ranks):
            assert frame.pts_us == times[frame.index]
            np.testing.assert_array_equal(frame.image, frames[frame.index].image)
    assert index_of(path).joined
    assert index_of(path).packet_of is None


def test_packets_are_kept_up_to_a_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", options={"x264-params": GROUPS})
    total = int(index_of(path).size.sum())
    for keep, count in ((total, 60), (total - 1, None)):
        with open_video(str(path), DEFAULT_LIMITS) as (container, stream):
            kept = build_index(str(path), container, stream, DEFAULT_LIMITS, Deadline("", 60), keep)[1]
        assert (kept and len(kept)) == count


def _overlapping(folder: Path) -> Path:
    """A MOV of which every one of 60 packets is the first third of the file."""
    data = bytearray(write_video(folder / "v.mov", "mjpeg", pixels="yuvj420p").read_bytes())

    def put(place: int, *numbers: int) -> None:
        data[place : place + 4 * len(numbers)] = struct.pack(f">{len(numbers)}I", *numbers)

    put(data.index(b"stsz") + 16, *[len(data) // 3] * 60)
    put(data.index(b"stsc") + 8, 1, 1, 1, 1)  # one packet in each chunk
    chunks = data.index(b"stco") + 8
    (there,) = struct.unpack(">I", data[chunks : chunks + 4])
    start = data[chunks + 4 : chunks + 8]
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"):
        place = data.index(box) - 4
        put(place, int.from_bytes(data[place : place + 4], "big") + 4 * (60 - there))
    data[chunks : chunks + 4 + 4 * there] = struct.pack(">I", 60) + start * 60
    path = folder / "overlapping.mov"
    path.write_bytes(data)
    return path


def test_packets_that_are_many_times_the_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _overlapping(tmp_path)
    assert index_of(path).size.sum() > 15 * path.stat().st_size  # few bytes in all: nothing to refuse
    monkeypatch.setattr(packets, "_OVERLAP_BYTES", 0)
    with pytest.raises(MediaError, match="its packets overlap"):
        count_frames(path)


def test_a_frame_without_time_means_a_constant_rate() -> None:
    pts = np.arange(4)
    none = np.zeros(4, bool)
    index = PacketIndex(Fraction(1, 1000), pts, pts, pts, ~none, none, pts, None, False, Fraction(1, 30))
    counted = index.with_frames([0, 33, None, 100])
    assert [counted.microseconds(time) for time in counted.times] == [0, 33333, 66667, 100000]


def test_all_frames_are_not_decoded_twice_to_count_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.webm", "libvpx", options={"g": "12", "auto-alt-ref": "1", "lag-in-frames": "12"})
    monkeypatch.setattr(decode, "_counted", None)
    frames = list(iter_frames(path))
    monkeypatch.undo()
    assert [frame.pts_us for frame in frames] == [frame.pts_us for frame in read_frames(path, range(60))]
