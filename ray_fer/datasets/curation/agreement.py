"""Agreement between annotators: Cohen's kappa, Fleiss' kappa, percent agreement, Landis and Koch's wording.

The coefficients come from scikit-learn and statsmodels. A coefficient that does not exist is None with the reason, so
that a report never shows NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Ratings = Sequence[Sequence[str | None]]
"""One row per clip, one entry per annotator; None where an annotator gave no answer."""

_WORDS = ((0.2, "slight"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial"))


@dataclass(frozen=True)
class Agreement:
    """Agreement over `clips` clips that all `raters` annotators rated.

    `percent` is the share of agreeing pairs of annotators in percent. Where `kappa` and `wording` are None, `reason`
    says why.
    """

    clips: int
    raters: int
    percent: float | None
    kappa: float | None
    wording: str | None
    reason: str | None


def landis_koch(kappa: float) -> str:
    """Landis and Koch's word for a kappa (1977): poor below 0, then slight, fair, ... in steps of 0.2.

    Their bounds are printed with two decimals (0.61 to 0.80 is substantial); here each step includes its upper bound.
    """
    if kappa < 0:
        return "poor"
    return next((word for bound, word in _WORDS if kappa <= bound), "almost perfect")


def cohen(ratings: Ratings) -> Agreement:
    """Cohen's kappa of two annotators (CA-FER section II.B.1), over the clips that both rated.

    Raises ValueError when a row has not exactly two entries.
    """
    from sklearn.metrics import cohen_kappa_score

    if any(len(row) != 2 for row in ratings):
        raise ValueError("Cohen's kappa compares exactly two annotators")
    complete = _complete(ratings)
    reason = _undefined(complete)
    if reason is not None:
        return Agreement(len(complete), 2, percent_agreement(complete), None, None, reason)
    first, second = zip(*complete, strict=True)
    return _defined(complete, float(cohen_kappa_score(first, second)))


def fleiss(ratings: Ratings) -> Agreement:
    """Fleiss' kappa of two or more annotators (CA-FER section II.B.2), over the clips that all of them rated.

    Raises ValueError when rows differ in length or have fewer than two entries.
    """
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    lengths = {len(row) for row in ratings}
    if len(lengths) > 1 or any(length < 2 for length in lengths):
        raise ValueError("Fleiss' kappa needs the same two or more annotators for every clip")
    complete = _complete(ratings)
    reason = _undefined(complete)
    if reason is not None:
        return Agreement(len(complete), max(lengths, default=0), percent_agreement(complete), None, None, reason)
    counts, _ = aggregate_raters(np.array(complete))
    return _defined(complete, float(fleiss_kappa(counts, method="fleiss")))


def fleiss_by_subset(ratings: Ratings, subsets: Sequence[str]) -> dict[str, Agreement]:
    """Fleiss' kappa within each subset, by name; `subsets` names the subset of each clip."""
    return {
        name: fleiss([row for row, subset in zip(ratings, subsets, strict=True) if subset == name])
        for name in sorted(set(subsets))
    }


def percent_agreement(ratings: Sequence[Sequence[str]]) -> float | None:
    """Share in percent of agreeing pairs of annotators, averaged over clips; None without clips.

    With two annotators this is the share of clips on which they agree.
    """
    shares = []
    for row in ratings:
        counts = np.unique(np.array(row), return_counts=True)[1]
        shares.append(float((counts * (counts - 1)).sum()) / (len(row) * (len(row) - 1)))
    return 100 * float(np.mean(shares)) if shares else None


def _complete(ratings: Ratings) -> list[list[str]]:
    rows = [[entry for entry in row if entry is not None] for row in ratings]
    return [kept for kept, row in zip(rows, ratings, strict=True) if len(kept) == len(row)]


def _undefined(complete: list[list[str]]) -> str | None:
    if not complete:
        return "no clip was rated by all annotators"
    if len({entry for row in complete for entry in row}) == 1:
        return "every answer is the same category, so chance alone would agree as well"
    return None


def _defined(complete: list[list[str]], kappa: float) -> Agreement:
    return Agreement(len(complete), len(complete[0]), percent_agreement(complete), kappa, landis_koch(kappa), None)
