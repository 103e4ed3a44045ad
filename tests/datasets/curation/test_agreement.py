"""Kappas against worked examples and against their definitions."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.datasets.curation.agreement import cohen, fleiss, fleiss_by_subset, landis_koch, percent_agreement

# The worked example of the literature: 14 raters sort 10 subjects into 5 categories; kappa = 0.210, P = 0.378.
FOURTEEN_RATERS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip

ratings = st.integers(2, 5).flatmap(
    lambda raters: st.lists(st.lists(st.sampled_from("ABC"), min_size=raters, max_size=raters), min_size=1, max_size=12)
)


def test_fleiss_on_the_worked_example() -> None:
    answers = [[name for name, n in zip("ABCDE", counts, strict=True) for _ in range(n)] for counts in FOURTEEN_RATERS]
    result = fleiss(answers)
    assert result.kappa == pytest.approx(0.210, abs=5e-4)
    assert result.percent == pytest.approx(37.8, abs=0.05)
    assert (result.wording, result.clips, result.raters) == ("fair", 10, 14)


def test_cohen_on_a_two_by_two_table() -> None:
    # Observed agreement (20 + 15) / 50 = 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = 0.2 / 0.5.
    answers = [["yes", "yes"]] * 20 + [["yes", "no"]] * 5 + [["no", "yes"]] * 10 + [["no", "no"]] * 15
    result = cohen(answers)
    assert result.kappa == pytest.approx(0.4)
    assert result.percent == pytest.approx(70.0)


@given(ratings)
def test_fleiss_is_its_definition(answers: list[list[str]]) -> None:
    raters, total = len(answers[0]), len(answers) * len(answers[0])
    shares = Counter(answer for row in answers for answer in row)
    chance = sum(Fraction(n, total) ** 2 for n in shares.values())
    observed = sum(
        Fraction(sum(n * (n - 1) for n in Counter(row).values()), raters * (raters - 1)) for row in answers
    ) / len(answers)
    result = fleiss(answers)
    assert result.percent == pytest.approx(float(100 * observed))
    if chance == 1:
        assert result.kappa is None
    else:
        assert result.kappa == pytest.approx(float((observed - chance) / (1 - chance)), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("ABC")), min_size=1, max_size=20))
def test_cohen_is_its_definition(pairs: list[tuple[str, str]]) -> None:
    n = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(Fraction(first[name] * second[name], n * n) for name in "ABC")
    observed = Fraction(sum(a == b for a, b in pairs), n)
    result = cohen(pairs)
    if chance == 1:
        assert result.kappa is None
    else:
        assert result.kappa == pytest.approx(float((observed - chance) / (1 - chance)), abs=1e-9)
    assert result.percent == pytest.approx(float(100 * observed))


@pytest.mark.parametrize(
    ("kappa", "word"),
    [
        (-0.01, "poor"), (0.0, "slight"), (0.2, "slight"), (0.201, "fair"), (0.4, "fair"), (0.5, "moderate"),
        (0.6, "moderate"), (0.6372, "substantial"), (0.701, "substantial"), (0.786, "substantial"),
        (0.8, "substantial"), (0.81, "almost perfect"), (1.0, "almost perfect"),
    ],
)  # fmt: skip
def test_landis_and_koch(kappa: float, word: str) -> None:
    assert landis_koch(kappa) == word  # 0.786, 0.701 and 0.6372 are the paper's, which calls them substantial


def test_what_is_not_defined_has_a_reason_and_no_nan() -> None:
    same = fleiss([["Happy"] * 4] * 3)
    assert (same.kappa, same.wording, same.percent) == (None, None, 100.0)
    assert same.reason is not None
    assert "same category" in same.reason
    nobody = cohen([["A", None], [None, None]])
    assert (nobody.kappa, nobody.percent, nobody.clips) == (None, None, 0)
    assert fleiss([]).reason == "no clip was rated by all annotators"
    assert percent_agreement([]) is None


def test_clips_that_not_all_rated_do_not_count() -> None:
    complete = [["A", "A"], ["A", "B"], ["B", "B"]]
    assert cohen([*complete, ["A", None], [None, "B"]]) == cohen(complete)


def test_subsets_are_independent() -> None:
    answers = [["A", "A"], ["B", "B"], ["A", "B"], ["B", "A"]]
    result = fleiss_by_subset(answers, ["South Asian", "South Asian", "African", "African"])
    assert {name: one.kappa for name, one in result.items()} == pytest.approx({"African": -1.0, "South Asian": 1.0})


def test_wrong_numbers_of_annotators() -> None:
    with pytest.raises(ValueError, match="exactly two"):
        cohen([["A", "B", "A"]])
    with pytest.raises(ValueError, match="same two or more"):
        fleiss([["A", "B"], ["A", "B", "C"]])
