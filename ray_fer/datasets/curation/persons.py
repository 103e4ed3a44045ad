"""How many persons a clip shows, and which one is seen most often (CA-FER section II.A).

Faces are tracked from frame to frame by their boxes alone: no identity is computed. A person who leaves and comes back
elsewhere, or a cut to another camera, therefore counts as another person; the rule errs towards dropping a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_fer.video.boxes import area
from ray_fer.video.tracks import MIN_IOU, Person

NO_FACE = "persons: no face in any sampled frame"


@dataclass(frozen=True)
class PersonRule:
    """How persons are counted. `max_persons` None: any number, the most frequent one is chosen all the same."""

    max_persons: int | None = 2
    frames: int = 12
    """Frames looked at, spread uniformly over the clip."""
    min_share: float = 0.1
    """A face seen in a smaller share of the frames is a passer-by or a false detection, and no person."""
    min_iou: float = MIN_IOU

    def __post_init__(self) -> None:
        if (self.max_persons is not None and self.max_persons < 1) or self.frames < 1 or not 0 <= self.min_share <= 1:
            raise ValueError(f"{self}: needs max_persons and frames of at least 1, min_share from 0 to 1")


@dataclass(frozen=True)
class PersonDecision:
    """The clip's `main` person; or None with the `reason` to drop it. `seen`: frames of each person, most first."""

    main: Person | None
    seen: tuple[int, ...]
    reason: str | None = None


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
