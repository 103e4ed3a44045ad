"""UAR, WAR, F1 and their parts: by hand, and against scikit-learn and torchmetrics."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from ray_fer.evaluation.metrics import classification_metrics, cross_entropy
from ray_fer.labels import EXPRESSIONS

CLASSES = list(EXPRESSIONS)

labelled = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=40)


def test_ten_clips_by_hand() -> None:
    #            predicted: a b c
    #   truth a             3 1 0    recall 3/4   precision 3/5   F1 2*3/(4+5) = 2/3
    #         b             2 2 0    recall 2/4   precision 2/4   F1 2*2/(4+4) = 1/2
    #         c             0 1 1    recall 1/2   precision 1/1   F1 2*1/(2+1) = 2/3
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    predicted = np.array([0, 0, 0, 1, 0, 0, 1, 1, 1, 2])
    result = classification_metrics(truth, predicted, ["a", "b", "c"])
    assert result["confusion"] == [[3, 1, 0], [2, 2, 0], [0, 1, 1]]
    assert result["recall"] == {"a": 0.75, "b": 0.5, "c": 0.5}
    assert result["precision"] == {"a": 0.6, "b": 0.5, "c": 1.0}
    assert result["f1"] == pytest.approx({"a": 2 / 3, "b": 1 / 2, "c": 2 / 3})
    assert result["support"] == {"a": 4, "b": 4, "c": 2}
    assert (result["war"], result["count"]) == (0.6, 10)
    assert result["uar"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert result["weighted_f1"] == pytest.approx((4 * 2 / 3 + 4 * 1 / 2 + 2 * 2 / 3) / 10)
    assert json.loads(json.dumps(result)) == result


def test_against_two_other_libraries() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    ours = classification_metrics(truth, predicted, CLASSES)
    assert ours["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert ours["war"] == pytest.approx(accuracy_score(truth, predicted))
    t, p = torch.from_numpy(truth), torch.from_numpy(predicted)
    assert ours["confusion"] == MulticlassConfusionMatrix(7)(p, t).tolist()
    parts = {"recall": MulticlassRecall, "precision": MulticlassPrecision, "f1": MulticlassF1Score}
    for name, metric in parts.items():
        np.testing.assert_allclose([ours[name][one] for one in CLASSES], metric(7, average=None)(p, t), rtol=1e-6)
    for average in ("macro", "weighted"):
        assert ours[f"{average}_f1"] == pytest.approx(f1_score(truth, predicted, average=average))
        assert ours[f"{average}_f1"] == pytest.approx(MulticlassF1Score(7, average=average)(p, t).item(), rel=1e-6)


def test_macro_f1_of_pooled_folds_is_uf1_and_not_the_mean_of_the_folds() -> None:
    # MEGC: UF1 = mean over classes of 2TP / (2TP + FP + FN), counted over all held-out subjects together.
    #   fold 1: truth a a b, predicted a b b       fold 2: truth a b b, predicted a a a
    #   pooled a: TP 2, FP 2, FN 1 -> 4/7          pooled b: TP 1, FP 1, FN 2 -> 2/5
    folds = [(np.array([0, 0, 1]), np.array([0, 1, 1])), (np.array([0, 1, 1]), np.array([0, 0, 0]))]
    truth, predicted = (np.concatenate(column) for column in zip(*folds, strict=True))
    pooled = classification_metrics(truth, predicted, ["a", "b"])["macro_f1"]
    assert pooled == pytest.approx((4 / 7 + 2 / 5) / 2)
    # By fold, a: 2/3 and 1/2; b: 2/3 and 0.
    apart = np.mean([classification_metrics(*fold, ["a", "b"])["macro_f1"] for fold in folds])
    assert apart == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_a_missing_prediction_is_wrong() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, -1, 1, -1])
    result = classification_metrics(truth, predicted, ["a", "b"])
    assert (result["uar"], result["war"], result["count"]) == (0.5, 0.5, 4)
    assert result["confusion"] == [[1, 0], [0, 1]]
    assert result["precision"] == {"a": 1.0, "b": 1.0}  # what it said was right
    assert result["macro_f1"] == pytest.approx(2 * 1 / (2 * 1 + 0 + 1))  # what it did not say is missing: FN
    silent = classification_metrics(truth, np.full(4, -1), ["a", "b"])
    assert (silent["uar"], silent["macro_f1"], silent["weighted_f1"]) == (0.0, 0.0, 0.0)
    assert silent["confusion"] == [[0, 0], [0, 0]]


def test_a_class_that_does_not_occur_has_no_recall() -> None:
    result = classification_metrics(np.array([0, 0]), np.array([0, 2]), ["a", "b", "c"])
    assert result["recall"] == {"a": 0.5, "b": None, "c": None}
    assert result["uar"] == 0.5
    # "b" neither occurs nor is predicted: undefined. "c" is predicted and does not occur: all of that is wrong.
    assert result["precision"] == {"a": 1.0, "b": None, "c": 0.0}
    assert result["f1"] == pytest.approx({"a": 2 / 3, "b": None, "c": 0.0})
    # The mean is over "a" alone, as UAR is; scikit-learn takes "c" in unless it is told which classes count.
    assert result["macro_f1"] == pytest.approx(2 / 3)
    assert f1_score([0, 0], [0, 2], average="macro") == pytest.approx(1 / 3)
    assert result["macro_f1"] == pytest.approx(f1_score([0, 0], [0, 2], average="macro", labels=[0]))


def test_a_class_that_is_never_predicted_has_precision_0() -> None:
    result = classification_metrics(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    assert result["precision"] == {"a": 0.5, "b": 0.0}
    assert result["f1"] == pytest.approx({"a": 2 / 3, "b": 0.0})
    assert result["macro_f1"] == pytest.approx(1 / 3)


def test_one_class_only() -> None:
    result = classification_metrics(np.zeros(3, int), np.zeros(3, int), CLASSES)
    assert (result["uar"], result["war"], result["macro_f1"], result["weighted_f1"]) == (1.0, 1.0, 1.0, 1.0)
    assert [result["recall"][name] for name in CLASSES[1:]] == [None] * 6


@settings(deadline=None)
@given(labelled, st.randoms(use_true_random=False))
def test_neither_the_order_of_clips_nor_that_of_classes_matters(rows: list[tuple[int, int]], random: object) -> None:
    truth, predicted = np.array(rows).T
    names = ["a", "b", "c", "d"]
    result = classification_metrics(truth, predicted, names)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert classification_metrics(*np.array(shuffled).T, names) == result
    renamed = np.array([2, 0, 3, 1, -1])  # the last one maps -1 to itself
    other = classification_metrics(renamed[truth], renamed[predicted], ["b", "d", "a", "c"])
    for name in ("uar", "war", "macro_f1", "weighted_f1"):
        assert other[name] == pytest.approx(result[name])
    for name in ("precision", "recall", "f1", "support"):
        assert other[name] == result[name]


@settings(deadline=None)
@given(labelled)
def test_war_is_the_mean_recall_weighted_by_support(rows: list[tuple[int, int]]) -> None:
    result = classification_metrics(*np.array(rows).T, ["a", "b", "c", "d"])
    right = sum(result["recall"][name] * count for name, count in result["support"].items() if count)
    assert result["war"] == pytest.approx(right / result["count"])
    assert sum(result["support"].values()) == result["count"]


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no labelled"):
        classification_metrics(np.array([]), np.array([]), CLASSES)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 7], [0, 0]), ([-1, 0], [0, 0]), ([0, 1], [0, 7]), ([0], [-2])])
def test_an_index_that_is_no_class_is_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to 6"):
        classification_metrics(np.array(truth), np.array(predicted), CLASSES)
    with pytest.raises(ValueError, match="2 labels but 1 predictions"):
        classification_metrics(np.array([0, 1]), np.array([0]), CLASSES)


def test_cross_entropy_is_scikit_learn_s_and_clipped_as_in_keras() -> None:
    rng = np.random.default_rng(0)
    shares, truth = rng.dirichlet(np.ones(7), 50), rng.integers(0, 7, 50)
    assert cross_entropy(shares, truth) == pytest.approx(log_loss(truth, shares, labels=range(7)))
    sure = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    assert cross_entropy(sure, np.array([0, 0, 1])) == pytest.approx(-np.log(1e-7) / 3)
    with pytest.raises(ValueError, match="no labelled clip"):
        cross_entropy(np.zeros((0, 7)), np.zeros(0, int))
