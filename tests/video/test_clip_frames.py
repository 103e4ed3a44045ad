"""Frames of a clip, from whatever its media is."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import MediaError
from ray_fer.video.sampling import Sampling
from tests.corrupt_media import make_corrupt
from tests.encoded_video import write_video


def row(path: Path, media: str, start: int | None = None, end: int | None = None) -> dict[str, Any]:
    return {"path": str(path), "media": media, "start_frame": start, "end_frame": end}


@pytest.fixture(scope="module")
def video() -> Path:
    spec = importlib.util.find_spec("feat")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "tests" / "data" / "single_face.mp4"  # 72 frames


def test_uniform_frames_of_a_video(video: Path) -> None:
    assert [frame.index for frame in clip_frames(row(video, "video"), 4)] == [9, 27, 45, 63]


def test_the_end_of_a_range_is_exclusive_and_a_repeated_frame_is_one_object(video: Path) -> None:
    frames = clip_frames(row(video, "video", 10, 13), 5)
    assert [frame.index for frame in frames] == [10, 11, 12, 12, 12]
    assert frames[2] is frames[3] is frames[4]


def test_any_sampling(video: Path) -> None:
    backwards = Sampling(frames=6, padding="mirror")
    assert [frame.index for frame in clip_frames(row(video, "video", 10, 13), backwards)] == [10, 11, 12, 11, 10, 11]
    near = Sampling(frames=4, strategy="consecutive", stride=2)
    drawn = {clip_frames(row(video, "video"), near, np.random.default_rng(seed))[0].index for seed in range(4)}
    assert len(drawn) > 1
    with pytest.raises(MediaError, match="too short: 3 frames to take where 16 are needed"):
        clip_frames(row(video, "video", 10, 13), Sampling(padding="error"))


def test_a_video_may_lack_a_few_frames_of_a_range(video: Path) -> None:
    assert [frame.index for frame in clip_frames(row(video, "video", 0, 74), 4)] == [9, 27, 45, 63]


@pytest.mark.parametrize(("start", "end", "reason"), [(5, 5, "holds no frame"), (0, 500, "ends before frame")])
def test_ranges_outside_the_video(video: Path, start: int, end: int, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        clip_frames(row(video, "video", start, end), 4)


def test_a_folder_of_images_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), np.full((8, 8, 3), number, np.uint8))
    assert [int(frame.image[0, 0, 0]) for frame in clip_frames(row(tmp_path, "frames"), 4)] == [1, 9, 10, 10]


def test_one_image_is_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    frames = clip_frames(row(tmp_path / "a.png", "image"), 12)
    assert len(frames) == 12
    assert len({id(frame) for frame in frames}) == 1


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        clip_frames(row(tmp_path / "a.png", "image"), 1)
    with pytest.raises(MediaError, match=r"no \.jpg or \.png"):
        clip_frames(row(tmp_path, "frames"), 1)


def test_a_part_of_a_folder(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"{number}.png").write_bytes(encode_jpeg(np.full((8, 8, 3), 40 * number, np.uint8)))
    part = {"path": str(tmp_path), "media": "frames", "start_frame": 1, "end_frame": 3}
    frames = clip_frames(part, 3)
    assert [round(frame.image.mean() / 40) for frame in frames] == [2, 3, 3]
    assert [(frame.index, frame.pts_us) for frame in frames] == [(1, 0), (2, 1), (2, 1)]
    for start, end, reason in ((3, 3, "holds no frame"), (0, 9, "is not within its 5 frames")):
        with pytest.raises(MediaError, match=f"range {start}..{end} {reason}"):
            clip_frames(part | {"start_frame": start, "end_frame": end}, 16)


def test_every_kind_of_corrupt_media_is_one_clear_error(tmp_path: Path) -> None:
    corrupt = make_corrupt(tmp_path / "corrupt")
    assert len(corrupt) >= 70
    assert len({one.name for one in corrupt}) == len(corrupt)
    for one in corrupt:
        started = time.monotonic()
        with pytest.raises(MediaError) as caught:
            pytest.fail(f"{one.name}: gave {len(clip_frames(one.row(), 16))} frames")
        assert caught.value.name.startswith(str(one.path)), one.name
        assert "\n" not in str(caught.value), one.name
        assert time.monotonic() - started < 2, one.name


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("videos")
    written = [
        write_video(folder / "v.mp4", frames=30, options={"g": "12"}, container={"movflags": "faststart"}),
        write_video(folder / "v.mkv", frames=30, options={"g": "12"}),
        write_video(folder / "v.ts", "mpeg2video", frames=30),
        write_video(folder / "v.webm", "libvpx-vp9", frames=30, options={"cpu-used": "8"}),
        write_video(folder / "v.avi", "mpeg4", frames=30),
        write_video(folder / "v.gif", "gif", frames=30, pixels="rgb8"),
    ]
    return {path.suffix: path.read_bytes() for path in written}


@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".mp4", ".mkv", ".ts", ".webm", ".avi", ".gif"]),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=20),
    within=st.sampled_from([0.02, 0.2, 1.0]),
    kept=st.floats(0.3, 1),
)
def test_damage_gives_sixteen_frames_or_one_error(
    videos: dict[str, bytes], tmp_path: Path, suffix: str, flips: list[tuple[float, int]], within: float, kept: float
) -> None:
    data = bytearray(videos[suffix])
    for place, mask in flips:
        data[int(place * within * (len(data) - 1))] ^= mask
    path = tmp_path / f"v{suffix}"
    path.write_bytes(data[: int(len(data) * kept)] if kept < 0.7 else data)
    with contextlib.suppress(MediaError):
        assert len(clip_frames(row(path, "video"), 16)) == 16
