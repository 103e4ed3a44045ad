"""Does a model that says 70 % get 70 % right? Calibration errors and the bins of a reliability diagram.

Guo et al., On Calibration of Modern Neural Networks (2017), equations 3 and 5: the confidence is the probability of
the predicted class ("top label"); clips are put into bins of equal width, and the mean confidence of each bin is held
against its accuracy. The bins are (low, high], as there; torchmetrics has [low, high) and puts a confidence of exactly
1 into a bin of its own, so the two differ for models so sure that float32 rounds them to 1.

ECE of few clips is biased upwards: by chance alone, even a perfectly calibrated model's accuracies are off its
confidences, by up to 0.4 sqrt(bins / clips) in all. Compare models on the same clips and bins. Brier score and NLL
have no bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_fer.evaluation.metrics import check_labels

BINS = 15
SMALLEST = float(np.finfo(np.float32).eps)
"""What NLL takes for a probability that float32 rounded to 0; one such clip costs 15.9."""


@dataclass(frozen=True)
class ReliabilityBin:
    """The clips whose confidence is above `low` and at most `high`; without clips the means are None."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean probability of the predicted class."""
    accuracy: float | None
    """Share of clips that are right."""

    @property
    def gap(self) -> float:
        """|accuracy - confidence|; 0 without clips."""
        return 0.0 if self.accuracy is None or self.confidence is None else abs(self.accuracy - self.confidence)


@dataclass(frozen=True)
class Calibration:
    """Errors of the probabilities of one model; all are 0 for one that is right and sure of it."""

    count: int
    ece: float
    """Expected calibration error, 0 to 1: mean |accuracy - confidence| over the clips' bins."""
    mce: float
    """Maximum calibration error: the largest |accuracy - confidence| of a bin that has clips, be it one."""
    brier: float
    """Mean over clips of the squared errors of all class probabilities, 0 to 2."""
    nll: float
    """Mean negative log likelihood in nats, the cross-entropy; EiLA's "Loss" (equation 3)."""
    bins: list[ReliabilityBin]
    """All bins from 0 to 1, empty ones too."""


def calibration(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Calibration:
    """Calibration of class probabilities [N,C] against class indices [N].

    Raises ValueError when there is no clip, when the two do not belong together, and for rows that are no
    distributions, as logits are.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(truth):
        raise ValueError(f"{len(truth)} labels and probabilities {probabilities.shape}; expected [clips, classes]")
    if bins < 1:
        raise ValueError(f"{bins} bins; the usual number is {BINS}")
    rows = probabilities.astype(np.float64)
    check_labels(truth, truth, rows.shape[1])
    if not (rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=1e-3)):  # NaN fails the first
        raise ValueError("rows do not add up to 1, or are negative or NaN; take the softmax of logits first")
    right = rows.argmax(axis=1) == truth
    own = rows[np.arange(len(truth)), truth]
    table = reliability_bins(np.minimum(rows.max(axis=1), 1.0), right, bins)
    return Calibration(
        count=len(truth),
        ece=sum(one.gap * one.count for one in table) / len(truth),
        mce=max(one.gap for one in table),
        brier=float(((rows**2).sum(axis=1) - 2 * own + 1).mean()),
        nll=float(-np.log(np.maximum(own, SMALLEST)).mean()),
        bins=table,
    )


def reliability_bins(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[ReliabilityBin]:
    """Bins of equal width from 0 to 1: the confidence [N] of each clip's prediction, and whether it is right [N]."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    table = []
    for number in range(bins):
        own = place == number
        count = int(own.sum())
        table.append(
            ReliabilityBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                count=count,
                confidence=float(confidence[own].mean()) if count else None,
                accuracy=float(right[own].mean()) if count else None,
            )
        )
    return table
