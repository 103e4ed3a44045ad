"""Videos cut into segments: together they are the video, whatever its codec, container, groups and times."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from ray_fer.video.decode import iter_frames
from ray_fer.video.limits import MediaError
from ray_fer.video.segments import cut_video
from tests.encoded_video import picture, remux, write_video
from tests.video.test_packets import GROUPS, WRITERS

# Groups of 12 frames, 0.4 s, in a codec that MP4 holds: copied, and so exact.
COPIED = {kind for kind in WRITERS if kind.split()[-1] in ("pyramid", "flv", "interlaced", "fragmented", "rate", "av1")}
COPIED |= {"vp9 hidden frames", "rotated", "anamorphic", "one frame"}
SHAPED: dict[str, Callable[[Path], Path]] = {
    "rotated": lambda f: remux(write_video(f / "whole.mp4", options={"x264-params": GROUPS}), f / "v.mp4", rotation=90),
    "anamorphic": lambda f: write_video(
        f / "v.mkv", options={"x264-params": GROUPS}, sample_aspect_ratio=Fraction(4, 3)
    ),
    "odd size": lambda f: write_video(f / "v.mp4", size=(95, 79), pixels="yuv444p", options={"g": "250"}),
    "one frame": lambda f: write_video(f / "v.mp4", frames=1),
    "one frame, encoded": lambda f: write_video(f / "v.webm", "libvpx", frames=1),
}


@pytest.mark.parametrize("kind", [*WRITERS, *SHAPED])
def test_segments_are_the_video(tmp_path: Path, kind: str) -> None:
    path = (WRITERS | SHAPED)[kind](tmp_path)
    whole = list(iter_frames(path))
    rank = 0
    for segment in cut_video(path, 0.5):
        assert segment.first == rank
        frames = list(iter_frames(segment.data))
        assert len(frames) == segment.frames
        assert frames[0].pts_us == 0
        assert frames[-1].pts_us <= 1_000_000
        for frame, original in zip(frames, whole[rank:], strict=False):
            assert segment.pts_us + frame.pts_us == pytest.approx(original.pts_us, abs=1)
            assert frame.image.shape == original.image.shape
            difference = np.abs(frame.image.astype(int) - original.image).mean()
            if kind in COPIED:
                assert difference == 0
            # Chroma is halved again: dithered palettes (GIF) are hit hardest.
            assert difference < (16 if kind == "gif" else 4)
        rank += segment.frames
    assert rank == len(whole)


def _with_keyframes(path: Path, frames: int, keyframes: set[int]) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"g": "250", "sc_threshold": "0", "forced-idr": "1"})
        stream.width, stream.height = 96, 80
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format="yuv420p")
            frame.pict_type = PictureType.I if number in keyframes else PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def test_only_where_keyframes_are_far_apart_is_encoded_again(tmp_path: Path) -> None:
    """Groups of 6 frames, one of 36, and groups of 6 again, to be cut every 12."""
    path = _with_keyframes(tmp_path / "v.mp4", 66, {0, 6, 12, 18, 54, 60})
    whole = [frame.image for frame in iter_frames(path)]
    segments = list(cut_video(path, 0.4))
    assert [segment.frames for segment in segments] == [12, 6, 12, 12, 12, 12]
    exact = [
        bool((frame.image == whole[segment.first + frame.index]).all())
        for segment in segments
        for frame in iter_frames(segment.data)
    ]
    assert exact == [True] * 18 + [False] * 36 + [True] * 12


def test_a_change_of_size_begins_a_segment(tmp_path: Path) -> None:
    for name, size in (("1.ts", (96, 80)), ("2.ts", (128, 64))):
        write_video(tmp_path / name, frames=10, size=size)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    segments = list(cut_video(joined, 5))
    assert [(segment.first, segment.frames) for segment in segments] == [(0, 10), (10, 10)]
    assert next(iter_frames(segments[1].data)).image.shape == (64, 128, 3)


def test_a_silence_in_the_video_is_no_long_segment(tmp_path: Path) -> None:
    times = [0, 33, 67, 5000, 5033]
    path = write_video(tmp_path / "v.mkv", frames=[picture(n) for n in range(5)], options={"g": "250"}, times_ms=times)
    segments = list(cut_video(path, 1))
    assert [(segment.first, segment.frames, segment.pts_us) for segment in segments] == [(0, 3, 0), (3, 2, 5_000_000)]


def test_a_broken_video_has_a_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(MediaError, match="not a readable video"):
        list(cut_video(path, 1))
