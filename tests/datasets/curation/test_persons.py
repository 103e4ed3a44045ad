"""How many persons a clip shows: boxes by hand, then photographs and videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.datasets.curation.clip_faces import find_clip_faces
from ray_fer.datasets.curation.persons import NO_FACE, PersonRule, choose_person
from ray_fer.video.all_faces import SceneFaceFinder
from ray_fer.video.boxes import Box, iou
from ray_fer.video.tracks import track_faces

LEFT: Box = (100.0, 100.0, 80.0, 80.0)
RIGHT: Box = (400.0, 100.0, 80.0, 80.0)
THIRD: Box = (250.0, 300.0, 80.0, 80.0)


def moved(box: Box, across: float, down: float = 0.0) -> Box:
    return box[0] + across, box[1] + down, box[2], box[3]


def clip(path: Path, media: str = "video", bbox: list[float] | None = None) -> dict[str, Any]:
    return {"clip_id": "x", "path": str(path), "media": media, "start_frame": None, "end_frame": None, "bbox": bbox}


def test_a_head_that_moves_by_more_than_half_its_width_is_one_person() -> None:
    walk = [[moved(LEFT, 55.0 * step)] for step in range(6)]
    assert iou(walk[0][0], walk[1][0]) < 0.3
    assert len(track_faces(walk)) == 1


def test_a_jump_across_the_frame_is_another_person() -> None:
    assert len(track_faces([[LEFT], [RIGHT]])) == 2


def test_a_face_that_is_lost_for_some_frames_comes_back_as_itself() -> None:
    persons = track_faces([[LEFT], [], [], [moved(LEFT, 10.0)]])
    assert [person.frames for person in persons] == [2]


@pytest.mark.parametrize(("frames_seen", "kept"), [(2, False), (1, True)])
def test_a_passer_by_does_not_count(frames_seen: int, kept: bool) -> None:
    """Of 20 frames, 10% are two: a third face in one frame is no person, in two it is."""
    frames = [[LEFT, RIGHT] + ([THIRD] if t < frames_seen else []) for t in range(20)]
    decision = choose_person(track_faces(frames), 20, PersonRule(frames=20))
    assert (decision.main is not None) == kept
    if not kept:
        assert decision.reason == "persons: more than 2"


def test_the_person_seen_most_often_is_kept_with_the_median_box() -> None:
    boxes = [moved(RIGHT, across) for across in (0.0, 2.0, 40.0)]
    decision = choose_person(track_faces([[LEFT, boxes[0]], [boxes[1]], [boxes[2]]]), 3, PersonRule())
    assert decision.main is not None
    assert decision.main.median_box() == (402.0, 100.0, 80.0, 80.0)
    assert decision.seen == (3, 1)


def test_of_equals_the_larger_face_is_kept() -> None:
    large: Box = (300.0, 50.0, 160.0, 160.0)
    decision = choose_person(track_faces([[LEFT, large]] * 3), 3, PersonRule())
    assert decision.main is not None
    assert decision.main.median_box() == large


def test_nobody() -> None:
    assert choose_person([], 12, PersonRule()).reason == NO_FACE


@pytest.mark.parametrize("wrong", [{"max_persons": 0}, {"frames": 0}, {"min_share": 1.5}])
def test_rules_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PersonRule(**wrong)


def test_five_people_on_a_photograph(photos: Path, finder: SceneFaceFinder) -> None:
    faces = find_clip_faces(clip(photos / "multi_face.jpg", "image"), finder, PersonRule())
    assert faces.decision.seen == (1, 1, 1, 1, 1)
    assert faces.decision.reason == "persons: more than 2"
    assert not faces.crops


@pytest.mark.parametrize(("name", "seen"), [("single_face.mp4", (12,)), ("face_noface.mov", (6,)), ("no_face.mp4", ())])
def test_videos_with_one_face_with_one_that_leaves_and_with_none(
    photos: Path, finder: SceneFaceFinder, name: str, seen: tuple[int, ...]
) -> None:
    faces = find_clip_faces(clip(photos / name), finder, PersonRule())
    assert faces.decision.seen == pytest.approx(seen, abs=1)
    assert len(faces.crops) == sum(faces.decision.seen)
    assert all(crop.shape == (224, 224, 3) for crop in faces.crops)


def test_of_two_people_the_one_who_stays_is_kept(
    tmp_path: Path, finder: SceneFaceFinder, heads: list[np.ndarray],
    write_video: Callable[..., Path], scene: Callable[..., np.ndarray],
) -> None:  # fmt: skip
    alone, both = scene((heads[3], (40, 200))), scene((heads[3], (40, 200)), (heads[0], (420, 40)))
    path = write_video(tmp_path / "two.mp4", [both] * 4 + [alone] * 8)
    decision = find_clip_faces(clip(path), finder, PersonRule()).decision
    assert decision.seen == (12, 4)
    assert decision.main is not None
    # In multi_face.jpg this face spans (532, 323) to (632, 435); the head was cut at (504, 300).
    assert decision.main.median_box() == pytest.approx((40 + 28, 200 + 24, 99, 111), abs=8)


def test_three_people_are_a_crowd_unless_any_number_is_allowed(
    tmp_path: Path, finder: SceneFaceFinder, heads: list[np.ndarray],
    write_video: Callable[..., Path], scene: Callable[..., np.ndarray],
) -> None:  # fmt: skip
    frame = scene((heads[0], (20, 20)), (heads[3], (240, 250)), (heads[1], (450, 40)))
    path = write_video(tmp_path / "three.mp4", [frame] * 3)
    assert find_clip_faces(clip(path), finder, PersonRule()).decision.reason == "persons: more than 2"
    assert find_clip_faces(clip(path), finder, PersonRule(max_persons=None)).decision.main is not None


def test_a_box_of_the_dataset_names_the_person(photos: Path, finder: SceneFaceFinder) -> None:
    row = clip(photos / "multi_face.jpg", "image", bbox=[658.0, 284.0, 160.0, 160.0])
    assert find_clip_faces(row, finder, PersonRule()).decision.seen == (1,)
