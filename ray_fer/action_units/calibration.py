"""Fit and judge the map from MediaPipe's blendshapes to Action Units, on frames whose AUs are known.

Every AU is a non-negative combination of few blendshapes that were chosen for a reason (`SUPPORT`), so that more of an
AU never reads as less, and no AU is guessed from another that often comes with it. It is fitted on training identities.
Cross-validation among them decides whether a fit replaces the documented correspondence of `blendshapes`; held-out
identities decide nothing, and show what the result is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold

from ray_fer.action_units.blendshape_map import AuMap, BlendshapeMap, Reading, shape_columns
from ray_fer.action_units.blendshapes import AU_FROM_BLENDSHAPES, aus_from_blendshapes
from ray_fer.labels import AU_NAMES

SUPPORT: dict[str, tuple[str, ...]] = {
    "AU01": ("browInnerUp",),
    "AU02": ("browOuterUp",),
    "AU04": ("browDown",),
    "AU05": ("eyeWide",),
    "AU07": ("eyeSquint",),
    "AU09": ("noseSneer",),
    "AU10": ("mouthUpperUp",),
    "AU12": ("mouthSmile",),
    "AU14": ("mouthDimple",),
    "AU15": ("mouthFrown",),
    "AU17": ("mouthShrugLower", "mouthShrugUpper"),
    "AU20": ("mouthStretch",),
    "AU23": ("mouthRollUpper", "mouthRollLower"),
    "AU24": ("mouthPress", "mouthRollLower"),  # lips pressed together are mostly read as a rolled lower lip
    "AU25": ("mouthLowerDown",),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRollUpper", "mouthPress"),  # lips that have gone in are read as pressed; mouthRollLower says less
    "AU43": ("eyeBlink",),
}
"""Blendshapes that may carry an AU. AU06 is not among them, as MediaPipe leaves cheekSquint at 0 on every face, nor is
AU11, which has no shape."""

USED_FROM = 0.3
"""Correlation within identities, cross-validated, that a fit needs to replace the documented correspondence."""

_FOLDS = 4
_NO_LOWER = 0.005  # correlations this close are equal: a fit of one shape can only change them where it cuts at 0 or 1
_STEEPEST = 10.0  # a shape that moves by less than a tenth for a whole AU says nothing about it


@dataclass(frozen=True)
class CalibrationFrames:
    """N frames with a face: `blendshapes` [N,52], true `aus` [N,20], `identities` [N] (names), `held_out` bool [N]."""

    blendshapes: np.ndarray
    aus: np.ndarray
    identities: np.ndarray
    held_out: np.ndarray


def fit_blendshape_map(frames: CalibrationFrames, fitted_on: str) -> BlendshapeMap:
    """Fit every AU on the identities that are not held out, and judge it on those that are.

    A fit is taken if, on training identities that are left out of it in turn, it follows the AU (`USED_FROM`), no worse
    than the documented correspondence does, and with a smaller mean absolute error. `fitted_on` says in words where the
    frames come from and is recorded. Raises ValueError when there is no frame to judge on, frames of fewer than two
    identities to fit on, or an identity on both sides.
    """
    train, test = ~frames.held_out, frames.held_out
    if not train.any() or not test.any():
        raise ValueError("calibration needs frames of both training and held-out identities")
    both = set(frames.identities[train]) & set(frames.identities[test])
    if both:
        raise ValueError(f"identities are on both sides of the calibration: {', '.join(sorted(map(str, both)))}")
    if len(set(frames.identities[train])) < 2:
        raise ValueError("calibration needs frames of at least two training identities, to leave one out")
    documented = aus_from_blendshapes(frames.blendshapes, calibrated=False)
    aus = {}
    for number, au in enumerate(AU_NAMES):
        truth = frames.aus[:, number]
        fit = _fit(frames.blendshapes[train], truth[train], SUPPORT.get(au, ()))
        read = _apply(frames.blendshapes, *fit)
        taken = _is_better(frames, number, documented[:, number])
        aus[au] = AuMap(
            weights=fit[0] if taken else _documented(au),
            offset=fit[1] if taken else 0.0,
            calibrated=taken,
            held_out=_judge(truth, read if taken else documented[:, number], frames),
            held_out_documented=_judge(truth, documented[:, number], frames),
        )
    return BlendshapeMap(
        fitted_on=fitted_on,
        train_identities=len(set(frames.identities[train])),
        train_frames=int(train.sum()),
        held_out_identities=len(set(frames.identities[test])),
        held_out_frames=int(test.sum()),
        aus=aus,
    )


def _is_better(frames: CalibrationFrames, number: int, documented: np.ndarray) -> bool:
    """Whether fits of AU `number` read unseen training identities better than `documented` [N] does."""
    train = ~frames.held_out
    shapes, owners = frames.blendshapes[train], frames.identities[train]
    truth, usual = frames.aus[train, number], documented[train]
    read = np.zeros(len(truth))
    folds = GroupKFold(min(_FOLDS, len(set(owners))))
    for seen, unseen in folds.split(shapes, groups=owners):
        fit = _fit(shapes[seen], truth[seen], SUPPORT.get(AU_NAMES[number], ()))
        read[unseen] = _apply(shapes[unseen], *fit)
    within = _within(truth, read, owners)
    follows = within >= max(USED_FROM, _within(truth, usual, owners) - _NO_LOWER)
    return bool(follows and np.abs(truth - read).mean() < np.abs(truth - usual).mean())


def _fit(blendshapes: np.ndarray, truth: np.ndarray, shapes: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """Least squares after the cut at 0 and 1 -> (weight of each shape that counts, offset).

    Weights are not negative and the offset is not positive: a face that shows none of the shapes has none of the AU.
    """
    if not shapes:
        return {}, 0.0
    features = _features(blendshapes, shapes)

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.clip(features @ values[:-1] + values[-1], 0, 1) - truth

    start = np.append(LinearRegression(positive=True).fit(features, truth).coef_ + 0.1, -0.05)
    lowest, highest = np.append(np.zeros(len(shapes)), -1.0), np.append(np.full(len(shapes), _STEEPEST), 0.0)
    found = (
        least_squares(residuals, np.clip(start, lowest, highest), bounds=(lowest, highest)).x.round(4) + 0.0
    )  # no -0.0
    return {shape: float(w) for shape, w in zip(shapes, found[:-1], strict=True) if w > 0}, float(found[-1])


def _apply(blendshapes: np.ndarray, weights: dict[str, float], offset: float) -> np.ndarray:
    return np.clip(_features(blendshapes, tuple(weights)) @ np.array(list(weights.values())) + offset, 0, 1)


def _features(blendshapes: np.ndarray, shapes: tuple[str, ...]) -> np.ndarray:
    """Blendshapes [N,52] -> named ones [N,S], the mean of both sides of a paired one."""
    columns = [blendshapes[:, shape_columns(shape)].mean(1) for shape in shapes]
    return np.stack(columns, 1) if columns else np.zeros((len(blendshapes), 0))


def _documented(au: str) -> dict[str, float]:
    """Weights of the documented correspondence, in which no shape is of one side only; both sides go by one name."""
    shapes = [shape.removesuffix("Left").removesuffix("Right") for shape in AU_FROM_BLENDSHAPES[au]]
    return {shape: round(shapes.count(shape) / len(shapes), 6) for shape in shapes}


def _judge(truth: np.ndarray, read: np.ndarray, frames: CalibrationFrames) -> Reading:
    """How well `truth` [N] is `read` [N] on the held-out frames."""
    chosen = frames.held_out
    return Reading(
        correlation=round(_correlation(truth[chosen], read[chosen]), 3),
        within=round(_within(truth[chosen], read[chosen], frames.identities[chosen]), 3),
        mae=round(float(np.abs(truth - read)[chosen].mean()), 4),
    )


def _within(truth: np.ndarray, read: np.ndarray, owners: np.ndarray) -> float:
    """Mean over identities of the correlation among the frames of one."""
    return float(np.mean([_correlation(truth[owners == one], read[owners == one]) for one in dict.fromkeys(owners)]))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if x.std() < 1e-6 or y.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
