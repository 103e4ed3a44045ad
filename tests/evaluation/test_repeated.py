"""The gain of one method over another on the same folds, against the formula worked out by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.repeated import gain


class Figures(Measured):
    """Measured figures that are given."""

    def __init__(self, uars: dict[tuple[int, str], float]) -> None:
        object.__setattr__(self, "uars", uars)

    def by_fold(self, measure: str) -> dict[tuple[int, str], float]:
        assert measure == "uar"
        return self.uars


def figures(values: list[float], folds: int) -> Figures:
    return Figures({(number // folds, f"fold-{number % folds}"): value for number, value in enumerate(values)})


def test_it_is_the_corrected_resampled_t_interval() -> None:
    ours, theirs = [0.60, 0.64, 0.59, 0.66, 0.61], [0.55, 0.60, 0.58, 0.57, 0.56]
    found = gain(figures(ours, 5), figures(theirs, 5))
    assert found is not None
    apart = np.subtract(ours, theirs)
    reach = stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 1 / 4) * apart.var(ddof=1))
    assert (found.value, found.low, found.high) == pytest.approx(
        (apart.mean(), apart.mean() - reach, apart.mean() + reach)
    )
    assert found.count == 5


def test_seeds_add_pairs_and_not_folds() -> None:
    one = gain(figures([0.6, 0.7, 0.6, 0.7], 2), figures([0.5] * 4, 2))
    assert one is not None
    assert one.count == 4
    spread = np.std([0.1, 0.2, 0.1, 0.2], ddof=1)
    assert one.high - one.value == pytest.approx(stats.t.ppf(0.975, 3) * spread * math.sqrt(1 / 4 + 1))


def test_pairs_that_one_of_them_lacks_do_not_count_and_one_fold_is_no_comparison() -> None:
    found = gain(figures([0.6, 0.7, 0.8], 3), figures([0.5, 0.5], 3))
    assert found is not None
    assert (found.count, found.value) == (2, pytest.approx(0.15))
    assert gain(figures([0.6], 1), figures([0.5], 1)) is None
    assert gain(figures([0.6, 0.7], 2), figures([0.5], 2)) is None


def test_folds_that_share_training_clips_are_not_taken_for_independent() -> None:
    """Differences with a part that all folds have in common: the plain t-interval misses 0 far more often."""
    rng = np.random.default_rng(0)
    missed = plain = 0
    for _ in range(400):
        apart = rng.normal(0, 0.02) * 0.5 + rng.normal(0, 0.02, 5)
        found = gain(figures((0.5 + apart).tolist(), 5), figures([0.5] * 5, 5))
        assert found is not None
        missed += not found.low <= 0 <= found.high
        low, high = stats.t.interval(0.95, 4, apart.mean(), apart.std(ddof=1) / math.sqrt(5))
        plain += not low <= 0 <= high
    assert missed / 400 < 0.06
    assert plain / 400 > 0.1
