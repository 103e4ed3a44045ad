"""Classification metrics of the field.

Names: WAR (weighted average recall) is the accuracy, UAR (unweighted average recall) the balanced accuracy, and UF1,
the figure of the micro-expression challenges (MEGC), the macro F1 of the pooled predictions of all folds:
`classification_metrics` on `predictions.joined(folds)` gives it as `macro_f1`. It is not the mean of the folds' F1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

_LEAST_PROBABILITY = 1e-7


def classification_metrics(truth: np.ndarray, predicted: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Figures of integer labels [N], all of them shares from 0 to 1; ready for JSON.

    A prediction of -1 means that there is none: it counts as wrong and stands in no column of the matrix.

    * `uar`: mean recall over the classes that occur in `truth`; `war`: overall accuracy; `count`: N.
    * `macro_f1`: mean F1 over the classes that occur in `truth`, F1 = 2TP / (2TP + FP + FN). On the pooled predictions
      of all folds this is UF1.
    * `weighted_f1`: F1 weighted by support (EiLA paper, equation 5).
    * `precision`, `recall`, `f1`, `support` by class name. Recall is None for a class that does not occur. Precision
      and F1 are None for a class that neither occurs nor is ever predicted; they are 0, as everywhere in the field,
      for one that occurs and is never predicted (0/0) and for one that is predicted and does not occur.
    * `confusion`: rows are the truth, columns the predictions, clips.

    scikit-learn's macro F1 differs where a class is predicted that does not occur: it takes that class into the mean
    unless `labels` says otherwise. Raises ValueError when there is nothing to score, or for an index that is no class.
    """
    check_labels(truth, predicted, len(classes))
    labels = list(range(len(classes)))
    matrix = confusion_matrix(truth, predicted, labels=labels)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    occurs = support > 0
    defined = occurs | (matrix.sum(axis=0) > 0)
    return {
        "uar": float(recall[occurs].mean()),
        "war": float(np.trace(matrix) / len(truth)),
        "macro_f1": float(f1[occurs].mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "count": len(truth),
        "precision": _by_class(classes, precision, defined),
        "recall": _by_class(classes, recall, occurs),
        "f1": _by_class(classes, f1, defined),
        "support": {name: int(value) for name, value in zip(classes, support, strict=True)},
        "confusion": matrix.tolist(),
    }


def cross_entropy(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -ln of what the true classes got, in nats: probabilities [N,C] and class indices [N] (EiLA, Table 5).

    Probabilities below 1e-7 count as that, as in Keras. Raises ValueError when there is nothing to score.
    """
    check_labels(truth, truth, probabilities.shape[1])
    true = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(true, _LEAST_PROBABILITY, 1)).mean())


def check_labels(truth: np.ndarray, predicted: np.ndarray, classes: int) -> None:
    """Raise ValueError unless both are class indices of the same N > 0 clips; `predicted` may be -1."""
    if len(truth) == 0:
        raise ValueError("no labelled clip or window to score")
    if len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} labels but {len(predicted)} predictions")
    if truth.min() < 0 or max(truth.max(), predicted.max()) >= classes or predicted.min() < -1:
        raise ValueError(f"labels are class indices from 0 to {classes - 1}, predictions these or -1 for none")


def _by_class(classes: list[str], values: np.ndarray, defined: np.ndarray) -> dict[str, float | None]:
    return {
        name: float(value) if known else None for name, value, known in zip(classes, values, defined, strict=True)
    }  # fmt: skip
