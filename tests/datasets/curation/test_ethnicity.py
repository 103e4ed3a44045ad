"""The rule of two of three, against a count of all sources; and the groups of the two studies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.datasets.curation.ethnicity import (
    DISAGREEMENT,
    NO_SOURCE,
    ONE_SOURCE,
    ClipEstimate,
    Override,
    estimator_alone,
    two_of_three,
)
from ray_fer.datasets.ethnic_groups import (
    DEEPFACE_CATEGORIES,
    ETHNICMER,
    ETHNICMER_GROUPS,
    FACEXFORMER_CATEGORIES,
    GCC_FER,
    SCHEMES,
)

cultures = st.sampled_from([None, "African", "Caucasian", "East Asian"])
confidences = st.one_of(st.floats(0, 1), st.sampled_from([0.75, math.nextafter(0.75, 0)]))


@given(cultures, cultures, st.none() | st.builds(ClipEstimate, cultures, confidences))
def test_two_of_three(first: str | None, second: str | None, estimate: ClipEstimate | None) -> None:
    third = estimate.culture if estimate is not None and estimate.confidence >= 0.75 else None
    said = [culture for culture in (first, second, third) if culture is not None]
    winners = {culture for culture in said if said.count(culture) >= 2}
    decision = two_of_three({"annotator_1": first, "annotator_2": second}, estimate)
    assert decision.culture == (winners.pop() if winners else None)
    assert len(decision.sources) == (said.count(decision.culture) if decision.culture else 0)
    if decision.culture is None:
        assert decision.reason == {0: NO_SOURCE, 1: ONE_SOURCE}.get(len(said), DISAGREEMENT)


@pytest.mark.parametrize(("confidence", "culture"), [(0.75, "African"), (math.nextafter(0.75, 0), None)])
def test_the_threshold_is_inclusive(confidence: float, culture: str | None) -> None:
    votes = {"annotator_1": "African", "annotator_2": "Caucasian"}
    assert two_of_three(votes, ClipEstimate("African", confidence)).culture == culture


def test_the_sources_that_agree_are_named() -> None:
    decision = two_of_three({"annotator_1": "African", "annotator_2": "Caucasian"}, ClipEstimate("Caucasian", 0.9))
    assert decision.sources == ("annotator_2", "estimator")


def test_a_dropped_clip_says_who_said_what() -> None:
    estimate = ClipEstimate(None, 0.97, "middle eastern")
    decision = two_of_three({"annotator_1": "African", "annotator_2": None}, estimate)
    assert decision.reason == ONE_SOURCE
    assert decision.detail == (
        "annotator_1: African; annotator_2: no answer; estimator: no group for middle eastern (0.97)"
    )


def test_an_override_wins_over_all_three() -> None:
    votes = {"annotator_1": "African", "annotator_2": "African"}
    decision = two_of_three(votes, ClipEstimate("African", 1.0), Override("Caucasian", "subtitles name her"))
    assert (decision.culture, decision.sources) == ("Caucasian", ("override",))


def test_three_annotators_are_refused() -> None:
    with pytest.raises(ValueError, match="two annotators"):
        two_of_three({"a": "African", "b": "African", "c": "African"}, None)


def test_one_estimator_alone() -> None:
    assert estimator_alone(ClipEstimate("Asian", 0.21)).culture == "Asian"
    assert estimator_alone(ClipEstimate("Asian", 0.21), threshold=0.75).reason == NO_SOURCE
    assert estimator_alone(ClipEstimate("Asian", 0.21), Override("Non-Asian")).culture == "Non-Asian"
    assert estimator_alone(None).reason == NO_SOURCE


def test_ethnicmers_groups_give_the_papers_totals() -> None:
    clips = {"Caucasian": 88, "African": 4, "Asian": 183, "Indian": 5, "Others": 11}  # Table II
    totals = {
        group: sum(n for name, n in clips.items() if ETHNICMER_GROUPS[name] == group) for group in ETHNICMER.groups
    }
    assert totals == {"Asian": 199, "Non-Asian": 92}
    assert sum(totals.values()) == 291


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=str)
def test_every_category_of_every_estimator_is_mapped(scheme: object) -> None:
    assert scheme in (GCC_FER, ETHNICMER)
    assert isinstance(scheme, type(GCC_FER))
    assert set(scheme.estimators["deepface"]) == set(DEEPFACE_CATEGORIES)
    assert set(scheme.estimators["facexformer"]) == set(FACEXFORMER_CATEGORIES)
    for mapping in scheme.estimators.values():
        assert set(mapping.values()) <= {*scheme.groups, None}


@pytest.mark.parametrize("text", ["East Asian", "east asian", " East_Asian ", "EAST-ASIAN"])
def test_spelling_of_groups(text: str) -> None:
    assert GCC_FER.resolve(text) == "East Asian"


def test_names_of_no_group() -> None:
    assert GCC_FER.resolve("Asian") is None
    assert GCC_FER.resolve("") is None
    assert ETHNICMER.resolve("indian") == "Asian"
