"""Is one model better than another? Two models on the same clips.

Both models find the same clips hard, so the difference of their figures is far surer than either figure: overlapping
confidence intervals prove nothing. The paired bootstrap draws clips (or subjects) once for both models and looks at the
difference of UAR, WAR and macro F1. McNemar's test looks at the clips that only one of the two got right, and so at
WAR alone; it takes clips to be independent, which those of one person are not (see `intervals`).

Neither knows how much a model changes with the seed of its training. Compare runs of several seeds before writing that
a *method* is better than another.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from ray_fer.evaluation.intervals import (
    FIGURES,
    LEVEL,
    RESAMPLES,
    Interval,
    answer_counts,
    bootstrap_clusters,
    figures,
    percentile_interval,
    resampled_counts,
)
from ray_fer.evaluation.predictions import Predictions

EXACT_BELOW = 25
"""Discordant clips below which the binomial distribution is used and not its chi-square approximation."""

_SHOWN = 5


@dataclass(frozen=True)
class Difference:
    """One figure of two models. The interval is of first - second: above 0, the first is better."""

    first: float
    second: float
    interval: Interval
    p: float
    """Two-sided: twice the share of draws in which the difference is 0 or of the other sign, at least 2 / (R + 1)."""


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of equal WAR, and the clips that it counts."""

    both: int
    only_first: int
    """Clips that the first model got right and the second wrong; with `only_second` the discordant ones."""
    only_second: int
    neither: int
    exact: bool
    statistic: float
    """The smaller of the two discordant counts when exact, else chi-square with continuity correction."""
    p: float


def paired_bootstrap(
    first: Predictions,
    second: Predictions,
    unit: str = "clip",
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Difference]:
    """Difference of each of `intervals.FIGURES` on the same clips, by name. `unit`, "clip" or "subject", is drawn.

    Raises ValueError as `aligned` and `intervals.confidence_intervals` do.
    """
    first, second = aligned(first, second)
    truth, answers, classes = first.truth, [first.predicted, second.predicted], len(first.classes)
    draws = resampled_counts(truth, answers, classes, bootstrap_clusters(first, unit), resamples, seed)
    values = [figures(answer_counts(truth, predicted, classes)) for predicted in answers]
    samples = [figures(counts) for counts in draws]
    rows = {}
    for name in FIGURES:
        one, other = (float(value[name]) for value in values)
        apart = samples[0][name] - samples[1][name]
        rows[name] = Difference(one, other, percentile_interval(one - other, apart, level), _tail(apart))
    return rows


def mcnemar_test(first: Predictions, second: Predictions) -> McNemar:
    """McNemar's test on the same clips: exact below `EXACT_BELOW` discordant ones, else chi-square with continuity
    correction. Raises ValueError as `aligned` does.
    """
    first, second = aligned(first, second)
    one, other = (model.predicted == first.truth for model in (first, second))
    table = np.array([[(one & other).sum(), (one & ~other).sum()], [(~one & other).sum(), (~one & ~other).sum()]])
    only_first, only_second = int(table[0, 1]), int(table[1, 0])
    exact = only_first + only_second < EXACT_BELOW
    # Where the two are equal there is nothing to correct: statsmodels would make a difference of it.
    result = mcnemar(table, exact=exact, correction=only_first != only_second)
    return McNemar(
        both=int(table[0, 0]), only_first=only_first, only_second=only_second, neither=int(table[1, 1]), exact=exact,
        statistic=float(result.statistic), p=float(result.pvalue),
    )  # fmt: skip


def aligned(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Both with the same clip, by (dataset, clip_id), in each row, and the same order of classes: the first's.

    Raises ValueError, naming clips, when there is none, when one model lacks clips of the other, when a clip is there
    twice, or when the two have another label for it; and when their classes differ.
    """
    if set(first.classes) != set(second.classes):
        apart = sorted(set(first.classes) ^ set(second.classes))
        raise ValueError(f"{first.model} and {second.model} have different classes: not both know {', '.join(apart)}")
    rows, others = _places(first), _places(second)
    lacks = []
    for model, missing in ((first, others.keys() - rows.keys()), (second, rows.keys() - others.keys())):
        if missing:
            lacks.append(f"{model.model} lacks {_listed(missing)}")
    if lacks:
        raise ValueError(f"the models were not tested on the same clips: {'; '.join(lacks)}")
    if not rows:
        raise ValueError("no labelled clip to compare the models on")
    order = [second.classes.index(name) for name in first.classes]
    second = second.select([others[key] for key in rows])
    second = dataclasses.replace(second, classes=first.classes, probabilities=second.probabilities[:, order])
    unlike = {key for key, one, other in zip(rows, first.truth, second.truth, strict=True) if one != other}
    if unlike:
        raise ValueError(f"the two files of predictions have different labels for {_listed(unlike)}")
    return first, second


def _places(predictions: Predictions) -> dict[tuple[str, str], int]:
    keys = list(zip(predictions.column("dataset"), predictions.column("clip_id"), strict=True))
    rows = {key: row for row, key in enumerate(keys)}
    if len(rows) < len(keys):
        twice = {key for row, key in enumerate(keys) if rows[key] != row}
        raise ValueError(f"{predictions.model} has more than one answer for {_listed(twice)}")
    return rows


def _listed(keys: set[tuple[str, str]]) -> str:
    names = ["/".join(key) for key in sorted(keys)[:_SHOWN]]
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} clip{'s' if len(keys) > 1 else ''}: {', '.join(names)}{more}"


def _tail(apart: np.ndarray) -> float:
    apart = np.where(np.abs(apart) < 1e-12, 0.0, apart)  # equal figures that were summed in another order
    rarer = min((apart <= 0).sum(), (apart >= 0).sum())
    return min(1.0, 2 * (int(rarer) + 1) / (len(apart) + 1))
