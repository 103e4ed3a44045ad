"""The 80-d summary of a clip's AU activity (CA-FER equation 2)."""

from __future__ import annotations

import numpy as np

ACTIVE = 0.1
"""An AU counts as active in a frame from this intensity; the paper gives no threshold.

It suits the blendshape extractor, whose intensities are small. Extractors differ in what their numbers mean and each
names its own in `active`: 0.5 for py-feat's probabilities, 0.2 (A, the lowest FACS intensity) for OpenFace.
"""


def au_statistics(au: np.ndarray, face_found: np.ndarray | None = None, active: float = ACTIVE) -> np.ndarray:
    """AU intensities [T,20] -> float32 [80]: 20 means, 20 standard deviations, 20 maxima, 20 activation frequencies.

    Frames without a face (`face_found` bool [T]) are left out; a clip without any face gives NaN, never zeros,
    so that it cannot pass for a neutral one. NaN intensities were not measured: an AU that was measured in no frame has
    NaN statistics, one that was measured in some is summarised over those. The standard deviation is the population's
    (ddof 0). An AU is active where its intensity is at least `active`. Raises ValueError for an array that is not
    two-dimensional, and for flags of another length.
    """
    if au.ndim != 2:
        raise ValueError(f"expected AU intensities [frames, AUs], got shape {au.shape}")
    values = au.astype(np.float64)
    if face_found is not None:
        faces = np.asarray(face_found, bool)
        if len(faces) != len(values):
            raise ValueError(f"{len(values)} frames of Action Units but {len(faces)} of face flags")
        values = values[faces]
    measured = ~np.isnan(values)
    count = measured.sum(0)
    if not len(values):
        return np.full(4 * au.shape[1], np.nan, np.float32)
    with np.errstate(invalid="ignore"):  # 0 / 0 is what an AU without a measured frame is meant to give
        mean = np.where(measured, values, 0).sum(0) / count
        deviation = np.sqrt((np.where(measured, values - mean, 0) ** 2).sum(0) / count)
        highest = np.where(count > 0, np.where(measured, values, -np.inf).max(0), np.nan)
        frequency = (measured & (values >= active)).sum(0) / count
    deviation[count == 0] = np.nan
    return np.concatenate([mean, deviation, highest, frequency]).astype(np.float32)
