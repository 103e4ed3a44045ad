"""Videos in memory are read as files are, and open nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_fer.video import decode
from ray_fer.video.decode import count_frames, iter_frames, packet_index, read_frames, video_size
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.encoded_video import write_video
from tests.video.test_packets import WRITERS


@pytest.mark.parametrize("kind", WRITERS)
def test_as_from_a_file(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path)
    data = path.read_bytes()
    ranks = [0, 7, 8, 30, 44]
    for frame, other in zip(read_frames(data, ranks), read_frames(path, ranks), strict=True):
        assert (frame.index, frame.pts_us) == (other.index, other.pts_us)
        np.testing.assert_array_equal(frame.image, other.image)
    index, other_index = packet_index(data), packet_index(path)
    np.testing.assert_array_equal(index.times, other_index.times)
    assert count_frames(data) == len(index)
    assert video_size(data) == video_size(path)


def test_large_packets_are_read_again_after_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_KEPT_BYTES", 0)
    path = write_video(tmp_path / "v.mp4", options={"bf": "2", "g": "12"})
    for frame, other in zip(read_frames(path.read_bytes(), [3, 50]), read_frames(path, [3, 50]), strict=True):
        np.testing.assert_array_equal(frame.image, other.image)


def test_lists_of_files_open_nothing(tmp_path: Path) -> None:
    target = write_video(tmp_path / "v.mp4")
    for text in (
        f"ffconcat version 1.0\nfile '{target}'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:{target}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ):
        with pytest.raises(MediaError, match=r"^video: .*(not a readable video|no video track)"):
            count_frames(text.encode())


def test_limits_hold(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", frames=10).read_bytes()
    for limits, reason in (
        (DecodeLimits(max_bytes=100), "are not 1 to 100"),
        (DecodeLimits(max_frames=9), "more than 9 frames"),
        (DecodeLimits(max_pixels=100), "exceeds 100 pixels"),
    ):
        with pytest.raises(MediaError, match=reason):
            list(iter_frames(data, limits))
    with pytest.raises(MediaError, match="0 bytes"):
        count_frames(b"")


def test_one_limit_of_time_for_all_frames(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", frames=10).read_bytes()
    limits = DecodeLimits(max_decode_seconds=1.0)
    assert len(list(iter_frames(data, limits, range(10), frame_by_frame=False))) == 10
    waiting = iter_frames(data, limits, [0, 9], frame_by_frame=False)
    next(waiting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_fer.video.limits.time.monotonic", lambda: float("inf"))
        with pytest.raises(MediaError, match="took longer than 1 s"):
            next(waiting)
