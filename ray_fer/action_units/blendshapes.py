"""Action Units from MediaPipe's 52 ARKit-style blendshapes: the extractor that needs no weights from a hub.

A blendshape is not a FACS intensity, but most ARKit shapes were designed after one AU. The table below is that
correspondence; left and right shapes are averaged. AU11 (nasolabial deepener) has no ARKit shape and is 0.
"""

from __future__ import annotations

import numpy as np

from ray_fer.labels import AU_NAMES

EXTRACTOR = "mediapipe-blendshapes"

BLENDSHAPE_NAMES: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""MediaPipe's output order (a test checks it against the installed model)."""

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


def _matrix() -> np.ndarray:
    weights = np.zeros((len(BLENDSHAPE_NAMES), len(AU_NAMES)), np.float32)
    for column, au in enumerate(AU_NAMES):
        shapes = AU_FROM_BLENDSHAPES[au]
        for shape in shapes:
            weights[BLENDSHAPE_NAMES.index(shape), column] = 1 / len(shapes)
    return weights


_WEIGHTS = _matrix()


def aus_from_blendshapes(blendshapes: np.ndarray) -> np.ndarray:
    """Blendshape scores float [...,52] -> AU intensities float32 [...,20] in 0..1, in py-feat's AU order."""
    if blendshapes.shape[-1] != len(BLENDSHAPE_NAMES):
        raise ValueError(f"expected {len(BLENDSHAPE_NAMES)} blendshapes, got an array of shape {blendshapes.shape}")
    return np.asarray(blendshapes, np.float32) @ _WEIGHTS
