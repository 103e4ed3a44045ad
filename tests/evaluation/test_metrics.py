"""UAR and WAR against scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassRecall

from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.labels import EXPRESSIONS

CLASSES = list(EXPRESSIONS)


def test_against_two_other_libraries() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    ours = classification_metrics(truth, predicted, CLASSES)
    assert ours["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert ours["war"] == pytest.approx(accuracy_score(truth, predicted))
    t, p = torch.from_numpy(truth), torch.from_numpy(predicted)
    assert ours["confusion"] == MulticlassConfusionMatrix(7)(p, t).tolist()
    recall = MulticlassRecall(7, average=None)(p, t)
    np.testing.assert_allclose([ours["recall"][name] for name in CLASSES], recall, rtol=1e-6)


def test_a_missing_prediction_is_wrong() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1])
    result = classification_metrics(truth, predicted, ["a", "b"])
    assert (result["uar"], result["war"], result["count"]) == (0.5, 0.5, 4)
    assert classification_metrics(truth, np.full(4, -1), ["a", "b"])["uar"] == 0.0


def test_a_class_that_does_not_occur_has_no_recall() -> None:
    result = classification_metrics(np.array([0, 0]), np.array([0, 2]), ["a", "b", "c"])
    assert result["recall"] == {"a": 0.5, "b": None, "c": None}
    assert result["uar"] == 0.5


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no labelled"):
        classification_metrics(np.array([]), np.array([]), CLASSES)
