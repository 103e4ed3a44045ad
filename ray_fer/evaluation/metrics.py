"""Classification metrics of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix


def classification_metrics(truth: np.ndarray, predicted: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """UAR, WAR, recall per class and confusion matrix from integer labels [N].

    UAR is the mean recall over the classes that occur in `truth` (scikit-learn's balanced accuracy), WAR the overall
    accuracy. A prediction of -1 means that there is none: it counts as wrong and stands in no column of the matrix.
    A class that does not occur has recall None. Raises ValueError when there is nothing to score.
    """
    if len(truth) == 0:
        raise ValueError("no labelled clip or window to score")
    answered = predicted >= 0
    labels = list(range(len(classes)))
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    if answered.any():
        matrix = confusion_matrix(truth[answered], predicted[answered], labels=labels)
    support = np.bincount(truth, minlength=len(classes))
    recall = {name: float(matrix[i, i] / support[i]) if support[i] else None for i, name in enumerate(classes)}
    return {
        "uar": float(np.mean([value for value in recall.values() if value is not None])),
        "war": float(np.trace(matrix) / len(truth)),
        "count": len(truth),
        "recall": recall,
        "confusion": matrix.tolist(),
    }
