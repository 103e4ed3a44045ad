"""The 80-d summary of a clip's AU activity (CA-FER equation 2)."""

from __future__ import annotations

import numpy as np

ACTIVE = 0.1
"""An AU counts as active in a frame from this intensity; the paper gives no threshold."""


def au_statistics(au: np.ndarray, face_found: np.ndarray | None = None) -> np.ndarray:
    """AU intensities [T,20] -> float32 [80]: 20 means, 20 standard deviations, 20 maxima, 20 activation frequencies.

    Frames without a face (`face_found` bool [T]) are left out; a clip without any face gives NaN, never zeros,
    so that it cannot pass for a neutral one. The standard deviation is the population's (ddof 0).
    """
    if au.ndim != 2:
        raise ValueError(f"expected AU intensities [frames, AUs], got shape {au.shape}")
    if face_found is not None:
        au = au[np.asarray(face_found, bool)]
    if len(au) == 0:
        return np.full(4 * au.shape[1], np.nan, np.float32)
    return np.concatenate([au.mean(0), au.std(0), au.max(0), (au >= ACTIVE).mean(0)]).astype(np.float32)
