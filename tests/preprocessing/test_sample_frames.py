"""Frames of a manifest row: videos in part or whole, folders of images, single images, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.preprocessing.clips import sample_frames, store_schema
from ray_fer.video.decode import MediaError, encode_jpeg, iter_frames


def row(path: Path, media: str = "video", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "media": media, "start_frame": None, "end_frame": None} | more


def test_whole_video(media: Path) -> None:
    images, times = sample_frames(row(media / "single_face.mp4"), 16)
    assert len(images) == 16
    assert images[0].shape == (360, 640, 3)
    assert np.diff(times) == pytest.approx(72 / 16 / 30, abs=1 / 30)


def test_part_of_a_video(media: Path) -> None:
    images, times = sample_frames(row(media / "single_face.mp4", start_frame=30, end_frame=34), 4)
    frames = [f for f in iter_frames(media / "single_face.mp4") if 30 <= f.index < 34]
    np.testing.assert_array_equal(np.stack(images), np.stack([f.image for f in frames]))
    assert times == [f.pts_us / 1e6 for f in frames]


def test_a_folder_of_frames_in_name_order_repeats_its_last(tmp_path: Path) -> None:
    for number in (2, 1, 3):
        (tmp_path / f"face_{number:02d}.jpg").write_bytes(encode_jpeg(np.full((8, 8, 3), 60 * number, np.uint8)))
    (tmp_path / "notes.txt").write_text("not a frame")
    images, _ = sample_frames(row(tmp_path, "frames"), 5)
    assert [round(image.mean() / 60) for image in images] == [1, 2, 3, 3, 3]


def test_a_single_image_is_repeated(media: Path) -> None:
    images, _ = sample_frames(row(media / "single_face.jpg", "image"), 3)
    np.testing.assert_array_equal(images[0], images[2])


@pytest.mark.parametrize(
    ("path", "media_type", "more", "reason"),
    [
        ("absent", "frames", {}, "missing or holds no"),
        ("absent.jpg", "image", {}, "no such file"),
        ("single_face.mp4", "video", {"start_frame": 9, "end_frame": 9}, "holds no frame"),
        ("single_face.mp4", "video", {"start_frame": 70, "end_frame": 90}, "ends before frame"),
    ],
)
def test_what_cannot_be_read(media: Path, path: str, media_type: str, more: dict[str, int], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        sample_frames(row(media / path, media_type, **more), 16)


def test_the_store_says_its_shapes() -> None:
    assert store_schema(16).metadata == {b"frames": b"16", b"landmarks": b"478x3", b"blendshapes": b"52"}
