"""Which ethnic group a clip belongs to, from annotators, an estimator and overrides. Pure functions.

CA-FER section II.B.1: a clip is kept only if at least two of three sources agree (two annotators, and an estimator with
a confidence of at least 0.75). EthnicMER section III.A: one estimator alone, its mistakes corrected by hand. In both,
the corrections are an overrides file, and an override always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ESTIMATOR = "estimator"
OVERRIDE = "override"
THRESHOLD = 0.75
"""Confidence from which on an estimator votes, inclusive (CA-FER section II.B.1)."""

NO_SOURCE = "ethnicity: no source names a group"
ONE_SOURCE = "ethnicity: only one source names a group"
DISAGREEMENT = "ethnicity: no two sources agree"


@dataclass(frozen=True)
class ClipEstimate:
    """What an estimator says of one clip. `culture` is None where its `category` belongs to no group of the study."""

    culture: str | None
    confidence: float
    category: str = ""


@dataclass(frozen=True)
class Override:
    """A correction by hand, with its reason."""

    culture: str
    note: str = ""


@dataclass(frozen=True)
class Decision:
    """`culture` and the `sources` that agreed on it; or None with the `reason`, and what each said as `detail`."""

    culture: str | None
    sources: tuple[str, ...] = ()
    reason: str | None = None
    detail: str = ""


def two_of_three(
    votes: Mapping[str, str | None],
    estimate: ClipEstimate | None,
    override: Override | None = None,
    threshold: float = THRESHOLD,
) -> Decision:
    """CA-FER's rule: the group that at least two of the annotators (`votes`, by name) and the estimator name.

    An estimate below `threshold` does not vote, nor does an annotator without an answer. Raises ValueError for more
    than two annotators: with four sources two groups could win.
    """
    if len(votes) > 2:
        raise ValueError(f"the rule of two of three takes two annotators, not {len(votes)}")
    if override is not None:
        return Decision(override.culture, (OVERRIDE,))
    named = {source: culture for source, culture in votes.items() if culture is not None}
    if estimate is not None and estimate.culture is not None and estimate.confidence >= threshold:
        named[ESTIMATOR] = estimate.culture
    for culture in named.values():
        sources = tuple(source for source, said in named.items() if said == culture)
        if len(sources) >= 2:
            return Decision(culture, sources)
    reason = (NO_SOURCE, ONE_SOURCE)[len(named)] if len(named) < 2 else DISAGREEMENT
    return Decision(None, (), reason, _said(votes, estimate))


def estimator_alone(
    estimate: ClipEstimate | None, override: Override | None = None, threshold: float = 0.0
) -> Decision:
    """EthnicMER's rule: the estimator's group unless it is overridden. The paper names no threshold."""
    if override is not None:
        return Decision(override.culture, (OVERRIDE,))
    if estimate is not None and estimate.culture is not None and estimate.confidence >= threshold:
        return Decision(estimate.culture, (ESTIMATOR,))
    return Decision(None, (), NO_SOURCE, _said({}, estimate))


def _said(votes: Mapping[str, str | None], estimate: ClipEstimate | None) -> str:
    parts = [f"{source}: {culture or 'no answer'}" for source, culture in votes.items()]
    if estimate is None:
        parts.append(f"{ESTIMATOR}: no answer")
    else:
        name = estimate.culture or f"no group for {estimate.category or 'its category'}"
        parts.append(f"{ESTIMATOR}: {name} ({estimate.confidence:.4g})")
    return "; ".join(parts)
