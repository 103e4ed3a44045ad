"""Temporal sampling: which frames of a clip or window a model sees."""

from __future__ import annotations

import numpy as np


def uniform_indices(available: int, wanted: int) -> np.ndarray:
    """Indices int64 [wanted] of frames spread uniformly over `available` frames (CA-FER section II.A).

    The clip is cut into `wanted` equal parts and the middle frame of each is taken, so the choice is
    deterministic and symmetric. A clip shorter than `wanted` is taken whole and its last frame repeated:
    repeating the first one instead shows a model a face that jumps back to its start.

    Raises ValueError when either number is below one.
    """
    if available < 1 or wanted < 1:
        raise ValueError(f"cannot sample {wanted} frames from {available}")
    if available < wanted:
        return np.minimum(np.arange(wanted), available - 1)
    return np.floor((np.arange(wanted) + 0.5) * available / wanted).astype(np.int64)
