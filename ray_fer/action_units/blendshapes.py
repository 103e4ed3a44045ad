"""Action Units from MediaPipe's 52 ARKit-style blendshapes: the extractor that needs no weights from a hub.

A blendshape is not a FACS intensity, but most ARKit shapes were designed after one AU. `AU_FROM_BLENDSHAPES` is that
correspondence; left and right shapes are averaged. AU11 (nasolabial deepener) has no ARKit shape and is 0. On top of it
lies a calibration (`blendshape_map.json`): a scale, an offset or a second shape, fitted where AUs are known, for those
AUs that are read better so. What is hardly read either way is listed by `blendshape_map.packaged_map().unreliable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ray_fer.action_units.blendshape_map import BLENDSHAPE_NAMES, packaged_map
from ray_fer.labels import AU_NAMES

EXTRACTOR = "mediapipe-blendshapes"
CALIBRATED_EXTRACTOR = "mediapipe-blendshapes-calibrated"

AU_FROM_BLENDSHAPES: dict[str, tuple[str, ...]] = {
    "AU01": ("browInnerUp",),
    "AU02": ("browOuterUpLeft", "browOuterUpRight"),
    "AU04": ("browDownLeft", "browDownRight"),
    "AU05": ("eyeWideLeft", "eyeWideRight"),
    "AU06": ("cheekSquintLeft", "cheekSquintRight"),
    "AU07": ("eyeSquintLeft", "eyeSquintRight"),
    "AU09": ("noseSneerLeft", "noseSneerRight"),
    "AU10": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "AU11": (),
    "AU12": ("mouthSmileLeft", "mouthSmileRight"),
    "AU14": ("mouthDimpleLeft", "mouthDimpleRight"),
    "AU15": ("mouthFrownLeft", "mouthFrownRight"),
    "AU17": ("mouthShrugLower",),
    "AU20": ("mouthStretchLeft", "mouthStretchRight"),
    "AU23": ("mouthRollUpper", "mouthRollLower"),
    "AU24": ("mouthPressLeft", "mouthPressRight"),
    "AU25": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower",),
    "AU43": ("eyeBlinkLeft", "eyeBlinkRight"),
}


def _documented() -> np.ndarray:
    weights = np.zeros((len(BLENDSHAPE_NAMES), len(AU_NAMES)), np.float32)
    for column, au in enumerate(AU_NAMES):
        shapes = AU_FROM_BLENDSHAPES[au]
        for shape in shapes:
            weights[BLENDSHAPE_NAMES.index(shape), column] = 1 / len(shapes)
    return weights


_DOCUMENTED = _documented()


@lru_cache(maxsize=1)
def _fitted() -> tuple[np.ndarray, np.ndarray]:
    return packaged_map().matrix()


def aus_from_blendshapes(blendshapes: np.ndarray, calibrated: bool = False) -> np.ndarray:
    """Blendshape scores float [...,52] -> AU intensities float32 [...,20] in 0..1, in py-feat's AU order.

    With `calibrated` False the documented correspondence alone. Raises ValueError for another number of blendshapes.
    """
    if blendshapes.shape[-1] != len(BLENDSHAPE_NAMES):
        raise ValueError(f"expected {len(BLENDSHAPE_NAMES)} blendshapes, got an array of shape {blendshapes.shape}")
    shapes = np.asarray(blendshapes, np.float32)
    if not calibrated:
        return shapes @ _DOCUMENTED
    weights, offsets = _fitted()
    return np.clip(shapes @ weights + offsets, 0, 1)


class BlendshapeExtractor:
    """Reads the `blendshapes` of a clip store; no pixel is touched. See `extractor.ActionUnitExtractor`."""

    columns = ("blendshapes",)
    active = 0.1

    def __init__(self, calibrated: bool = True) -> None:
        self._calibrated = calibrated
        self.name = CALIBRATED_EXTRACTOR if calibrated else EXTRACTOR

    def extract(self, clips: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """AU intensities float32 [T,20] of each clip, NaN in frames without a face."""
        results = []
        for clip in clips:
            shapes = np.asarray(clip["blendshapes"], np.float32).reshape(-1, len(BLENDSHAPE_NAMES))
            aus = aus_from_blendshapes(shapes, self._calibrated)
            aus[~np.asarray(clip["face_found"], bool)] = np.nan
            results.append(aus)
        return results

    def close(self) -> None:
        """Nothing to release."""
