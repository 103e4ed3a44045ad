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
NO_ANSWER = "expression: no annotator names one"


@dataclass(frozen=True)
class Consensus:
    """The agreed `label`; or None with the `reason`, and what each annotator said as `detail`."""

    label: str | None
    reason: str | None = None
    detail: str = ""


def consensus(answers: Mapping[str, str | None], rule: ExpressionRule = "unanimous") -> Consensus:
    """One clip's label from its annotators' answers; None is no answer, and does not count against agreement."""
    given = Counter(answer for answer in answers.values() if answer is not None)
    if not given:
        return Consensus(None, NO_ANSWER)
    label, votes = given.most_common(1)[0]
    total = sum(given.values())
    if votes == total or (rule == "majority" and 2 * votes > total):
        return Consensus(label)
    return Consensus(None, DISAGREEMENT, "; ".join(f"{name}: {said or 'no answer'}" for name, said in answers.items()))
