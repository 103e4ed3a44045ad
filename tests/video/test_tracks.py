"""Who is who over the frames of a clip: boxes by hand, and planted walks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_fer.video.boxes import Box, iou
from ray_fer.video.tracks import main_faces, nearness, track_faces

LEFT: Box = (100.0, 100.0, 80.0, 80.0)
RIGHT: Box = (400.0, 100.0, 80.0, 80.0)
LARGE: Box = (300.0, 60.0, 160.0, 160.0)


def moved(box: Box, across: float, down: float = 0.0) -> Box:
    return box[0] + across, box[1] + down, box[2], box[3]


def test_two_people_who_swap_their_order_in_the_list_stay_two() -> None:
    persons = track_faces([[LEFT, RIGHT], [RIGHT, LEFT], [LEFT, RIGHT]])
    assert [person.boxes for person in persons] == [dict.fromkeys(range(3), LEFT), dict.fromkeys(range(3), RIGHT)]
    assert persons[0].faces == {0: 0, 1: 1, 2: 0}


def test_the_median_box_ignores_a_slip() -> None:
    (person,) = track_faces([[LEFT], [moved(LEFT, 2)], [moved(LEFT, 40)]])
    assert person.median_box() == moved(LEFT, 2)


def test_overlap_goes_before_nearness() -> None:
    """The face that overlaps the last box continues it, though another face lies near, too."""
    persons = track_faces([[LEFT], [moved(LEFT, 60), moved(LEFT, -20)]])
    assert persons[0].faces == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (LEFT, 1.0),
        (moved(LEFT, 20), 0.75),
        (moved(LEFT, 0, 80), 0.0),
        ((60.0, 60.0, 160.0, 160.0), 1.0),
        ((55.0, 55.0, 170.0, 170.0), 0.0),
        ((100.0, 100.0, 0.0, 0.0), 0.0),
    ],
)
def test_nearness_counts_in_faces(second: Box, expected: float) -> None:
    assert nearness(LEFT, second) == pytest.approx(expected)


def test_the_person_seen_in_most_frames_is_the_main_one() -> None:
    """CA-FER section II.A: not the largest, which a person in front of the camera would be."""
    frames = [[LARGE, LEFT], [LEFT], [], [LARGE, LEFT]]
    assert main_faces(frames) == [1, 0, None, 1]


def test_of_two_who_are_seen_equally_often_the_larger_is_the_main_one() -> None:
    assert main_faces([[LEFT, LARGE], [LARGE, LEFT]]) == [1, 0]


def test_a_head_that_moves_by_nearly_its_width_per_frame_is_one_person() -> None:
    walk = [moved(LEFT, 75.0 * step) for step in range(8)]
    assert iou(walk[0], walk[1]) < 0.05
    bystander = moved(RIGHT, 0, 300)
    assert main_faces([[bystander, box] if step < 3 else [box] for step, box in enumerate(walk)]) == [1] * 3 + [0] * 5


@pytest.mark.parametrize("step", [90.0, 400.0])
def test_heads_that_are_too_fast_for_boxes_lose_no_frame(step: float) -> None:
    """Nothing can be tracked: the largest face of each frame is taken."""
    far = [moved(LARGE, 2 * step * number) for number in range(6)]
    assert main_faces([[(box[0] + step, 400.0, 50.0, 50.0), box] for box in far]) == [1] * 6
    assert main_faces([[box] for box in far[:2]]) == [0, 0]


def test_a_person_seen_in_less_than_half_of_the_frames_is_no_main_person() -> None:
    cuts = [[moved(LEFT, 200.0 * shot)] for shot in (0, 0, 0, 1, 1, 2, 2)]
    assert main_faces(cuts) == [0] * 7
    assert main_faces(cuts[:-1]) == [0, 0, 0, None, None, None]


def test_false_detections_are_not_the_person() -> None:
    assert main_faces([[LEFT], [LEFT], [LEFT], [RIGHT]]) == [0, 0, 0, None]


def test_nobody() -> None:
    assert main_faces([]) == []
    assert main_faces([[], []]) == [None, None]
    assert main_faces([[], [LEFT]]) == [None, 0]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_planted_people_are_told_apart(seed: int, people: int) -> None:
    """Walks on separate paths, shuffled in each frame and missing now and then: the tracks are the planted people."""
    rng = np.random.default_rng(seed)
    at = np.array([[200.0 * number, 100.0] for number in range(people)])
    frames: list[list[Box]] = []
    names: list[list[int]] = []
    for _ in range(16):
        at += rng.uniform(-3.0, 3.0, at.shape)
        seen = [number for number in rng.permutation(people).tolist() if rng.random() < 0.8]
        frames.append([(float(at[number, 0]), float(at[number, 1]), 80.0, 90.0 + number) for number in seen])
        names.append(seen)
    counts = [sum(number in seen for seen in names) for number in range(people)]
    persons = track_faces(frames)
    assert sorted(person.frames for person in persons) == sorted(count for count in counts if count)
    best = max(range(people), key=lambda number: (counts[number], number))
    expected = [seen.index(best) if best in seen else None for seen in names]
    assert main_faces(frames) == expected
