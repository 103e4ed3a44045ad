"""Confidence intervals: by hand, against SciPy and statsmodels, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ray_fer.evaluation.intervals import (
    FIGURES,
    Interval,
    answer_counts,
    bootstrap_intervals,
    confidence_intervals,
    figures,
    resampled_counts,
    wilson_interval,
)
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions

labelled = st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2)), min_size=1, max_size=30)


def some_answers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of unequal size and recall; one prediction in twenty is missing."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    right = rng.random(count) < np.array([0.9, 0.7, 0.5])[truth]
    predicted = np.where(right, truth, (truth + 1) % 3)
    predicted[rng.random(count) < 0.05] = -1
    return truth, predicted


def test_wilson_by_hand() -> None:
    # 8 of 10, z = 1.96: centre (0.8 + z^2/20) / (1 + z^2/10) = 0.9921 / 1.3841 = 0.7167,
    # half width z * sqrt(0.8 * 0.2 / 10 + z^2 / 400) / (1 + z^2/10) = 1.96 * 0.1600 / 1.3841 = 0.2266
    interval = wilson_interval(8, 10)
    assert (interval.value, interval.level) == (0.8, 0.95)
    assert (interval.low, interval.high) == pytest.approx((0.4901, 0.9433), abs=2e-4)
    reference = stats.binomtest(8, 10).proportion_ci(0.9, method="wilson")
    interval = wilson_interval(8, 10, level=0.9)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))
    # No error among 10 clips still allows for 28 % of them.
    assert wilson_interval(10, 10).low == pytest.approx(0.7225, abs=1e-4)
    assert wilson_interval(10, 10).high == 1.0
    assert wilson_interval(0, 10).low == 0.0


@settings(deadline=None)
@given(labelled)
def test_figures_are_those_of_classification_metrics(rows: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(rows).T
    ours = figures(answer_counts(truth, predicted, 3))
    result = classification_metrics(truth, predicted, ["a", "b", "c"])
    assert set(ours) == set(FIGURES)
    for name in FIGURES:
        assert ours[name] == pytest.approx(result[name])


def test_counts_by_hand() -> None:
    counts = answer_counts(np.array([0, 0, 1, 1]), np.array([0, 1, 1, -1]), 2)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1]]  # rows: truth; columns: a, b, no answer


@settings(deadline=None)
@given(labelled, st.booleans(), st.integers(0, 5))
def test_draws_have_as_many_clips_and_no_new_kinds(rows: list[tuple[int, int]], clustered: bool, seed: int) -> None:
    truth, predicted = np.array(rows * 2).T
    clusters = np.arange(len(truth)) % len(rows) if clustered and len(rows) > 1 else None  # subjects of two clips each
    draws = resampled_counts(truth, [predicted], 3, clusters, resamples=20, seed=seed)[0]
    assert draws.shape == (20, 3, 4)
    assert (draws.sum(axis=(1, 2)) == len(truth)).all()
    assert not draws[:, answer_counts(truth, predicted, 3) == 0].any()


def test_drawing_kinds_is_drawing_clips() -> None:
    """The multinomial short cut against SciPy's bootstrap, which draws clip by clip."""
    truth, predicted = some_answers(300)
    ours = bootstrap_intervals(truth, predicted, 3, resamples=4000)

    def statistic(*sample: np.ndarray) -> list[float]:
        values = figures(answer_counts(*sample, classes=3))
        return [float(values[name]) for name in FIGURES]

    reference = stats.bootstrap(
        (truth, predicted), statistic, paired=True, vectorized=False, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    for place, name in enumerate(FIGURES):
        assert ours[name].low == pytest.approx(reference.low[place], abs=0.01)
        assert ours[name].high == pytest.approx(reference.high[place], abs=0.01)


def test_drawing_subjects_against_doing_so_one_by_one() -> None:
    truth, predicted = some_answers(200)
    clusters = np.random.default_rng(1).integers(0, 25, 200)
    ours = bootstrap_intervals(truth, predicted, 3, clusters, resamples=3000)["uar"]
    rng, members = np.random.default_rng(2), [np.flatnonzero(clusters == number) for number in range(25)]
    samples = []
    for _ in range(3000):
        drawn = np.concatenate([members[number] for number in rng.integers(0, 25, 25)])
        samples.append(figures(answer_counts(truth[drawn], predicted[drawn], 3))["uar"])
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])), abs=0.01)


def test_the_seed_decides_and_the_order_of_clips_does_not() -> None:
    truth, predicted = some_answers(100)
    order = np.random.default_rng(3).permutation(100)
    subjects = np.arange(100) % 20
    first = bootstrap_intervals(truth, predicted, 3, subjects, resamples=200, seed=5)
    assert bootstrap_intervals(truth[order], predicted[order], 3, subjects[order], resamples=200, seed=5) == first
    assert bootstrap_intervals(truth, predicted, 3, subjects, resamples=200, seed=6) != first


