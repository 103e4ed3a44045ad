"""Ethnicity estimators as plug-ins: what they must offer, and one clip's estimate from several faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ray_fer.datasets.curation.ethnicity import ClipEstimate
from ray_fer.video.sampling import uniform_indices

ESTIMATORS = ("deepface", "facexformer")
FRAMES = 8
"""Faces per clip that an estimator sees."""


class EstimatorError(ValueError):
    """An estimator that cannot run; the message names the package or weight file and where to put it."""


@dataclass(frozen=True)
class Estimate:
    """One face: a probability for each of the estimator's categories, summing to 1."""

    probabilities: Mapping[str, float]


class EthnicityEstimator(Protocol):
    """What the curation needs of an estimator."""

    @property
    def name(self) -> str:
        """Key of its categories in a study's `GroupScheme.estimators`."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Its own names of what it tells apart."""
        ...

    def estimate(self, images: Sequence[np.ndarray]) -> list[Estimate | None]:
        """One estimate per aligned face crop uint8 [H,W,3] RGB; None for an image that it cannot use."""
        ...


def load_estimator(name: str, weights: Path | None = None) -> EthnicityEstimator:
    """The estimator called `name`, one of `ESTIMATORS`. Raises EstimatorError."""
    if name == "deepface":
        from ray_fer.datasets.curation.deepface_estimator import DeepFaceEstimator

        return DeepFaceEstimator(weights)
    if name == "facexformer":
        from ray_fer.datasets.curation.facexformer_estimator import FaceXFormerEstimator

        return FaceXFormerEstimator(weights)
    raise EstimatorError(f"unknown estimator {name!r}; expected one of {', '.join(ESTIMATORS)}")


def estimate_clip(
    crops: Sequence[np.ndarray],
    estimator: EthnicityEstimator,
    groups: Mapping[str, str | None],
    frames: int = FRAMES,
) -> ClipEstimate | None:
    """One estimate for a clip: probabilities averaged over at most `frames` of its faces, spread uniformly.

    The most probable category decides, and its mean probability is the confidence; `groups` maps it to a group of the
    study. Categories are not added up first: the papers' 0.75 is a confidence in the estimator's own answer. None when
    no face could be used.
    """
    if not crops:
        return None
    chosen = [crops[i] for i in np.unique(uniform_indices(len(crops), frames)).tolist()]
    usable = [estimate.probabilities for estimate in estimator.estimate(chosen) if estimate is not None]
    if not usable:
        return None
    mean = {name: float(np.mean([one[name] for one in usable])) for name in estimator.categories}
    category = max(mean, key=lambda name: mean[name])
    return ClipEstimate(groups[category], mean[category], category)
