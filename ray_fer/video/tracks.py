"""Who is who over the frames of a clip: faces are joined to persons, and the clip's main person is chosen.

Faces are tracked by their boxes alone; no identity is computed. A person who leaves and comes back elsewhere, or a cut
to another camera, therefore counts as another person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ray_fer.video.boxes import Box, area, iou

MIN_IOU = 0.3


@dataclass(frozen=True)
class Person:
    """One tracked face: `boxes[t]` is its box in frame t, `faces[t]` its place among that frame's faces."""

    boxes: dict[int, Box]
    faces: dict[int, int]

    @property
    def frames(self) -> int:
        """In how many frames the face was seen."""
        return len(self.boxes)

    def median_box(self) -> Box:
        """Median of left, top, width and height over the frames."""
        left, top, width, height = np.median(np.array(list(self.boxes.values())), axis=0).tolist()
        return left, top, width, height


def track_faces(frames: Sequence[Sequence[Box]], min_iou: float = MIN_IOU) -> list[Person]:
    """Join the faces of successive frames to persons, greedily, best match first.

    A face continues the person whose last box it overlaps most (IoU of at least `min_iou`). What is left is matched by
    `nearness`: sampled frames are some tenths of a second apart, in which a head may move by more than half its width.
    A person may be lost for any number of frames.
    """
    persons: list[Person] = []
    last: list[Box] = []
    for position, boxes in enumerate(frames):
        free_faces, free_persons = set(range(len(boxes))), set(range(len(persons)))
        for likeness, least in ((iou, min_iou), (nearness, 0.0)):
            for face, person in _best_first(boxes, last, likeness, least):
                if face in free_faces and person in free_persons:
                    free_faces.remove(face)
                    free_persons.remove(person)
                    persons[person].boxes[position] = last[person] = boxes[face]
                    persons[person].faces[position] = face
        for face in sorted(free_faces):
            persons.append(Person({position: boxes[face]}, {position: face}))
            last.append(boxes[face])
    return persons


def main_faces(frames: Sequence[Sequence[Box]]) -> list[int | None]:
    """Which face of each frame is the clip's main person; None where that person is not seen.

    The main person is the one seen in most frames (CA-FER section II.A), of equals the one with the larger face.
    When even that one is seen in less than half of the frames that show a face, or in one of several, tracking has
    failed: the head moves faster than boxes can follow, or the clip is cut between many people. Then the largest face
    of each frame is taken, as in a live stream; a clip of one person must not lose frames because it was tracked.
    """
    persons = track_faces(frames)
    if not persons:
        return [None] * len(frames)
    main = max(persons, key=lambda person: (person.frames, area(person.median_box())))
    shown = sum(1 for boxes in frames if boxes)
    if 2 * main.frames < shown or main.frames == 1 < shown:
        return [max(range(len(boxes)), key=lambda face: area(boxes[face]), default=None) for boxes in frames]
    return [main.faces.get(position) for position in range(len(frames))]


def nearness(first: Box, second: Box) -> float:
    """1 for concentric boxes, 0 from one face apart on; 0 when one is more than twice as wide as the other."""
    size = max(first[2], first[3], second[2], second[3])
    if size <= 0 or not 0.5 <= first[2] / max(second[2], 1e-9) <= 2.0:
        return 0.0
    across = first[0] + first[2] / 2 - second[0] - second[2] / 2
    down = first[1] + first[3] / 2 - second[1] - second[3] / 2
    return max(0.0, 1.0 - float(np.hypot(across, down)) / size)


def _best_first(
    boxes: Sequence[Box], last: Sequence[Box], likeness: Callable[[Box, Box], float], least: float
) -> list[tuple[int, int]]:
    scored = [
        (likeness(box, previous), face, person)
        for face, box in enumerate(boxes)
        for person, previous in enumerate(last)
    ]
    wanted = sorted((item for item in scored if item[0] > 0 and item[0] >= least), key=lambda item: -item[0])
    return [(face, person) for _, face, person in wanted]
