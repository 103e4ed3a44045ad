"""Calibration: by hand, and against torchmetrics and scikit-learn."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from ray_fer.evaluation.calibration import ReliabilityBin, calibration, reliability_bins


def random_probabilities(count: int = 400, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, count), rng.dirichlet(np.full(classes, 0.3), count)


def test_four_clips_by_hand() -> None:
    # Five bins of 0.2. Confidences 0.9 (right), 0.9 (wrong), 0.7 (right), 0.5 (right, the first of equals):
    #   (0.4, 0.6]: confidence 0.5, accuracy 1    gap 0.5   1 clip
    #   (0.6, 0.8]: confidence 0.7, accuracy 1    gap 0.3   1 clip
    #   (0.8, 1.0]: confidence 0.9, accuracy 1/2  gap 0.4   2 clips
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    result = calibration(np.array([0, 1, 1, 0]), probabilities, bins=5)
    assert [(one.count, one.accuracy) for one in result.bins] == [(0, None), (0, None), (1, 1.0), (1, 1.0), (2, 0.5)]
    assert [one.confidence for one in result.bins[2:]] == pytest.approx([0.5, 0.7, 0.9])
    assert [one.gap for one in result.bins] == pytest.approx([0, 0, 0.5, 0.3, 0.4])
    assert result.ece == pytest.approx((0.5 + 0.3 + 2 * 0.4) / 4)
    assert result.mce == pytest.approx(0.5)
    # Squared errors of both classes: 2 * 0.1^2, 2 * 0.9^2, 2 * 0.3^2, 2 * 0.5^2
    assert result.brier == pytest.approx((0.02 + 1.62 + 0.18 + 0.5) / 4)
    assert result.nll == pytest.approx(-(math.log(0.9) + math.log(0.1) + math.log(0.7) + math.log(0.5)) / 4)
    assert result.count == 4
    json.dumps(dataclasses.asdict(result))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_against_torchmetrics(bins: int) -> None:
    truth, probabilities = random_probabilities()
    result = calibration(truth, probabilities, bins)
    for norm, ours in (("l1", result.ece), ("max", result.mce)):
        reference = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=7, n_bins=bins, norm=norm
        )
        assert ours == pytest.approx(reference.item(), rel=1e-6)


def test_against_scikit_learn() -> None:
    truth, probabilities = random_probabilities()
    probabilities = 0.99 * probabilities + 0.01 / 7  # none so small that the two round it in different ways
    result = calibration(truth, probabilities)
    assert result.nll == pytest.approx(log_loss(truth, probabilities, labels=range(7)))
    one_by_one = [brier_score_loss(truth == number, probabilities[:, number]) for number in range(7)]
    assert result.brier == pytest.approx(sum(one_by_one))


def test_the_edge_of_a_bin_belongs_to_the_lower_one() -> None:
    table = reliability_bins(np.array([0.0, 0.25, 0.5, 0.75, 0.875, 1.0]), np.ones(6, bool), bins=4)
    assert [one.count for one in table] == [2, 1, 1, 2]
    assert (table[0].low, table[-1].high) == (0.0, 1.0)
    # A model so sure that its probability is 1 shares the last bin; torchmetrics gives it a bin of its own.
    truth, probabilities = np.array([0, 0]), np.array([[1.0, 0.0], [0.02, 0.98]])
    assert calibration(truth, probabilities).ece == pytest.approx(abs(0.5 - 0.99))
    reference = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=2)
    assert reference.item() == pytest.approx((0 + 0.98) / 2)


def test_right_and_sure() -> None:
    result = calibration(np.array([0, 1]), np.eye(2, dtype=np.float32))
    assert (result.ece, result.mce, result.brier, result.nll) == (0.0, 0.0, 0.0, 0.0)


def test_wrong_and_sure_is_finite() -> None:
    result = calibration(np.array([1, 0]), np.eye(2, dtype=np.float32))
    assert (result.ece, result.mce, result.brier) == (1.0, 1.0, 2.0)
    assert result.nll == pytest.approx(15.94, abs=0.01)


def test_a_calibrated_model_has_an_error_by_chance_that_falls_with_the_number_of_clips() -> None:
    errors = []
    for count in (100, 10_000):
        rng = np.random.default_rng(1)
        confidence = rng.uniform(0.5, 1, count)
        truth = (rng.random(count) >= confidence).astype(int)
        errors.append(calibration(truth, np.column_stack([confidence, 1 - confidence])).ece)
        assert errors[-1] < 0.4 * math.sqrt(15 / count)
    assert errors[1] < errors[0] / 4


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 20), st.integers(0, 1000))
def test_bins_hold_every_clip_once(count: int, classes: int, bins: int, seed: int) -> None:
    truth, probabilities = random_probabilities(count, classes, seed)
    result = calibration(truth, probabilities.astype(np.float32), bins)
    assert sum(one.count for one in result.bins) == count
    right = sum(one.accuracy * one.count for one in result.bins if one.accuracy is not None)
    assert right / count == pytest.approx((probabilities.argmax(axis=1) == truth).mean())
    for one in result.bins:
        if one.confidence is not None:
            assert one.low - 1e-9 <= one.confidence <= one.high + 1e-9
    assert 0 <= result.ece <= result.mce + 1e-12
    assert result.mce <= 1
    assert 0 <= result.brier <= 2
    order = np.random.default_rng(seed).permutation(count)
    assert calibration(truth[order], probabilities[order].astype(np.float32), bins).ece == pytest.approx(result.ece)


def test_an_empty_bin_has_no_means() -> None:
    assert reliability_bins(np.array([0.9]), np.array([True]), 2)[0] == ReliabilityBin(0.0, 0.5, 0, None, None)


def test_bad_input() -> None:
    sure = np.array([[1.0, 0.0]])
    with pytest.raises(ValueError, match="no labelled clip"):
        calibration(np.array([], int), np.zeros((0, 2)))
    for rows in ([[2.0, -1.0]], [[3.0, 1.0]], [[np.nan, 0.5]]):
        with pytest.raises(ValueError, match="take the softmax of logits first"):
            calibration(np.array([0]), np.array(rows))
    with pytest.raises(ValueError, match=r"2 labels and probabilities \(1, 2\)"):
        calibration(np.array([0, 1]), sure)
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibration(np.array([2]), sure)
    with pytest.raises(ValueError, match="0 bins; the usual number is 15"):
        calibration(np.array([0]), sure, bins=0)
