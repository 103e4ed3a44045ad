"""The gain of one method over another on the same folds, against the formula worked out by hand and by simulation."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.paired import paired_bootstrap
from ray_fer.evaluation.predictions import COLUMNS, Predictions, joined
from ray_fer.evaluation.repeated import gain, pooled_gain


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


SUBJECTS, CLASSES = 12, ("Negative", "Positive", "Surprise")


def left_out(seed: int, right: float) -> list[tuple[str, Predictions]]:
    """Answers to seven clips of each of 12 subjects, a fold each, the same clips whatever the seed."""
    rng = np.random.default_rng(seed)
    folds = []
    for subject in range(SUBJECTS):
        truth = (np.arange(7) * (subject + 1)) % len(CLASSES)
        said = np.where(rng.random(7) < right, truth, rng.integers(0, len(CLASSES), 7))
        rows = [
            dict.fromkeys(COLUMNS)
            | {"clip_id": f"{subject}-{n}", "dataset": "d", "label": CLASSES[one], "subject_id": f"s{subject}"}
            for n, one in enumerate(truth)
        ]
        clips = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in COLUMNS]))
        shares = np.eye(len(CLASSES), dtype=np.float32)[said]
        folds.append((f"s{subject}", Predictions("m", list(CLASSES), clips, shares, np.zeros((7, 0), np.float32))))
    return folds


def pooled_f1(folds: list[tuple[str, Predictions]], subjects: Iterable[int]) -> float:
    chosen = [folds[subject][1] for subject in subjects]
    truth, said = (np.concatenate([getattr(one, name) for one in chosen]) for name in ("truth", "predicted"))
    return float(f1_score(truth, said, average="macro"))


def test_where_a_fold_is_a_subject_figures_are_pooled_and_subjects_drawn() -> None:
    """Against scikit-learn's F1 of subjects drawn one by one."""
    ours, theirs = {1: left_out(1, 0.9), 2: left_out(2, 0.85)}, {2: left_out(4, 0.6), 1: left_out(3, 0.7)}
    found = pooled_gain(Measured(ours, "loso"), Measured(theirs, "loso"))
    assert found is not None

    def apart(subjects: Iterable[int]) -> float:
        chosen = list(subjects)
        return float(np.mean([pooled_f1(ours[s], chosen) - pooled_f1(theirs[s], chosen) for s in (1, 2)]))

    assert found.value == pytest.approx(apart(range(SUBJECTS)))
    assert found.count == 2
    rng = np.random.default_rng(0)
    drawn = [apart(rng.integers(0, SUBJECTS, SUBJECTS)) for _ in range(1500)]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)
    by_subject = Measured(ours, "loso").by_fold("macro_f1")
    means = np.mean(list(by_subject.values())) - np.mean(list(Measured(theirs, "loso").by_fold("macro_f1").values()))
    assert abs(means - found.value) > 1e-3, "the mean of subjects' figures is another number"


def test_one_seed_is_the_paired_bootstrap_and_no_common_seed_is_no_comparison() -> None:
    ours, theirs = left_out(1, 0.9), left_out(2, 0.5)
    found = pooled_gain(Measured({1: ours}, "loso"), Measured({1: theirs}, "loso"))
    one, other = (joined([part for _, part in folds]) for folds in (ours, theirs))
    expected = paired_bootstrap(one, other, unit="subject")["macro_f1"]
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx(
        (expected.interval.low, expected.first - expected.second, expected.interval.high)
    )
    assert pooled_gain(Measured({1: ours}, "loso"), Measured({2: theirs}, "loso")) is None
