"""Does a model treat groups alike? Gaps between groups, each with its interval and its p-value.

`groups` has the figures of each group and how far apart they are. Here stand beside it

* for UAR, WAR, macro F1 and weighted F1: the gap (highest - lowest), the ratio (lowest / highest), the standard
  deviation and the worst group;
* **demographic parity**, class by class: how far apart the shares of clips are that are *predicted* as that class.
  Where groups differ in the classes that they have, a right model has such a gap, too;
* **equalised odds** (Hardt et al. 2016), class by class, that class against all others: the wider of two gaps, that of
  recall (the true positive rate) and that of false positives, clips of other classes that are taken for it.

The two are fairlearn's, on one-vs-rest labels, with one difference: fairlearn counts a recall of 0 for a group that has
no clip of the class. Here that group is left out of the recall of that class, and named. `fairness_tests` says what
intervals and p-values are, and what they do not say.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

from ray_fer.evaluation.fairness_tests import GAPS, PERMUTATIONS, gap_intervals, gap_p_values
from ray_fer.evaluation.groups import FEW, Fairness, GroupFigures, group_report, spread
from ray_fer.evaluation.intervals import LEVEL, RESAMPLES, bootstrap_clusters
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.labels import UNKNOWN_CULTURE, index_of

RECALL, FALSE_POSITIVES = "recall", "false positives"


@dataclass(frozen=True)
class Gap:
    """How far apart the compared groups are in one of `fairness_tests.GAPS`; shares from 0 to 1."""

    gap: float
    """Of demographic parity and equalised odds that of `of_class`."""
    ratio: float | None
    """Lowest / highest; None where all are 0. Of demographic parity and equalised odds that of `of_class`."""
    std: float | None
    """Standard deviation, divisor G - 1; None for demographic parity and equalised odds."""
    worst: str | None
    """The group of the lowest figure. Of equalised odds that of the lowest recall, or of the most false positives; of
    demographic parity None, as neither more nor less is worse."""
    of_class: str | None
    """The class of the widest gap of demographic parity or equalised odds, else None."""
    interval: list[float] | None
    """Lower and upper bound; None where a group's clips are all of one subject."""
    p: float


@dataclass(frozen=True)
class ClassGaps:
    """One class against all others, over the compared groups."""

    predicted: dict[str, float]
    """By group, the share of its clips that is predicted as this class."""
    false_positives: dict[str, float | None]
    """By group, the share of its clips of other classes that is predicted as this one; None without such clips."""
    without: list[str]
    """Groups that have no clip of this class, and so no recall of it."""
    demographic_parity: float
    """Gap of `predicted`."""
    demographic_parity_ratio: float | None
    """None where the class is never predicted."""
    false_positives_gap: float | None
    """None where fewer than two groups have clips of other classes; so `Fairness.recall_gap`, with clips of this."""
    equalized_odds: float | None
    """The wider of the gaps of recall and `false_positives`, of those that there are."""
    equalized_odds_ratio: float | None
    """The lower of the ratios of recall and `false_positives`, of those that there are."""
    equalized_odds_by: str | None
    """Which of the two gaps is the wider: "recall" or "false positives"; recall of equals."""


@dataclass(frozen=True)
class FairnessReport(Fairness):
    """`groups.Fairness`, with all gaps and how sure they are. With fewer than two compared groups, all are None."""

    column: str
    unknown: int
    """Clips of no known group, which are not compared."""
    clusters: dict[str, int]
    """By compared group, what is drawn as a whole: its subjects, and its clips of no known subject."""
    without_subject: int
    """Clips of compared groups whose subject is not known: they are taken to be independent."""
    divided: int
    """Subjects who have clips in more than one of the compared groups."""
    figures: dict[str, Gap | None]
    """By name, one of `fairness_tests.GAPS`. Equalised odds are also None where no class can be compared."""
    by_class: dict[str, ClassGaps | None]
    level: float
    resamples: int
    permutations: int


def fairness_report(
    predictions: Predictions,
    column: str = "culture",
    minimum: int = FEW,
    within: str | None = None,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    level: float = LEVEL,
    seed: int = 0,
) -> FairnessReport:
    """Compare the groups of one of the `predictions.COLUMNS`; those of fewer than `minimum` clips stay out, by name.

    Whole subjects are drawn and exchanged, wherever they are known; a clip of no known subject stands for itself. With
    `within`, another column, permutations exchange groups among the clips of one value of it only: groups of one
    dataset, say, where datasets differ in groups. Raises ValueError for an unknown column, or when there is no clip.
    """
    if within is not None:
        index_of(within, COLUMNS, "column of predictions")
    report = group_report(predictions, column, minimum)
    base = {one.name: getattr(report.fairness, one.name) for one in dataclasses.fields(Fairness)}
    unknown = sum(group.count for group in report.groups if group.name == UNKNOWN_CULTURE)
    places = {name: number for number, name in enumerate(report.fairness.compared)}
    groups = np.array([places.get(name, -1) for name in predictions.column(column)])
    rows = np.flatnonzero(groups >= 0)
    chosen, groups = predictions.select(rows), groups[rows]
    clusters, alone = subject_clusters(chosen)
    held = np.unique(np.column_stack([clusters, groups]), axis=0)
    figures: dict[str, Gap | None] = dict.fromkeys(GAPS)
    by_class: dict[str, ClassGaps | None] = dict.fromkeys(predictions.classes)
    if len(places) >= 2:
        owners = [report.fairness.compared[number] for number in groups]
        rates = {
            name: class_gaps(chosen.truth == number, chosen.predicted == number, owners)
            for number, name in enumerate(predictions.classes)
        }
        given = (chosen.truth, chosen.predicted, groups, len(predictions.classes), clusters)
        intervals = gap_intervals(*given, resamples=resamples, level=level, seed=seed)
        strata = None if within is None else np.array([value or "" for value in chosen.column(within)])
        p_values = gap_p_values(*given, strata=strata, permutations=permutations, seed=seed)
        bounds = {name: None if intervals is None else [intervals[name].low, intervals[name].high] for name in GAPS}
        compared = [group for group in report.groups if group.name in places]
        figures |= {name: _gap(name, compared, rates, bounds[name], p_values[name]) for name in GAPS}
        by_class |= rates
    return FairnessReport(
        **base, column=column, unknown=unknown,
        clusters={name: int((held[:, 1] == number).sum()) for name, number in places.items()},
        without_subject=alone, divided=len(held) - len(np.unique(clusters)), figures=figures, by_class=by_class,
        level=level, resamples=resamples, permutations=permutations,
    )  # fmt: skip


