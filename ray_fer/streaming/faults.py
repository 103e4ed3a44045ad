"""Points at which a worker can be told to die, for tests of what survives: RAY_FER_FAULT=point[:nth time]."""

from __future__ import annotations

import os
from collections import Counter
from typing import Literal, get_args

Point = Literal["after-poll", "after-infer", "after-begin", "after-send", "after-offsets", "after-commit"]
POINTS: tuple[Point, ...] = get_args(Point)
VARIABLE = "RAY_FER_FAULT"

_passed: Counter[str] = Counter()


def fault_point(point: Point) -> None:
    """End the process at once, as `kill -9` would, if the environment names this point and this passing of it.

    Raises ValueError for a point that there is not.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, times = wanted.partition(":")
    if name not in POINTS:
        raise ValueError(f"{VARIABLE}={wanted}: there is no such point; name one of {', '.join(POINTS)}")
    _passed[point] += 1
    if name == point and _passed[point] == int(times or 1):
        os._exit(137)
