"""Which parts of the face speak for a class, by group: EthnicMER's Figs 3 and 4. `activation_run` computes it.

For each class and culture group, the mean over its clips of Grad-CAM for the clip's true class, each map from 0 to 1,
and how much of it lies in the regions of Action Units. The paper shows single clips of its choice, and concludes from
them that a group shows an expression on one side of the face, or with its upper half; here are all clips, with figures.

Three things to know before a difference is believed:

* The last convolution sees places coarsely: ResNet-18 has 7 x 7 cells of 32 px for a face whose eyes are 76 px apart.
  Regions that are smaller than a cell, or in the same one, cannot be told apart.
* A cell is not drawn exactly over what it sees. Strides start at the left edge, and cells at an edge see what is
  further in: of a ResNet-18 trained on SynthFER's micro-expressions, the middle cell sees 11 px to the left of its
  place, and the rightmost 44 px. Surprise, which its group B shows alike on both sides, had an asymmetry of 0.11
  (mirrored clips: 0.13, where it should be -0.11); the smile that is planted on the left alone had 0.31 (mirrored:
  -0.33). Small asymmetries are no findings, even where the clips agree.
* It is about the model. That it looks elsewhere in another group does not say that the group moves another muscle.

*Left* is the person's own, on the right of a picture that is not mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ray_fer.action_units.regions import EXPRESSION_AUS, FACE, REGIONS, SIDES, Side, filled, region_mask
from ray_fer.evaluation.attention import GRAD_CAM
from ray_fer.evaluation.groups import FEW
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.models.transform import TransformConfig
from ray_fer.video.faces import ALIGNED_SIZE

FORMAT = 1
COARSE = 28
"""Cells along each side of the maps in the file; of 8 px each."""


@dataclass(frozen=True)
class RegionShare:
    """How much of a map lies in one region; both None where the network sees nothing of it, or the map is 0."""

    share: float | None
    """Of all activation in the crop, 0 to 1. Regions overlap: shares of several must not be added up."""
    density: float | None
    """Mean inside the region / mean inside the face: 1 where the region is as the face is on average."""


@dataclass(frozen=True)
class GroupMap:
    """The clips of one class and group."""

    expression: str
    group: str
    count: int
    """Clips whose maps are in the mean."""
    flat: int
    """Further clips of whose map no place stands out: they are in no figure."""
    heat: np.ndarray
    """float64 [224,224], mean map on the aligned crop, within 0 and 1; 0 where the network does not see it."""
    landmarks: np.ndarray
    """float64 [478,2], mean places in pixels of the crop, of all clips."""
    face: np.ndarray | None
    """float64 [224,224], mean grey level of all clips, 0 to 255; None where no face may be shown."""
    face_share: float | None
    """Share of all activation that lies in the face; None, as what follows, where all clips are flat."""
    asymmetry: float | None
    """(L - R) / (L + R), L and R the mean in the left and in the right half of the face; -1 to 1."""
    asymmetry_std: float | None
    """Standard deviation of the clips' own asymmetries, divisor n - 1; None of a single clip."""
    regions: dict[str, dict[Side, RegionShare]]
    """By AU and side of the person."""

    @property
    def few(self) -> bool:
        """Whether there are too few clips to conclude from."""
        return self.count < FEW

    def summary(self) -> dict[str, Any]:
        """The part of report.json: the regions of the class's own AUs alone."""
        own = EXPRESSION_AUS.get(self.expression, ())
        return {
            "expression": self.expression, "group": self.group, "count": self.count, "few": self.few, "flat": self.flat,
            "face_share": _rounded(self.face_share), "asymmetry": _rounded(self.asymmetry),
            "asymmetry_std": _rounded(self.asymmetry_std), "regions": {name: self._region(name) for name in own},
        }  # fmt: skip

    def content(self) -> dict[str, Any]:
        """The part of the file: all regions, and the map in `COARSE` x `COARSE` cells."""
        step = ALIGNED_SIZE // COARSE
        cells = self.heat.reshape(COARSE, step, COARSE, step).mean(axis=(1, 3))
        every = {name: self._region(name) for name in self.regions}
        return self.summary() | {"regions": every, "map": cells.round(4).tolist()}

    def _region(self, name: str) -> dict[str, Any]:
        sides = self.regions[name].items()
        return {side: {"share": _rounded(one.share), "density": _rounded(one.density)} for side, one in sides}


