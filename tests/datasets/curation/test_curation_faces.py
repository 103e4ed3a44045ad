"""From annotated frames to 48 x 48 grey faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ray_fer.datasets.curation.eila_faces import (
    NO_FACE,
    NO_FRAME,
    UNREADABLE,
    MediaPipeIsolator,
    isolate_faces,
)
from ray_fer.video.all_faces import SceneFaceFinder
from ray_fer.video.boxes import Box, crop_box, face_box


def row(clip_id: str, path: Path, frame: int | None, bbox: list[float] | None, media: str = "video") -> dict[str, Any]:
    end = None if frame is None else frame + 1
    return {
        "clip_id": clip_id, "path": str(path), "media": media, "label": "Happy", "start_frame": frame,
        "end_frame": end, "bbox": bbox,
    }  # fmt: skip


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.fixture(scope="module")
def lecture(
    tmp_path_factory: pytest.TempPathFactory, heads: list[np.ndarray],
    write_video: Callable[..., Path], scene: Callable[..., np.ndarray],
) -> Path:  # fmt: skip
    """Ten frames: one person left and one right, both gone in the last three."""
    both = scene((heads[3], (60, 200)), (heads[0], (400, 60)))
    return write_video(tmp_path_factory.mktemp("lecture") / "v.mp4", [both] * 7 + [scene()] * 3)


def test_each_box_gives_its_own_persons_face(
    lecture: Path, tmp_path: Path, heads: list[np.ndarray], finder: SceneFaceFinder
) -> None:
    left, right = [50.0, 190.0, 180.0, 180.0], [390.0, 50.0, 180.0, 180.0]
    rows = [row("e/right/6", lecture, 6, right), row("e/left/0", lecture, 0, left), row("e/right/0", lecture, 0, right)]
    with MediaPipeIsolator() as isolator:
        result = isolate_faces(rows, tmp_path, isolator)
    assert [one["clip_id"] for one in result.rows] == ["e/right/6", "e/left/0", "e/right/0"]
    assert not result.dropped
    for one, head in zip(result.rows, (heads[0], heads[3], heads[0]), strict=True):
        assert (one["media"], one["label"], one["start_frame"], one["bbox"]) == ("image", "Happy", None, None)
        face = cv2.imread(one["path"], cv2.IMREAD_UNCHANGED)
        assert (face.shape, face.dtype) == ((48, 48), np.uint8)
        landmarks = max(finder.find_all(head), key=lambda points: float(np.ptp(points[:, 0])))
        x, y, width, height = face_box(landmarks)
        side = max(width, height)
        square = (x + (width - side) / 2, y + (height - side) / 2, side, side)
        expected = cv2.resize(cv2.cvtColor(crop_box(head, square)[0], cv2.COLOR_RGB2GRAY), (48, 48))
        assert likeness(face, expected) > 0.9


def test_what_gives_no_face_is_dropped_by_name(lecture: Path, tmp_path: Path) -> None:
    box = [50.0, 190.0, 180.0, 180.0]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = [
        row("empty", lecture, 8, box),
        row("outside", lecture, 0, [5000.0, 0.0, 10.0, 10.0]),
        row("past the end", lecture, 99, box),
        row("broken", tmp_path / "broken.mp4", 0, box),
        row("whole video", lecture, None, None),
        row("good", lecture, 1, box),
        row("missing", tmp_path / "none.png", None, None, "image"),
    ]
    done: list[tuple[int, int]] = []
    with MediaPipeIsolator() as isolator:
        result = isolate_faces(rows, tmp_path, isolator, advance=lambda _, n, total: done.append((n, total)))
    assert [one["clip_id"] for one in result.rows] == ["good"]
    assert {clip_id: reason for clip_id, reason, _ in result.dropped} == {
        "empty": NO_FACE, "outside": NO_FACE, "past the end": UNREADABLE, "broken": UNREADABLE,
        "whole video": NO_FRAME, "missing": UNREADABLE,
    }  # fmt: skip
    assert any("frame 99" in detail for _, _, detail in result.dropped)
    assert done == [(n, 7) for n in range(1, 8)]


class FixedBox:
    """Finds a face at one place of every image."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def find_box(self, image: np.ndarray) -> Box | None:
        return self.box


def test_faces_are_widened_to_a_square_and_never_squeezed(tmp_path: Path) -> None:
    """A box of 20 x 40 around a black bar of 20: the bar covers half of the square, not all of it."""
    image = np.full((100, 100), 200, np.uint8)
    image[:, 40:60] = 0
    cv2.imwrite(str(tmp_path / "bar.png"), image)
    rows = [row("bar", tmp_path / "bar.png", None, None, "image")]
    result = isolate_faces(rows, tmp_path, FixedBox((40.0, 30.0, 20.0, 40.0)), size=40)
    face = cv2.imread(result.rows[0]["path"], cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(face[20], [200] * 10 + [0] * 20 + [200] * 10)


def test_a_face_at_the_edge_is_filled_with_its_nearest_pixels(tmp_path: Path) -> None:
    image = np.full((60, 60), 120, np.uint8)
    cv2.imwrite(str(tmp_path / "flat.png"), image)
    rows = [row("flat", tmp_path / "flat.png", None, None, "image")]
    result = isolate_faces(rows, tmp_path, FixedBox((-20.0, -20.0, 50.0, 40.0)))
    assert set(np.unique(cv2.imread(result.rows[0]["path"], cv2.IMREAD_UNCHANGED))) == {120}


def test_grey_is_the_luma_of_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((60, 60, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    rows = [row("red", tmp_path / "red.png", None, None, "image")]
    result = isolate_faces(rows, tmp_path, FixedBox((10.0, 10.0, 30.0, 30.0)))
    assert set(np.unique(cv2.imread(result.rows[0]["path"], cv2.IMREAD_UNCHANGED))) == {round(0.299 * 255)}


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 60), 120, np.uint8))
    names = ["eila/../../x", "eila/.._.._x", "ö" * 300]
    rows = [row(name, tmp_path / "a.png", None, None, "image") for name in names]
    result = isolate_faces(rows, tmp_path / "out", FixedBox((10.0, 10.0, 30.0, 30.0)))
    paths = {Path(one["path"]) for one in result.rows}
    assert len(paths) == 3
    assert all(path.parent == tmp_path / "out" / "faces" for path in paths)
