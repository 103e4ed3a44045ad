"""Figures per culture, per dataset, or any other column of `Predictions`, and how far apart the groups are.

The papers report, per group, UAR, WAR and the number of clips (CA-FER, Table V), and the accuracy per racial group with
its standard deviation, "%Std" (EiLA, equation 7 and Table 6). Accuracy is WAR. EiLA's deviation divides by the number
of groups less one: that gives the values of its Table 6.

Two things make a gap look larger than it is. A group of few clips has a WAR and a UAR far from the middle by chance:
groups below `FEW` clips are listed with a flag and are not compared. And UAR is a mean over the classes that occur *in
that group*, so a group without the hard classes has it easier: look at `recall_gap`, class by class, before concluding
from `uar_gap`. `intervals` says how sure each group's figures are, `fairness` how sure the gaps between them are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_fer.evaluation.metrics import check_labels, classification_metrics
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.labels import UNKNOWN_CULTURE, index_of

FEW = 10
"""Below this many clips a group's figures say little: at 10 clips the 95 % interval of WAR 0.7 is 0.40 to 0.89."""


@dataclass(frozen=True)
class GroupFigures:
    """`classification_metrics` of the clips of one group; `few` when there are too few to conclude from."""

    name: str
    few: bool
    metrics: dict[str, Any]

    @property
    def count(self) -> int:
        """Clips."""
        return self.metrics["count"]

    @property
    def uar_war_gap(self) -> float:
        """WAR - UAR: above 0 when the frequent classes are the well recognised ones (CA-FER, section V.D)."""
        return self.metrics["war"] - self.metrics["uar"]


@dataclass(frozen=True)
class Spread:
    """How far apart the values of one figure are, which are shares from 0 to 1, over two groups or more."""

    gap: float
    """Highest - lowest."""
    ratio: float | None
    """Lowest / highest; None where all are 0."""
    std: float
    """Standard deviation, divisor G - 1."""
    worst: str
    """The group of the lowest value; the first by name of equals."""


@dataclass(frozen=True)
class Fairness:
    """How far apart the `compared` groups are, in shares from 0 to 1. With fewer than two of them, all is None."""

    compared: list[str]
    """Groups of at least the minimum of clips; clips whose group is unknown are no group."""
    few: list[str]
    """Known groups of fewer clips, which are not compared."""
    war_gap: float | None
    """Highest WAR - lowest WAR."""
    uar_gap: float | None
    worst_war: str | None
    """The group of the lowest WAR; the first by name of equals."""
    worst_uar: str | None
    war_std: float | None
    """Standard deviation of the groups' WAR, divisor G - 1: EiLA's "%Std"."""
    recall_gap: dict[str, float | None]
    """Equal opportunity difference, by class: highest recall - lowest, over the groups in which the class occurs. None
    where it occurs in fewer than two."""
    recall_support: dict[str, int]
    """By class: its clips in the group that has fewest of it among those that `recall_gap` compares, else 0."""


@dataclass(frozen=True)
class GroupReport:
    """The figures of each group, by name (unknown last), and their comparison."""

    column: str
    groups: list[GroupFigures]
    fairness: Fairness


def group_report(predictions: Predictions, column: str = "culture", minimum: int = FEW) -> GroupReport:
    """Figures of every value of one of the `predictions.COLUMNS`; an empty value is the group `UNKNOWN_CULTURE`.

    Groups of fewer than `minimum` clips are flagged and not compared. Raises ValueError for an unknown column, or when
    there is no clip.
    """
    index_of(column, COLUMNS, "column of predictions")
    owners = [value if value is not None else UNKNOWN_CULTURE for value in predictions.column(column)]
    groups = group_figures(predictions.truth, predictions.predicted, owners, predictions.classes, minimum)
    return GroupReport(column, groups, fairness(groups))


def group_figures(
    truth: np.ndarray, predicted: np.ndarray, owners: Sequence[str], classes: list[str], minimum: int = FEW
) -> list[GroupFigures]:
    """Figures of each group: class indices [N] (a prediction of -1 is none), and the group of each clip [N].

    Raises ValueError when there is no clip, or when the three do not belong together.
    """
    check_labels(truth, predicted, len(classes))
    if len(owners) != len(truth):
        raise ValueError(f"{len(truth)} labels but {len(owners)} clips with a group")
    names = np.array(owners)
    groups = []
    for name in sorted(set(owners), key=lambda one: (one == UNKNOWN_CULTURE, one)):
        own = names == name
        few = int(own.sum()) < minimum
        groups.append(GroupFigures(name, few, classification_metrics(truth[own], predicted[own], classes)))
    return groups


def spread(values: Mapping[str, float]) -> Spread:
    """Compare one figure of two groups or more, by name."""
    numbers = np.array([values[name] for name in sorted(values)])
    highest = numbers.max()
    return Spread(
        gap=float(np.ptp(numbers)),
        ratio=float(numbers.min() / highest) if highest > 0 else None,
        std=float(numbers.std(ddof=1)),
        worst=sorted(values)[int(numbers.argmin())],
    )


def fairness(groups: Sequence[GroupFigures]) -> Fairness:
    """Compare groups of the same classes. Those with `few` clips, and the clips of no known group, stay out."""
    known = [group for group in groups if group.name != UNKNOWN_CULTURE]
    compared = [group for group in known if not group.few]
    classes = list(groups[0].metrics["recall"]) if groups else []
    recall_gap: dict[str, float | None] = dict.fromkeys(classes)
    recall_support = dict.fromkeys(classes, 0)
    names, few = ([group.name for group in known if group.few == short] for short in (False, True))
    if len(compared) < 2:
        return Fairness(names, few, None, None, None, None, None, recall_gap, recall_support)
    for name in classes:
        having = [group for group in compared if group.metrics["support"][name]]
        if len(having) >= 2:
            recall_gap[name] = spread({group.name: group.metrics["recall"][name] for group in having}).gap
            recall_support[name] = min(group.metrics["support"][name] for group in having)
    war, uar = (spread({group.name: group.metrics[figure] for group in compared}) for figure in ("war", "uar"))
    return Fairness(
        compared=names,
        few=few,
        war_gap=war.gap,
        uar_gap=uar.gap,
        worst_war=war.worst,
        worst_uar=uar.worst,
        war_std=war.std,
        recall_gap=recall_gap,
        recall_support=recall_support,
    )
