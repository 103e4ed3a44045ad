"""Action Units of every frame of a video: complete, in order, and the same however the video is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.action_units.blendshapes import BlendshapeExtractor
from ray_fer.labels import AU_NAMES
from ray_fer.preprocessing.frame_aus import SCHEMA, FrameProcessor, find_videos
from ray_fer.preprocessing.shards import Failure
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceTracker


def extract(path: Path, start: int, end: int) -> list[Any]:
    row = {
        "clip_id": f"x:{start}", "video": path.name, "path": str(path), "media": "video", "start_frame": start,
        "end_frame": end,
    }  # fmt: skip
    with FaceTracker() as tracker:
        return list(FrameProcessor(tracker, BlendshapeExtractor())([row]))


def test_a_row_per_frame_however_the_video_is_cut(media: Path) -> None:
    video = media / "single_face.mp4"
    whole = extract(video, 0, 72)
    times = [frame.pts_us / 1e6 for frame in iter_frames(video)]
    assert [row["frame"] for row in whole] == list(range(72))
    assert [row["timestamp"] for row in whole] == times
    assert all(set(row) == set(SCHEMA.names) for row in whole)
    assert all(row["face_found"] for row in whole)
    pieces = extract(video, 0, 40) + extract(video, 40, 72)
    assert [row["frame"] for row in pieces] == list(range(72))
    au = np.array([[[row[name] for name in AU_NAMES] for row in one] for one in (whole, pieces)])
    np.testing.assert_array_equal(au[0, :40], au[1, :40])
    # The tracker of the second piece starts 15 frames early; what is left of its smoothing by then is small.
    assert np.abs(au[0, 40:] - au[1, 40:]).max() < 0.05


def test_frames_without_a_face_are_rows_without_action_units(media: Path) -> None:
    rows = extract(media / "face_noface.mov", 0, 200)
    found = np.array([row["face_found"] for row in rows])
    assert 0.05 < found.mean() < 0.95
    assert all((row["AU12"] is None) != row["face_found"] for row in rows)


def test_a_broken_video_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    (failure,) = extract(tmp_path / "bad.mp4", 0, 10)
    assert isinstance(failure, Failure)
    assert "not a readable video" in failure.reason


def test_videos_are_found_in_folders(media: Path, tmp_path: Path) -> None:
    found = find_videos([str(media)])
    assert str(media / "single_face.mp4") in found
    assert found == sorted(found)
    assert find_videos([str(media / "no_face.mp4")]) == [str(media / "no_face.mp4")]
    with pytest.raises(FileNotFoundError, match="no such clip store, video or folder"):
        find_videos(["typo"])
    with pytest.raises(FileNotFoundError, match="no video"):
        find_videos([str(tmp_path)])
