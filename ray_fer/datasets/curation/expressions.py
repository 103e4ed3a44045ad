"""Expression labels from several annotators (CA-FER section II.B.2).

Four annotators label each clip; "clips with annotation disagreement were excluded". The paper does not say what counts
as disagreement, so both readings are here: `unanimous` (all agree) and `majority` (more than half agree).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ExpressionRule = Literal["unanimous", "majority"]

DISAGREEMENT = "expression: annotators disagree"
TOO_FEW = "expression: fewer than two annotators name one"
UNKNOWN = "expression: an annotator's answer is no expression"
UNKNOWN_ANSWER = "(unknown)"
"""Stands for an answer that names no expression: the annotator did answer, and did not agree."""


@dataclass(frozen=True)
class Consensus:
    """The agreed `label`; or None with the `reason`, and what each annotator said as `detail`."""

    label: str | None
    reason: str | None = None
    detail: str = ""


def consensus(answers: Mapping[str, str | None], rule: ExpressionRule = "unanimous") -> Consensus:
    """One clip's label from its annotators' answers; None is no answer, and does not count against agreement."""
    given = Counter(answer for answer in answers.values() if answer is not None)
    said = "; ".join(f"{name}: {answer or 'no answer'}" for name, answer in answers.items())
    total = sum(given.values())
    if total < 2:
        return Consensus(None, TOO_FEW, said)
    if UNKNOWN_ANSWER in given:
        return Consensus(None, UNKNOWN, said)
    label, votes = given.most_common(1)[0]
    if votes == total or (rule == "majority" and 2 * votes > total):
        return Consensus(label)
    return Consensus(None, DISAGREEMENT, said)
