"""Frames of a clip, from whatever its media is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.decode import MediaError, encode_jpeg


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


def test_the_end_of_a_range_is_exclusive_and_no_frame_comes_twice(video: Path) -> None:
    assert [frame.index for frame in clip_frames(row(video, "video", 10, 13), 8)] == [10, 11, 12]


@pytest.mark.parametrize(("start", "end", "reason"), [(5, 5, "holds no frame"), (0, 500, "ends before frame")])
def test_ranges_outside_the_video(video: Path, start: int, end: int, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        clip_frames(row(video, "video", start, end), 4)


def test_a_folder_of_images_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"img{number}.png"), np.full((8, 8, 3), number, np.uint8))
    assert [int(frame.image[0, 0, 0]) for frame in clip_frames(row(tmp_path, "frames"), 5)] == [1, 9, 10]


def test_one_image_is_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(clip_frames(row(tmp_path / "a.png", "image"), 12)) == 1


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        clip_frames(row(tmp_path / "a.png", "image"), 1)
    with pytest.raises(MediaError, match=r"no \.jpg or \.png"):
        clip_frames(row(tmp_path, "frames"), 1)


def test_a_part_of_a_folder(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"{number}.png").write_bytes(encode_jpeg(np.full((8, 8, 3), 40 * number, np.uint8)))
    part = {"path": str(tmp_path), "media": "frames", "start_frame": 1, "end_frame": 3}
    assert [round(frame.image.mean() / 40) for frame in clip_frames(part, 16)] == [2, 3]
    for start, end in ((3, 3), (0, 9)):
        with pytest.raises(MediaError, match=f"range {start}..{end} is not within its 5 frames"):
            clip_frames(part | {"start_frame": start, "end_frame": end}, 16)
