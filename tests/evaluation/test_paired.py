"""Two models on the same clips: by hand, and against statsmodels and SciPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from ray_fer.evaluation.intervals import FIGURES, confidence_intervals
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.paired import Difference, aligned, mcnemar_test, paired_bootstrap
from ray_fer.evaluation.predictions import Predictions

CLASSES = ["a", "b", "c"]


def model(
    name: str, truth: Sequence[int] | np.ndarray, answers: Sequence[int] | np.ndarray, ids: list[str] | None = None,
    subjects: list[str] | None = None,
) -> Predictions:  # fmt: skip
    """Predictions of one dataset whose answers are known."""
    count = len(truth)
    clips = pa.table({
        "clip_id": ids or [f"c{number:04d}" for number in range(count)], "dataset": ["dfew"] * count,
        "label": [CLASSES[one] for one in truth], "culture": ["Unknown"] * count,
        "subject_id": pa.array(subjects or [None] * count, pa.string()), "path": ["x.mp4"] * count,
    })  # fmt: skip
    probabilities = np.eye(3, dtype=np.float32)[np.asarray(answers, int)]
    return Predictions(name, CLASSES, clips, probabilities, np.zeros((count, 0), np.float32))


def two_models(both: int, only_first: int, only_second: int, neither: int) -> tuple[Predictions, Predictions]:
    """Clips of class "a" by who gets them right."""
    first = [0] * (both + only_first) + [1] * (only_second + neither)
    second = [0] * both + [1] * only_first + [0] * only_second + [1] * neither
    return model("first", np.zeros(len(first), int), first), model("second", np.zeros(len(first), int), second)


def test_mcnemar_exact_by_hand() -> None:
    # 10 clips are right in one model only, 8 of them in the first. Two-sided binomial, p = 1/2:
    # 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 2 * (1 + 10 + 45) / 1024 = 0.109375
    result = mcnemar_test(*two_models(30, 8, 2, 5))
    assert (result.both, result.only_first, result.only_second, result.neither) == (30, 8, 2, 5)
    assert result.exact
    assert (result.statistic, result.p) == (2, pytest.approx(0.109375))
    assert result.p == pytest.approx(stats.binomtest(8, 10).pvalue)


def test_mcnemar_chi_square_by_hand() -> None:
    # (|30 - 10| - 1)^2 / (30 + 10) = 361 / 40 = 9.025; beyond 9.025 lies 0.00266 of chi-square with one degree
    result = mcnemar_test(*two_models(100, 30, 10, 20))
    assert not result.exact
    assert (result.statistic, result.p) == (pytest.approx(9.025), pytest.approx(0.002663, abs=1e-6))


def test_mcnemar_turns_to_chi_square_at_25_discordant_clips() -> None:
    assert mcnemar_test(*two_models(0, 20, 4, 0)).exact
    assert not mcnemar_test(*two_models(0, 20, 5, 0)).exact


def test_equal_models_differ_in_nothing() -> None:
    assert mcnemar_test(*two_models(10, 0, 0, 3)).p == 1.0
    assert mcnemar_test(*two_models(10, 5, 5, 3)).p == 1.0
    # statsmodels "corrects" a difference of 0 to 1, and would say 0.87 here.
    equal = mcnemar_test(*two_models(10, 20, 20, 3))
    assert (equal.statistic, equal.p) == (0.0, 1.0)
    first, second = two_models(10, 0, 0, 3)
    for row in paired_bootstrap(first, second, resamples=100).values():
        assert row.p == 1.0
        assert (row.interval.value, row.interval.low, row.interval.high) == (0.0, 0.0, 0.0)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0 and cells[1] != cells[2]))
def test_mcnemar_agrees_with_statsmodels_and_has_no_favourite(cells: tuple[int, int, int, int]) -> None:
    both, only_first, only_second, neither = cells
    first, second = two_models(*cells)
    result, swapped = mcnemar_test(first, second), mcnemar_test(second, first)
    exact = only_first + only_second < 25
    reference = mcnemar([[both, only_first], [only_second, neither]], exact=exact, correction=True)
    assert result.p == pytest.approx(reference.pvalue)
    assert swapped.p == pytest.approx(result.p)
    assert (swapped.only_first, swapped.only_second) == (only_second, only_first)


def random_models(count: int = 300, seed: int = 0) -> tuple[Predictions, Predictions]:
    """The first is right in 80 % of clips, the second in 70 %; they fail on much the same ones."""
    rng = np.random.default_rng(seed)
    truth, hard = rng.choice(3, count, p=[0.5, 0.3, 0.2]), rng.random(count)
    answers = [np.where(hard + rng.normal(0, 0.05, count) < skill, truth, (truth + 1) % 3) for skill in (0.8, 0.7)]
    subjects = [f"s{number % 30}" for number in range(count)]
    return model("first", truth, answers[0], subjects=subjects), model("second", truth, answers[1], subjects=subjects)


def test_paired_bootstrap_against_scipy() -> None:
    first, second = random_models()
    rows = paired_bootstrap(first, second, resamples=4000)
    assert set(rows) == set(FIGURES)
    gained = (first.predicted == first.truth).astype(float) - (second.predicted == second.truth)
    reference = stats.bootstrap((gained,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    war = rows["war"]
    assert war.interval.value == pytest.approx(gained.mean())
    assert (war.interval.low, war.interval.high) == pytest.approx((reference.low, reference.high), abs=0.006)
    for name, row in rows.items():
        for value, one in ((row.first, first), (row.second, second)):
            assert value == pytest.approx(classification_metrics(one.truth, one.predicted, CLASSES)[name])


def test_pairs_tell_models_apart_whose_own_intervals_overlap() -> None:
    first, second = random_models(150)
    row = paired_bootstrap(first, second)["war"]
    assert confidence_intervals(second)["war"].high > confidence_intervals(first)["war"].low
    assert row.interval.low > 0
    assert row.p == pytest.approx(2 / 2001)  # no draw of 2,000 had the second ahead


def test_swapping_the_models_turns_the_sign() -> None:
    first, second = random_models(60)
    for unit in ("clip", "subject"):
        there, back = (paired_bootstrap(*pair, unit=unit, resamples=999) for pair in ((first, second), (second, first)))
        for name in FIGURES:
            assert back[name].interval.value == -there[name].interval.value
            assert (back[name].first, back[name].second) == (there[name].second, there[name].first)
            assert back[name].interval.low == pytest.approx(-there[name].interval.high, abs=0.02)
            assert isinstance(back[name], Difference)


def test_p_is_uniform_enough_when_neither_is_better() -> None:
    """200 pairs of models of equal skill: about 5 % of them at p < 0.05, and not 10 %."""
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        answers = (rng.random((2, 100)) < 0.3).astype(int)
        pair = model("first", np.zeros(100, int), answers[0]), model("second", np.zeros(100, int), answers[1])
        found += paired_bootstrap(*pair, resamples=400, seed=seed)["war"].p < 0.05
    assert 3 <= found <= 20


def test_clips_are_matched_by_name_and_not_by_row() -> None:
    first, second = random_models(50)
    order = np.random.default_rng(1).permutation(50)
    assert mcnemar_test(first, second.select(order)) == mcnemar_test(first, second)
    assert paired_bootstrap(first, second.select(order), resamples=50) == paired_bootstrap(first, second, resamples=50)
    one, other = aligned(first, second.select(order))
    assert one.column("clip_id") == other.column("clip_id") == first.column("clip_id")


def test_classes_may_stand_in_another_order() -> None:
    first, second = random_models(50)
    turned = Predictions("turned", CLASSES[::-1], second.clips, second.probabilities[:, ::-1], second.features)
    assert mcnemar_test(first, turned) == mcnemar_test(first, second)
    assert aligned(first, turned)[1].classes == CLASSES


def test_what_cannot_be_compared_is_named() -> None:
    first, second = random_models(20)
    with pytest.raises(ValueError, match="second lacks 2 clips: dfew/c0003, dfew/c0007"):
        mcnemar_test(first, second.select([row for row in range(20) if row not in (3, 7)]))
    with pytest.raises(ValueError, match=r"first lacks 6 clips: dfew/c0000, .*, dfew/c0004 and 1 more; second lacks 1"):
        aligned(first.select(range(6, 20)), second.select(range(19)))
    with pytest.raises(ValueError, match="second has more than one answer for 1 clip: dfew/c0001"):
        aligned(first, second.select([0, 1, 1]))
    with pytest.raises(ValueError, match="different labels for 1 clip: dfew/b"):
        aligned(model("x", [0, 1], [0, 0], ["a", "b"]), model("y", [0, 2], [0, 0], ["a", "b"]))
    with pytest.raises(ValueError, match="no labelled clip to compare"):
        paired_bootstrap(first.select([]), second.select([]))
    two = Predictions("two", ["a", "b"], pa.table(first.clips).slice(0, 0), np.zeros((0, 2)), np.zeros((0, 0)))
    with pytest.raises(ValueError, match="first and two have different classes: not both know c"):
        aligned(first, two)
    with pytest.raises(ValueError, match="not every clip has a subject_id"):
        paired_bootstrap(*two_models(5, 1, 1, 1), unit="subject")
