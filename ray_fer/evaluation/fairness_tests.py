"""How sure is a gap between groups? Bootstrap intervals, and permutation tests of "the group makes no difference".

A gap, highest group - lowest, is never below 0, and where the groups are truly equal it is above 0 in every sample: it
is **biased upwards**, the more so the smaller the groups and the more of them there are. Two answers stand beside it:

* Its percentile bootstrap interval: how else it could have come out. The draws have the bias of the sample once more,
  so the interval can lie above the gap itself, and as it does not reach 0 for equal groups either, it is no test of 0.
* Its permutation p-value, which has no such bias: the gaps that it is compared with are as biased.

What is drawn or given another group as a whole is the *cluster*: the clips of one person in one group, as the clips
of a person are alike. Draws are made within each group, so that no group is lost from one. Where a person has clips in
several groups, the person's clips in each of them are a cluster: what they have in common is neglected, which makes
intervals too wide rather than too narrow, and p-values rather too high.

**What a low p-value does not say.** Not that the gap is large; not why there is one. Labels are exchanged over all
clusters, whatever their classes: where one group has more clips of the hard classes, or other classes at all, its WAR
and its shares of predictions differ although every clip may be treated alike (look at equalised odds, which compare
within classes). A group that is also a dataset, a camera or a country differs in that, too: `strata` exchanges labels
within a dataset only. And of several p-values the smallest is small by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_fer.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    answer_counts,
    figures,
    percentile_interval,
    resampled_counts,
)

GAPS = ("uar", "war", "macro_f1", "weighted_f1", "demographic_parity", "equalized_odds")
"""Of the last two it is the widest of all classes', so their p-values need no correction for the number of classes. The
chance gaps of a rare class are wide, and can hide a narrower gap of a frequent one that is none of chance."""
PERMUTATIONS = 2000
_ROUNDING = 1e-12


def gap_figures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`GAPS` [...] of the `intervals.answer_counts` of the groups, [...,G,C,C+1], each group with one clip or more."""
    per_group = figures(counts)
    support, total = counts.sum(axis=-1), counts.sum(axis=(-2, -1))
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    given = counts[..., :-1].sum(axis=-2)
    f1 = 2 * right / np.maximum(support + given, 1)
    per_group["weighted_f1"] = (support * f1).sum(axis=-1) / total
    gaps = {name: values.max(axis=-1) - values.min(axis=-1) for name, values in per_group.items()}
    gaps["demographic_parity"] = _widest(given, np.broadcast_to(total[..., None], given.shape))
    others = total[..., None] - support
    gaps["equalized_odds"] = np.maximum(_widest(right, support), _widest(given - right, others))
    return {name: gaps[name] for name in GAPS}


def gap_intervals(
    truth: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    classes: int,
    clusters: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval] | None:
    """Percentile bootstrap intervals of `GAPS`; see above for their bias.

    Class indices [N] (a prediction of -1 is none), the group of each clip [N], and its cluster [N], without which each
    clip is one. None where a group is of one cluster only: how much others would differ cannot be said. Raises
    ValueError as `intervals.resampled_counts` does, and for fewer than two groups.
    """
    members = _members(groups)
    draws = []
    for number, own in enumerate(members):
        drawn = None if clusters is None else clusters[own]
        apart = len(own) if drawn is None else len(np.unique(drawn))
        if apart < 2:
            return None
        # Drawing clips is the same where each is a cluster, and needs far less memory.
        drawn = None if apart == len(own) else drawn
        stream = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        draws.append(resampled_counts(truth[own], [predicted[own]], classes, drawn, resamples, stream)[0])
    values, samples = gap_figures(_counts(truth, predicted, members, classes)), gap_figures(np.stack(draws, axis=1))
    return {name: percentile_interval(float(values[name]), samples[name], level) for name in GAPS}


def gap_p_values(
    truth: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    classes: int,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[str, float]:
    """Permutation p-value of each of `GAPS`: (1 + permutations with a gap as wide) / (1 + permutations).

    The arguments are those of `gap_intervals`. Each permutation exchanges the groups of whole clusters, so that as many
    clusters are of each group as are; with `strata` [N], names of e.g. datasets, only among those of one stratum. Where
    each stratum has one group there is nothing to exchange, and p is 1. Raises ValueError for labels that do not belong
    together, fewer than two groups, or no permutations.
    """
    if permutations < 1:
        raise ValueError(f"{permutations} permutations; use {PERMUTATIONS}")
    members = _members(groups)
    observed = gap_figures(_counts(truth, predicted, members, classes))
    group = np.unique(groups, return_inverse=True)[1]
    cluster = np.arange(len(truth)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    stratum = np.zeros(len(truth), int) if strata is None else np.unique(strata, return_inverse=True)[1]
    blocks, unit = np.unique(np.column_stack([stratum, cluster, group]), axis=0, return_inverse=True)
    unit = unit.reshape(-1)  # numpy 2.0.0 gives it as a column
    exchanged = [np.flatnonzero(blocks[:, 0] == one) for one in np.unique(blocks[:, 0])]
    kinds = classes * (classes + 1)
    kind = truth * (classes + 1) + np.where(predicted < 0, classes, predicted)
    rng, labels = np.random.default_rng(seed), blocks[:, 2]
    counts, shuffled = np.empty((permutations, len(members) * kinds)), labels.copy()
    for row in counts:
        for block in exchanged:
            shuffled[block] = labels[rng.permutation(block)]
        row[:] = np.bincount(shuffled[unit] * kinds + kind, minlength=len(row))
    drawn = gap_figures(counts.reshape(permutations, len(members), classes, classes + 1))
    as_wide = {name: int((drawn[name] >= observed[name] - _ROUNDING).sum()) for name in GAPS}
    return {name: (1 + count) / (1 + permutations) for name, count in as_wide.items()}


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Rows of each group, in the order of their names."""
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("a gap needs clips of two groups or more")
    return [np.flatnonzero(groups == name) for name in names]


def _counts(truth: np.ndarray, predicted: np.ndarray, members: Sequence[np.ndarray], classes: int) -> np.ndarray:
    return np.stack([answer_counts(truth[own], predicted[own], classes) for own in members])


def _widest(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Widest gap over classes [...] of the shares part / whole, both [...,G,C], over the groups with a whole. A class
    that fewer than two groups have has none."""
    share = part / np.maximum(whole, 1)
    highest = np.where(whole > 0, share, -np.inf).max(axis=-2)
    lowest = np.where(whole > 0, share, np.inf).min(axis=-2)
    return np.maximum(highest - lowest, 0).max(axis=-1)