@pytest.mark.parametrize("figure", FIGURES)
def test_a_subject_for_each_clip_is_as_drawing_clips(figure: str) -> None:
    truth, predicted = some_answers(300)
    clips = bootstrap_intervals(truth, predicted, 3, resamples=4000)[figure]
    subjects = bootstrap_intervals(truth, predicted, 3, np.arange(300), resamples=4000)[figure]
    assert (subjects.low, subjects.high) == pytest.approx((clips.low, clips.high), abs=0.01)


def test_a_higher_level_is_a_wider_interval() -> None:
    truth, predicted = some_answers(100)
    narrow, wide = (bootstrap_intervals(truth, predicted, 3, level=level)["war"] for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert (narrow.level, wide.level) == (0.8, 0.99)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """300 test sets of 150 clips of a model whose recalls are known: 0.9, 0.7, 0.5, less 5 % without an answer."""
    uar, held = 0.95 * (0.9 + 0.7 + 0.5) / 3, 0
    for seed in range(300):
        interval = bootstrap_intervals(*some_answers(150, seed), 3, resamples=400, seed=seed)["uar"]
        held += interval.low <= uar <= interval.high
    # 0.95 would be 285; percentile intervals of few clips hold it somewhat less often. 265 is 3 deviations below 0.93.
    assert 265 <= held <= 297


def test_only_subjects_hold_the_truth_when_clips_depend_on_them() -> None:
    """40 persons of 5 clips each; a person is read well (all clips right) or badly (none), half of them each."""
    held = {"clip": 0, "subject": 0}
    subjects, truth = np.repeat(np.arange(40), 5), np.zeros(200, int)
    for seed in range(100):
        well = np.random.default_rng(seed).random(40) < 0.5
        predicted = np.where(well[subjects], 0, 1)
        for unit, clusters in (("clip", None), ("subject", subjects)):
            interval = bootstrap_intervals(truth, predicted, 2, clusters, resamples=400, seed=seed)["war"]
            held[unit] += interval.low <= 0.5 <= interval.high
    assert held["subject"] >= 87
    assert held["clip"] <= 75


def test_a_class_of_one_clip_and_a_perfect_model() -> None:
    # One class: no draw can miss it. A model without errors has the interval of a point, unlike Wilson's.
    assert bootstrap_intervals(np.zeros(5, int), np.zeros(5, int), 7)["uar"] == Interval(1.0, 1.0, 1.0, 0.95)
    # A draw that misses "b" scores "a" alone; it does not fail, and does not count "b" as 0.
    interval = bootstrap_intervals(np.array([0] * 9 + [1]), np.array([0] * 9 + [0]), 2)["uar"]
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 1.0)


def predictions(subjects: list[str | None], datasets: list[str]) -> Predictions:
    count = len(subjects)
    clips = pa.table({
        "clip_id": [f"c{number}" for number in range(count)], "dataset": datasets, "label": ["a", "b"] * (count // 2),
        "culture": ["Unknown"] * count, "subject_id": pa.array(subjects, pa.string()), "path": ["x.mp4"] * count,
    })  # fmt: skip
    probabilities = np.random.default_rng(0).dirichlet([1, 1], count).astype(np.float32)
    return Predictions("m 1", ["a", "b"], clips, probabilities, np.zeros((count, 0), np.float32))


def test_intervals_of_predictions() -> None:
    given = predictions(["s1", "s2"] * 10, ["casme2"] * 10 + ["samm"] * 10)
    clips = confidence_intervals(given, resamples=300, seed=1)
    assert clips == bootstrap_intervals(given.truth, given.predicted, 2, resamples=300, seed=1)
    assert clips["war"].value == classification_metrics(given.truth, given.predicted, given.classes)["war"]
    # "s1" of CASME II and "s1" of SAMM are two persons: four in all.
    four = np.array([0, 1] * 5 + [2, 3] * 5)
    expected = bootstrap_intervals(given.truth, given.predicted, 2, four, resamples=300, seed=1)
    assert confidence_intervals(given, "subject", resamples=300, seed=1) == expected


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="no labelled clip"):
        bootstrap_intervals(np.array([], int), np.array([], int), 2)
    with pytest.raises(ValueError, match="not every clip has a subject_id; draw clips instead"):
        confidence_intervals(predictions(["s1", None], ["samm"] * 2), "subject")
    with pytest.raises(ValueError, match="all clips are of one subject"):
        confidence_intervals(predictions(["s1", "s1"], ["samm"] * 2), "subject")
    with pytest.raises(ValueError, match="unknown unit of the bootstrap 'person'; expected one of clip, subject"):
        confidence_intervals(predictions(["s1", "s1"], ["samm"] * 2), "person")
    with pytest.raises(ValueError, match=r"95 is not between 0 and 1; the usual one is 0\.95"):
        bootstrap_intervals(np.array([0]), np.array([0]), 2, level=95)
    with pytest.raises(ValueError, match="0 resamples; use 2000"):
        bootstrap_intervals(np.array([0]), np.array([0]), 2, resamples=0)
    with pytest.raises(ValueError, match="0 correct of 0 clips is no share"):
        wilson_interval(0, 0)
