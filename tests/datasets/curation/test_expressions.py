"""Which label several annotators agree on."""

from __future__ import annotations

import pytest

from ray_fer.datasets.curation.expressions import (
    DISAGREEMENT,
    TOO_FEW,
    UNKNOWN,
    UNKNOWN_ANSWER,
    ExpressionRule,
    consensus,
)


def answers(*names: str | None) -> dict[str, str | None]:
    return {f"annotator_{number}": name for number, name in enumerate(names, start=1)}


@pytest.mark.parametrize(
    ("given", "unanimous", "majority"),
    [
        (("Happy",) * 4, "Happy", "Happy"),
        (("Happy", "Happy", "Happy", "Sad"), None, "Happy"),
        (("Happy", "Happy", "Sad", "Sad"), None, None),  # half is no majority
        (("Happy", "Sad", "Fear", "Angry"), None, None),
        (("Happy", None, None, "Happy"), "Happy", "Happy"),  # who did not answer does not disagree
        (("Happy", None, None, "Sad"), None, None),
    ],
)
def test_agreement(given: tuple[str | None, ...], unanimous: str | None, majority: str | None) -> None:
    expected: dict[ExpressionRule, str | None] = {"unanimous": unanimous, "majority": majority}
    for rule, label in expected.items():
        result = consensus(answers(*given), rule)
        assert result.label == label
        assert result.reason == (None if label else DISAGREEMENT)


def test_one_answer_is_no_agreement() -> None:
    assert consensus(answers(None, None)).reason == TOO_FEW
    assert consensus(answers("Happy", None, None, None)).reason == TOO_FEW


@pytest.mark.parametrize("rule", ["unanimous", "majority"])
def test_an_answer_that_is_no_expression_is_no_silence(rule: ExpressionRule) -> None:
    result = consensus(answers("Happy", "Happy", "Happy", UNKNOWN_ANSWER), rule)
    assert (result.label, result.reason) == (None, UNKNOWN)


def test_disagreement_says_who_said_what() -> None:
    assert consensus(answers("Happy", None, "Sad")).detail == (
        "annotator_1: Happy; annotator_2: no answer; annotator_3: Sad"
    )
