"""Mixtures of two datasets, as in papers/eila_multidataset.md, section 3.1 ("Dataset Integration") and Table 3."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]


def mix(base: Rows, extra: Rows, fraction: float, seed: int) -> Rows:
    """All of `base`, `fraction` of the training and validation clips of `extra`, and the whole test split of `extra`.

    Drawn per class, rounded down, which gives Table 3's sizes exactly (4,852 training clips: 482 for 10%, 1,451 for
    30%, 2,425 for 50%). What `base` has outside its training split becomes validation, as Table 3 counts it (FER2013:
    28,709 and 7,178), since every mixture is tested on `extra` alone.

    Raises ValueError for a fraction outside 0 to 1, clips of `extra` without a split, or a clip_id in both.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction {fraction} is not between 0 and 1")
    shared = {row["clip_id"] for row in base} & {row["clip_id"] for row in extra}
    if shared:
        raise ValueError(f"clip {sorted(shared)[0]} is in both manifests; mix two different datasets")
    if any(row["split"] not in ("train", "val", "test") for row in extra):
        raise ValueError("some clips of the second manifest have no split; give it one with `ray-fer split`")
    exact = Fraction(str(fraction))
    rng = np.random.default_rng(seed)
    cells: dict[tuple[str, str | None], Rows] = defaultdict(list)
    for row in sorted(extra, key=lambda row: row["clip_id"]):
        cells[row["split"], row["label"]].append(row)
    mixed = [row | {"split": "train" if row["split"] in ("train", None) else "val", "fold": None} for row in base]
    for (split, _), members in sorted(cells.items(), key=lambda cell: (cell[0][0], str(cell[0][1]))):
        count = len(members) if split == "test" else math.floor(exact * len(members))
        chosen = sorted(rng.permutation(len(members))[:count].tolist())
        mixed += [members[position] | {"fold": None} for position in chosen]
    return mixed
