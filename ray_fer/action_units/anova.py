"""Where do culture groups differ? One-way ANOVA of every AU statistic (CA-FER section III.B, algorithm 1 line 6).

The paper names F, p and eta squared for each of the 80 statistics. Eighty tests at 0.05 find four differences where
there is none, so a corrected p stands beside each: by default Holm's, which keeps the chance of *any* false finding
below the level whatever the dependence between tests (the statistics of one AU are strongly dependent).
Benjamini-Hochberg (`fdr_bh`) is there for a first look: it lets a share of the findings be false.

ANOVA takes its samples to be independent. Clips of one person are not: a face that always reads high in some AU counts
as often as it has clips, and groups of few persons then differ "significantly" in what is nothing but their faces.
`unit="subject"` takes the mean of each person first.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import stats

CORRECTIONS = ("holm", "bonferroni", "fdr_bh", "none")
UNITS = ("clip", "subject")
LEVEL = 0.05


class AnovaRow(BaseModel):
    """One-way ANOVA of one AU statistic across cultures.

    `p_corrected` is p after the correction over all statistics that could be tested. Where a statistic is constant, or
    was not measured in every culture, it cannot be tested: `f`, `p` and `p_corrected` are None and `eta_squared` is 0.
    `f` alone is None where it is infinite (no variance within the groups).
    """

    model_config = ConfigDict(extra="forbid")

    statistic: str
    f: float | None
    p: float | None
    p_corrected: float | None = None
    eta_squared: float

    def significant(self, level: float = LEVEL) -> bool:
        """Whether the groups differ at this corrected level."""
        return self.p_corrected is not None and self.p_corrected < level


def anova_rows(
    values: np.ndarray, owners: np.ndarray, groups: Sequence[str], statistics: Sequence[str], correction: str = "holm"
) -> list[AnovaRow]:
    """Test every column of `values` [N,S], NaN where not measured, across `groups`; `owners` [N] has each row's group.

    `statistics` names the columns. Raises ValueError for an unknown correction.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"unknown correction {correction!r}; expected one of {', '.join(CORRECTIONS)}")
    members = [owners == group for group in groups]
    rows = []
    for name, column in zip(statistics, values.astype(np.float64).T, strict=True):
        seen = ~np.isnan(column)
        rows.append(_one_way(name, [column[own & seen] for own in members]))
    tested = [row for row in rows if row.p is not None]
    if tested:
        corrected = _corrected(np.array([row.p for row in tested]), correction)
        for row, p in zip(tested, corrected, strict=True):
            row.p_corrected = float(p)
    return rows


def subject_means(
    values: np.ndarray, owners: np.ndarray, subjects: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each subject's rows [N,S] within each group -> (values [M,S], owners [M]); NaN is passed over.

    Raises ValueError when a row has no subject.
    """
    if any(subject is None for subject in subjects):
        raise ValueError("not every clip has a subject_id; test clips instead, knowing that they are not independent")
    keys = list(zip(owners.tolist(), subjects, strict=True))
    names = list(dict.fromkeys(keys))
    place = {key: number for number, key in enumerate(names)}
    index = np.array([place[key] for key in keys])
    means = np.empty((len(names), values.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an AU that was not measured in any clip stays NaN
        for number in range(len(names)):
            means[number] = np.nanmean(values[index == number].astype(np.float64), axis=0)
    return means, np.array([group for group, _ in names])


def _corrected(p: np.ndarray, correction: str) -> np.ndarray:
    """[S] -> [S]. Not by statsmodels, whose Holm collects the garbage of the whole process each time: half a second
    beside a loaded torch, for each fold and seed of a cross-validation."""
    if correction == "holm":
        order = np.argsort(p)
        steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
        return np.minimum(steps, 1)[np.argsort(order)]
    if correction == "bonferroni":
        return np.minimum(p * len(p), 1)
    return stats.false_discovery_control(p) if correction == "fdr_bh" else p


def _one_way(statistic: str, groups: list[np.ndarray]) -> AnovaRow:
    pooled = np.concatenate(groups)
    untested = AnovaRow(statistic=statistic, f=None, p=None, eta_squared=0.0)
    if len(groups) < 2 or not all(map(len, groups)) or len(pooled) <= len(groups) or np.ptp(pooled) == 0:
        return untested
    between = float(sum(len(group) * (group.mean() - pooled.mean()) ** 2 for group in groups))
    total = float(((pooled - pooled.mean()) ** 2).sum())
    if all(np.ptp(group) == 0 for group in groups):
        return AnovaRow(statistic=statistic, f=None, p=0.0, eta_squared=1.0)
    result = stats.f_oneway(*groups)
    return AnovaRow(
        statistic=statistic, f=float(result.statistic), p=float(result.pvalue), eta_squared=between / total
    )  # fmt: skip
