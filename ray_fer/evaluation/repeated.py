"""Is one method better than another? Both were trained with the same seeds on the same folds.

The figures of two folds are not independent: their models share most of their training clips, so that the usual t-test
finds differences where there are none. Nadeau and Bengio (Inference for the Generalization Error, 2003) correct the
variance of the mean for it: (1/n + n_test/n_train) s^2 instead of s^2 / n.

Where each fold is one subject there are no figures of folds: a subject may lack a class. Then subjects are drawn, with
replacement and the same for both methods and all seeds, and figures are of the pooled answers of those drawn.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from scipy.stats import t as student

from ray_fer.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    answer_counts,
    bootstrap_clusters,
    figures,
    percentile_interval,
    resampled_counts,
)
from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.paired import aligned
from ray_fer.evaluation.predictions import joined


@dataclass(frozen=True)
class Gain:
    """Mean difference first - second over what both have, with its interval; all from -1 to 1."""

    value: float
    low: float
    high: float
    count: int
    """Pairs of figures: of folds and seeds, or of seeds."""


def pooled_gain(first: Measured, second: Measured, measure: str = "macro_f1", level: float = LEVEL) -> Gain | None:
    """What `first` has more than `second` of UAR, WAR or macro F1 of the pooled answers, meaned over common seeds.

    The interval is a bootstrap over subjects. None without a common seed; ValueError as `paired.aligned` when the two
    were not tested on the same clips.
    """
    seeds = sorted(first.seeds.keys() & second.seeds.keys())
    if not seeds:
        return None
    pooled = [joined([one for _, one in part.seeds[seed]]) for part in (first, second) for seed in seeds]
    whole = pooled[0]
    answers = [aligned(whole, one)[1].predicted for one in pooled]
    classes = len(whole.classes)
    clusters = bootstrap_clusters(whole, "subject")
    draws = figures(resampled_counts(whole.truth, answers, classes, clusters, RESAMPLES))[measure]
    values = [float(figures(answer_counts(whole.truth, one, classes))[measure]) for one in answers]
    count = len(seeds)
    value = statistics.fmean(values[:count]) - statistics.fmean(values[count:])
    interval = percentile_interval(value, draws[:count].mean(axis=0) - draws[count:].mean(axis=0), level)
    return Gain(value, interval.low, interval.high, count)


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