def subject_clusters(predictions: Predictions) -> tuple[np.ndarray, int]:
    """The number of each clip's subject [N], and how many clips have none known: each of these has a number of its own.
    Subjects are told apart as by `intervals.bootstrap_clusters`."""
    known = np.array([subject is not None for subject in predictions.column("subject_id")], bool)
    clusters = np.arange(len(predictions), dtype=np.int64)
    numbers = bootstrap_clusters(predictions.select(known), "subject")
    if numbers is not None:
        clusters[known] = len(predictions) + numbers
    return clusters, int((~known).sum())


def class_gaps(truth: np.ndarray, predicted: np.ndarray, owners: Sequence[str]) -> ClassGaps:
    """Gaps of one class against all others: whether each clip is of it and is taken for it, bool [N], and its group."""
    metrics = {"predicted": selection_rate, RECALL: _recall, FALSE_POSITIVES: _false_positives}
    frame = MetricFrame(
        metrics=metrics, y_true=truth.astype(int), y_pred=predicted.astype(int), sensitive_features=list(owners)
    )  # fmt: skip
    by_group, gaps, ratios = frame.by_group, frame.difference(), frame.ratio()
    rates: dict[str, dict[str, float | None]] = {
        rate: {str(group): _known(value) for group, value in by_group[rate].items()} for rate in metrics
    }
    odds = [rate for rate in (RECALL, FALSE_POSITIVES) if by_group[rate].count() >= 2]
    wider = max(odds, key=lambda rate: gaps[rate], default=None)
    return ClassGaps(
        predicted={group: float(value) for group, value in by_group["predicted"].items()},
        false_positives=rates[FALSE_POSITIVES],
        without=[group for group, value in rates[RECALL].items() if value is None],
        demographic_parity=float(gaps["predicted"]),
        demographic_parity_ratio=_known(ratios["predicted"]),
        false_positives_gap=float(gaps[FALSE_POSITIVES]) if FALSE_POSITIVES in odds else None,
        equalized_odds=None if wider is None else float(gaps[wider]),
        equalized_odds_ratio=min((float(ratios[rate]) for rate in odds if not math.isnan(ratios[rate])), default=None),
        equalized_odds_by=wider,
    )


def _recall(truth: np.ndarray, predicted: np.ndarray) -> float:
    """fairlearn's, but NaN and not 0 where there is no clip of the class: NaN stays out of its gaps and ratios."""
    return true_positive_rate(truth, predicted, pos_label=1) if (truth == 1).any() else math.nan


def _false_positives(truth: np.ndarray, predicted: np.ndarray) -> float:
    return false_positive_rate(truth, predicted, pos_label=1) if (truth == 0).any() else math.nan


def _gap(
    figure: str,
    groups: Sequence[GroupFigures],
    by_class: Mapping[str, ClassGaps],
    interval: list[float] | None,
    p: float,
) -> Gap | None:
    if figure == "demographic_parity":
        name = max(by_class, key=lambda one: by_class[one].demographic_parity)
        widest = by_class[name]
        ratio = widest.demographic_parity_ratio
        return Gap(widest.demographic_parity, ratio, None, None, name, interval, p)
    if figure == "equalized_odds":
        odds = {name: one.equalized_odds for name, one in by_class.items() if one.equalized_odds is not None}
        if not odds:
            return None
        name = max(odds, key=lambda one: odds[one])
        widest = by_class[name]
        if widest.equalized_odds_by == RECALL:
            recall = {group.name: group.metrics["recall"][name] for group in groups if group.name not in widest.without}
            worst = spread(recall).worst
        else:
            worst = max(widest.false_positives, key=lambda one: widest.false_positives[one] or 0.0)
        return Gap(odds[name], widest.equalized_odds_ratio, None, worst, name, interval, p)
    apart = spread({group.name: group.metrics[figure] for group in groups})
    return Gap(apart.gap, apart.ratio, apart.std, apart.worst, None, interval, p)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
