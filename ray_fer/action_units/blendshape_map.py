"""The fitted numbers that turn blendshapes into Action Units: `blendshape_map.json` beside this module."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ray_fer.labels import AU_NAMES

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

PACKAGED = Path(__file__).parent / "blendshape_map.json"


RELIABLE_FROM = 0.5
"""Correlation within held-out identities from which on an AU counts as measured."""


class Reading(BaseModel):
    """How well one AU is read on held-out identities: Pearson correlation and mean absolute error over all frames.

    `within` is the mean over identities of the correlation among the frames of one: what differs between faces at rest
    does not count there.
    """

    model_config = ConfigDict(extra="forbid")

    correlation: float
    within: float
    mae: float


class AuMap(BaseModel):
    """One AU: `offset` + sum of `weights` x blendshape, cut off at 0 and 1. A paired shape is the mean of both sides.

    Where `calibrated` is False no fit was better and the documented correspondence stands, on MediaPipe's own scale.
    `held_out` are the figures of this map, `held_out_documented` those of the correspondence on the same frames.
    """

    model_config = ConfigDict(extra="forbid")

    weights: dict[str, float]
    offset: float
    calibrated: bool
    held_out: Reading
    held_out_documented: Reading

    @property
    def reliable(self) -> bool:
        """Whether it follows the AU well enough on faces that it was not fitted on."""
        return self.held_out.within >= RELIABLE_FROM


class BlendshapeMap(BaseModel):
    """`blendshape_map.json`: one `AuMap` per AU, and what they were fitted on."""

    model_config = ConfigDict(extra="forbid")

    fitted_on: str
    train_identities: int
    train_frames: int
    held_out_identities: int
    held_out_frames: int
    aus: dict[str, AuMap]

    @property
    def unreliable(self) -> tuple[str, ...]:
        """AUs that the blendshapes hardly follow, calibrated or not, in py-feat's order."""
        return tuple(au for au in AU_NAMES if not self.aus[au].reliable)

    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights float32 [52,20] and offsets float32 [20]."""
        weights = np.zeros((len(BLENDSHAPE_NAMES), len(AU_NAMES)), np.float32)
        for number, au in enumerate(AU_NAMES):
            for shape, weight in self.aus[au].weights.items():
                columns = shape_columns(shape)
                weights[columns, number] = weight / len(columns)
        return weights, np.array([self.aus[au].offset for au in AU_NAMES], np.float32)

    def write(self, path: str | Path) -> Path:
        """Write it as JSON and return the path."""
        path = Path(path)
        path.write_text(json.dumps(self.model_dump(), indent=1) + "\n")
        return path


def shape_columns(shape: str) -> list[int]:
    """Positions among the 52 of a blendshape, or of both sides of a paired one; KeyError when there is none."""
    names = [shape] if shape in BLENDSHAPE_NAMES else [f"{shape}Left", f"{shape}Right"]
    if any(name not in BLENDSHAPE_NAMES for name in names):
        raise KeyError(f"MediaPipe has no blendshape {shape!r}")
    return [BLENDSHAPE_NAMES.index(name) for name in names]


def read_map(path: str | Path) -> BlendshapeMap:
    """Load a map. Raises FileNotFoundError, or ValueError that names the file and what is wrong in it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such blendshape map")
    try:
        found = BlendshapeMap.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not hold a blendshape map: {error}") from error
    if missing := [au for au in AU_NAMES if au not in found.aus]:
        raise ValueError(f"{path} has no map for {', '.join(missing)}")
    return found


@lru_cache(maxsize=1)
def packaged_map() -> BlendshapeMap:
    """The map that comes with the package."""
    return read_map(PACKAGED)
