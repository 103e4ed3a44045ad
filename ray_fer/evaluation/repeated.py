"""Is one method better than another? Both were trained with the same seeds on the same folds.

The figures of two folds are not independent: their models share most of their training clips, so that the usual t-test
finds differences where there are none. Nadeau and Bengio (Inference for the Generalization Error, 2003) correct the
variance of the mean for it: (1/n + n_test/n_train) s^2 instead of s^2 / n.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from scipy.stats import t as student

from ray_fer.evaluation.intervals import LEVEL
from ray_fer.evaluation.measured import Measured


@dataclass(frozen=True)
class Gain:
    """Mean difference first - second over the folds and seeds that both have, with its interval; all from -1 to 1."""

    value: float
    low: float
    high: float
    count: int
    """Pairs of figures."""


def gain(first: Measured, second: Measured, measure: str = "uar", level: float = LEVEL) -> Gain | None:
    """What `first` has more than `second` of UAR, WAR or macro F1; None with fewer than two folds in common."""
    ours, theirs = first.by_fold(measure), second.by_fold(measure)
    pairs = sorted(ours.keys() & theirs.keys())
    folds = len({fold for _, fold in pairs})
    if folds < 2:
        return None
    apart = [ours[pair] - theirs[pair] for pair in pairs]
    count, mean = len(apart), statistics.fmean(apart)
    # Of k folds one tests and k - 1 train.
    error = statistics.stdev(apart) * math.sqrt(1 / count + 1 / (folds - 1))
    reach = float(student.ppf((1 + level) / 2, count - 1)) * error
    return Gain(mean, mean - reach, mean + reach, count)
