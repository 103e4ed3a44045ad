"""How many persons a clip shows, and which one is seen most often (CA-FER section II.A).

Faces are tracked from frame to frame by their boxes alone: no identity is computed. A person who leaves and comes back
elsewhere, or a cut to another camera, therefore counts as another person; the rule errs towards dropping a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ray_fer.video.boxes import Box, area, iou

NO_FACE = "persons: no face in any sampled frame"


@dataclass(frozen=True)
class PersonRule:
    """How persons are counted. `max_persons` None: any number, the most frequent one is chosen all the same."""

    max_persons: int | None = 2
    frames: int = 12
    """Frames looked at, spread uniformly over the clip."""
    min_share: float = 0.1
    """A face seen in a smaller share of the frames is a passer-by or a false detection, and no person."""
    min_iou: float = 0.3

    def __post_init__(self) -> None:
        if (self.max_persons is not None and self.max_persons < 1) or self.frames < 1 or not 0 <= self.min_share <= 1:
            raise ValueError(f"{self}: needs max_persons and frames of at least 1, min_share from 0 to 1")


@dataclass(frozen=True)
class Person:
    """One tracked face: `boxes[t]` is its box in sampled frame t, `faces[t]` its place among that frame's faces."""

    boxes: dict[int, Box]
    faces: dict[int, int]

    @property
    def frames(self) -> int:
        """In how many sampled frames the face was seen."""
        return len(self.boxes)

    def median_box(self) -> Box:
        """Median of left, top, width and height over the frames."""
        left, top, width, height = np.median(np.array(list(self.boxes.values())), axis=0).tolist()
        return left, top, width, height


@dataclass(frozen=True)
class PersonDecision:
    """The clip's `main` person; or None with the `reason` to drop it. `seen`: frames of each person, most first."""

    main: Person | None
    seen: tuple[int, ...]
    reason: str | None = None


def track_faces(frames: Sequence[Sequence[Box]], min_iou: float = 0.3) -> list[Person]:
    """Join the faces of successive frames to persons, greedily, best match first.

    A face continues the person whose last box it overlaps most (IoU of at least `min_iou`). What is left is matched by
    distance, when the centres lie less than one face apart and the sizes are alike: sampled frames are some tenths of a
    second apart, in which a head may move by more than half its width.
    """
    persons: list[Person] = []
    last: list[Box] = []
    for position, boxes in enumerate(frames):
        free_faces, free_persons = set(range(len(boxes))), set(range(len(persons)))
        for likeness, least in ((iou, min_iou), (_nearness, 0.0)):
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


def choose_person(persons: Sequence[Person], frames: int, rule: PersonRule) -> PersonDecision:
    """CA-FER's rule: more than two persons drop a clip; of the others the one seen most often is kept.

    `frames` is how many were looked at. The larger face wins a tie.
    """
    real = [person for person in persons if person.frames >= rule.min_share * frames]
    real.sort(key=lambda person: (-person.frames, -area(person.median_box())))
    seen = tuple(person.frames for person in real)
    if not real:
        return PersonDecision(None, seen, NO_FACE)
    if rule.max_persons is not None and len(real) > rule.max_persons:
        return PersonDecision(None, seen, f"persons: more than {rule.max_persons}")
    return PersonDecision(real[0], seen)


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


def _nearness(first: Box, second: Box) -> float:
    """1 for concentric boxes, 0 from one face apart on; 0 when one is more than twice as wide as the other."""
    size = max(first[2], first[3], second[2], second[3])
    if size <= 0 or not 0.5 <= first[2] / max(second[2], 1e-9) <= 2.0:
        return 0.0
    across = first[0] + first[2] / 2 - second[0] - second[2] / 2
    down = first[1] + first[3] / 2 - second[1] - second[3] / 2
    return max(0.0, 1.0 - float(np.hypot(across, down)) / size)