@dataclass(frozen=True)
class ActivationMaps:
    """Mean Grad-CAM of a model's clips by class and group."""

    model: str
    """Name and version."""
    trunk: str
    """Which of the model's `trunks` was looked into."""
    cell: tuple[float, float]
    """Pixels of the crop that a cell of the last convolution is high and wide."""
    maps: list[GroupMap]
    """In the order of the classes, then of the groups; of classes and groups that have clips."""
    told_culture: bool = False

    @property
    def expressions(self) -> list[str]:
        """Classes that have clips."""
        return list(dict.fromkeys(one.expression for one in self.maps))

    @property
    def groups(self) -> list[str]:
        """Groups that have clips, by name; unknown last."""
        return sorted({one.group for one in self.maps}, key=lambda name: (name == UNKNOWN_CULTURE, name))

    def of(self, expression: str, group: str) -> GroupMap | None:
        """The map of one class and group, where it has clips."""
        return next((one for one in self.maps if (one.expression, one.group) == (expression, group)), None)

    def summary(self) -> dict[str, Any]:
        """The part of report.json: everything but the maps, and the regions of each class's own AUs alone."""
        return self._about() | {"maps": [one.summary() for one in self.maps]}

    def content(self) -> dict[str, Any]:
        """`activation-maps.json`."""
        about = {"format": FORMAT, "model": self.model, "culture_told": self.told_culture, **self._about()}
        return about | {"maps": [one.content() for one in self.maps]}

    def _about(self) -> dict[str, Any]:
        return {
            "method": GRAD_CAM, "trunk": self.trunk, "cell": [round(side, 2) for side in self.cell], "few_below": FEW,
            "faces": any(one.face is not None for one in self.maps),
        }  # fmt: skip


def placed(maps: Tensor, transform: TransformConfig) -> tuple[Tensor, np.ndarray]:
    """Maps [N,h,w] of what the network sees, where that lies on the aligned crop: float [N,224,224], bilinear.

    Also says which pixels the network sees, bool [224,224]; the maps are 0 elsewhere. `transform` is that of the input
    which the maps are of.
    """
    left, top, side = (round(value * ALIGNED_SIZE) for value in (transform.left, transform.top, transform.side))
    margin, wide = side * (1 - transform.zoom) / 2, side * transform.zoom
    centres = torch.arange(ALIGNED_SIZE, dtype=maps.dtype, device=maps.device) + 0.5
    down, across = ((centres - start - margin) / wide for start in (top, left))
    grid = torch.stack(torch.meshgrid(2 * across - 1, 2 * down - 1, indexing="xy"), dim=-1)
    grid = grid.expand(len(maps), *grid.shape)
    found = functional.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    rows, columns = ((one >= 0) & (one <= 1) for one in (down, across))
    seen = rows[:, None] & columns[None, :]
    return found * seen, seen.cpu().numpy()


def asymmetry(heat: np.ndarray, landmarks: np.ndarray, seen: np.ndarray) -> float | None:
    """(L - R) / (L + R): L is the mean of a map [224,224] over the left half of the face as far as the network sees it.

    Means, and not sums, so that a head that is turned does not count. None where there is nothing in either half.
    """
    means = []
    for side in SIDES:
        half = filled(FACE[side], landmarks, ALIGNED_SIZE) & seen
        means.append(float(heat[half].mean()) if half.any() else 0.0)
    left, right = means
    return (left - right) / (left + right) if left + right > 0 else None


def region_shares(
    heat: np.ndarray, landmarks: np.ndarray, seen: np.ndarray
) -> tuple[dict[str, dict[Side, RegionShare]], float | None]:
    """Where a map [224,224] lies: in each AU's regions, and its share in the face, None of a map that is 0."""
    face = np.logical_or(*(filled(FACE[side], landmarks, ALIGNED_SIZE) for side in SIDES)) & seen
    total, within = float(heat.sum()), float(heat[face].sum())

    def share(name: str, side: Side) -> RegionShare:
        region = region_mask(name, side, landmarks, ALIGNED_SIZE) & seen
        if not region.any() or not within:
            return RegionShare(None, None)
        density = float(heat[region].mean()) * int(face.sum()) / within
        return RegionShare(float(heat[region].sum()) / total, density)

    regions = {name: {side: share(name, side) for side in SIDES} for name in REGIONS}
    return regions, within / total if total else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
