"""The loss around a trained model, and how sharp it is: HDF's Figure 5. `landscape_run` computes it.

What is shown is a plane through the weights, spanned by two random directions out of millions (Li et al., Visualizing
the Loss Landscape of Neural Nets, NeurIPS 2018). Other directions give other figures: with four seeds, the loss of the
packaged model rose by 0.4 to 1.1 nats within a distance of 0.5, and with a quarter of the clips by nearly the same.
Compare models on the same clips and grid, with several seeds, before a difference is believed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FORMAT = 1
RADII = (0.25, 0.5)
"""Distances from the trained weights within which the largest loss is looked for."""
FLAT = 0.1
"""Nats: where the loss is above that of the trained weights by no more than this, the landscape counts as flat."""


@dataclass(frozen=True)
class LandscapeOptions:
    """What is computed. Raises ValueError that names the value that is wrong."""

    clips: int = 64
    """How many of the evaluated clips; all where there are fewer."""
    points: int = 15
    """Along each side of the grid; odd, so that the trained weights are its centre."""
    reach: float = 1.0
    """alpha and beta go from minus this to this. At 1 each filter was moved by as much as it is long."""
    seed: int = 0
    """Of the two directions."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"a loss landscape of {self.clips} clips: give 1 or more, such as 64")
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(
                f"a loss landscape of {self.points} x {self.points} points: give an odd number, 3 or more, so that the "
                "trained weights are its centre"
            )
        if not 0 < self.reach < math.inf:
            raise ValueError(f"a loss landscape that reaches {self.reach:g} far: give a positive number, such as 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed {self.seed} of a loss landscape: give a whole number from 0 to 2^63 - 1")

    @property
    def steps(self) -> np.ndarray:
        """float64 [points]: the values of alpha, and of beta. The middle one is exactly 0."""
        half = self.points // 2
        return self.reach * np.arange(-half, half + 1) / half


@dataclass(frozen=True)
class Within:
    """The points of the grid that are no farther from the trained weights than `radius`, except these."""

    radius: float
    points: int
    largest: float | None
    """Nats: the largest loss among them; infinite where one is not finite, None where there is no point."""
    rise: float | None
    """Nats: by how much that is above the loss at the centre; below 0 where all are lower."""


@dataclass(frozen=True)
class Sharpness:
    """Figures of a landscape by which two models can be compared."""

    centre: float
    """Nats: the loss of the trained weights."""
    within: tuple[Within, ...]
    """For each of `RADII`. The rise is what Keskar et al. (On Large-Batch Training for Deep Learning, ICLR 2017) call
    sharpness, here of a plane and not divided by 1 + the loss at the centre: it stays in nats."""
    flat_share: float
    """Share of all points of the grid whose loss is above the centre's by no more than `FLAT`. A model that has learned
    nothing is flat everywhere: read it beside the loss at the centre."""


@dataclass(frozen=True)
class Landscape:
    """Mean cross-entropy in nats on a grid around a model's weights."""

    model: str
    """Name and version."""
    options: LandscapeOptions
    losses: np.ndarray
    """float64 [points,points]: alpha along the first axis, beta along the second. May hold inf and NaN."""
    clip_ids: list[str]
    """Of the clips whose loss it is."""
    told_culture: bool = False

    @property
    def not_finite(self) -> int:
        """At how many points the model's answer overflowed, so that the loss is infinite or NaN."""
        return int((~np.isfinite(self.losses)).sum())

    @property
    def sharpness(self) -> Sharpness:
        """Figures to compare models by. NaN counts as larger than every loss."""
        steps, half = self.options.steps, self.options.points // 2
        centre = float(self.losses[half, half])
        losses = np.where(np.isnan(self.losses), np.inf, self.losses)
        distance = np.hypot(steps[:, None], steps[None, :])
        within = []
        for radius in RADII:
            near = losses[(distance > 0) & (distance <= radius)]
            largest = float(near.max()) if len(near) else None
            within.append(Within(radius, len(near), largest, None if largest is None else largest - centre))
        return Sharpness(centre, tuple(within), float((losses <= centre + FLAT).mean()))

    def summary(self) -> dict[str, Any]:
        """The part of report.json: everything but the grid."""
        return {
            "clips": len(self.clip_ids), "points": self.options.points, "reach": self.options.reach,
            "seed": self.options.seed, "not_finite": self.not_finite, "flat_nats": FLAT,
            "sharpness": _jsonable(asdict(self.sharpness)),
        }  # fmt: skip

    def content(self) -> dict[str, Any]:
        """`landscape.json`: `losses[i][j]` belongs to `alphas[i]` and `betas[j]`. JSON has no numbers for what is not
        finite: it is the text "Infinity" or "NaN".
        """
        steps = self.options.steps.tolist()
        about = {"format": FORMAT, "model": self.model, "culture_told": self.told_culture, **self.summary()}
        grid = {"alphas": steps, "betas": steps, "losses": _jsonable(self.losses.tolist())}
        return {**about, **grid, "clip_ids": self.clip_ids}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity"
    return value
