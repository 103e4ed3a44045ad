"""How SynthFER's invented cultures express the seven expressions, as AU intensities.

The base patterns are the usual EMFACS-like combinations. Each synthetic culture multiplies them by its own
per-AU gains and adds an accent of its own, so that AU statistics differ between groups by a known, planted amount.
The groups are invented and stand for no population.
"""

from __future__ import annotations

import numpy as np

from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES, index_of

BASE_PATTERNS: dict[str, dict[str, float]] = {
    "Angry": {"AU04": 1.0, "AU05": 0.3, "AU07": 0.8, "AU23": 0.9, "AU24": 0.9},
    "Disgust": {"AU09": 1.0, "AU10": 0.9, "AU15": 0.4, "AU17": 0.7},
    "Fear": {"AU01": 0.9, "AU02": 0.5, "AU04": 0.6, "AU05": 0.9, "AU20": 1.0, "AU25": 0.5},
    "Happy": {"AU06": 0.8, "AU12": 1.0, "AU25": 0.4},
    "Neutral": {},
    "Sad": {"AU01": 0.9, "AU04": 0.7, "AU15": 1.0, "AU17": 0.6},
    "Surprise": {"AU01": 0.9, "AU02": 0.9, "AU05": 0.7, "AU25": 0.8, "AU26": 1.0},
}
"""Peak intensities (0..1) of each expression before culture."""

_UPPER = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07")

_GAINS: dict[str, tuple[float, float, dict[str, float]]] = {  # upper-face gain, lower-face gain, accents
    "Synthetic A": (1.0, 1.0, {}),
    "Synthetic B": (1.2, 0.75, {"AU02": 0.12}),
    "Synthetic C": (0.7, 1.2, {"AU14": 0.2}),
    "Synthetic D": (0.85, 0.85, {"AU17": 0.15, "AU43": 0.1}),
}


def peak_intensities(expression: str, culture: str) -> np.ndarray:
    """AU intensities float32 [20] at the apex of `expression` as the synthetic `culture` shows it, in 0..1.2.

    Raises ValueError for an unknown expression or culture.
    """
    index_of(expression, EXPRESSIONS, "expression")
    index_of(culture, SYNTHETIC_CULTURES, "synthetic culture")
    upper, lower, accents = _GAINS[culture]
    values = np.zeros(len(AU_NAMES), np.float32)
    for au, intensity in BASE_PATTERNS[expression].items():
        values[AU_NAMES.index(au)] = intensity * (upper if au in _UPPER else lower)
    if expression != "Neutral":
        for au, extra in accents.items():
            values[AU_NAMES.index(au)] += extra
    return values
