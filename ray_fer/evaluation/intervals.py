"""How sure is a figure? Confidence intervals of UAR, WAR and macro F1.

Percentile bootstrap (Efron and Tibshirani 1993, chapter 13): the test clips are drawn again, with replacement, many
times; the middle 95 % of the figures of the draws is the interval. What to know of it:

* Clips are drawn from the whole test set, **not within each class**. The classes of a test set of wild clips came as
  the clips came; holding their shares fixed would leave that part of the variance out of WAR and macro F1, which
  depend on the shares. A class can then be missing from a draw (one of 3 clips in 5 % of draws, one of 10 in 0.005 %);
  UAR and macro F1 of a draw are means over the classes that occur in it, as they are for the test set.
* Clips of one person are not independent: the interval of `unit="clip"` is then too narrow. `unit="subject"` draws
  whole persons with all their clips (cluster bootstrap). Below some 20 persons that, too, is too narrow.
* It knows no error that was not seen: where every clip is right the interval is a point. Wilson's interval of WAR
  (1927), for independent clips, is right there too.
* It is about other clips for this trained model; how much another seed of training changes is not in it.

Drawing N clips with replacement is drawing the number of times that each *kind* of clip (its label and its answers)
comes up, which is multinomial: R draws cost R times the number of kinds (some tens), not R times N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from ray_fer.evaluation.metrics import check_labels
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import index_of

FIGURES = ("uar", "war", "macro_f1")
UNITS = ("clip", "subject")
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval: the truth lies from `low` to `high` in a share `level` of experiments."""

    value: float
    low: float
    high: float
    level: float


def confidence_intervals(
    predictions: Predictions, unit: str = "clip", resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Bootstrap intervals of `FIGURES`, by name. `unit` is what is drawn: "clip" or "subject".

    Raises ValueError for an unknown unit, no clips, clips without a subject, or fewer than two subjects.
    """
    clusters = bootstrap_clusters(predictions, unit)
    return bootstrap_intervals(
        predictions.truth, predictions.predicted, len(predictions.classes), clusters, resamples, level, seed
    )  # fmt: skip


def bootstrap_intervals(
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    clusters: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Bootstrap intervals of `FIGURES`, by name, from class indices [N]; a prediction of -1 is none.

    `clusters` [N] names what is drawn as a whole; without it that is the clip. The order of the clips does not matter:
    the same seed gives the same interval.
    """
    draws = resampled_counts(truth, [predicted], classes, clusters, resamples, seed)[0]
    values, samples = figures(answer_counts(truth, predicted, classes)), figures(draws)
    return {name: percentile_interval(float(values[name]), samples[name], level) for name in FIGURES}


def wilson_interval(correct: int, count: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of WAR: `correct` of `count` independent clips. Raises ValueError without clips."""
    if not 0 <= correct <= count or count == 0:
        raise ValueError(f"{correct} correct of {count} clips is no share; count the clips that have a label")
    _check_level(level)
    low, high = proportion_confint(correct, count, alpha=1 - level, method="wilson")
    value = correct / count
    # Rounding can leave a bound that is exactly the figure, as of 0 or all correct, on the wrong side of it.
    return Interval(value, min(float(low), value), max(float(high), value), level)


def bootstrap_clusters(predictions: Predictions, unit: str) -> np.ndarray | None:
    """Number of each clip's subject [N] for `unit` "subject", None for "clip". Subjects are told apart by dataset too:
    "s01" of two datasets is two persons.
    """
    index_of(unit, UNITS, "unit of the bootstrap")
    if unit == "clip":
        return None
    subjects = predictions.column("subject_id")
    if any(subject is None for subject in subjects):
        raise ValueError("not every clip has a subject_id; draw clips instead, knowing that they are not independent")
    keys = list(zip(predictions.column("dataset"), subjects, strict=True))
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], np.int64)


def resampled_counts(
    truth: np.ndarray,
    answers: Sequence[np.ndarray],
    classes: int,
    clusters: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """`answer_counts` of bootstrap draws, float64 [A,R,C,C+1], of A models that answered the same clips.

    All models see the same draws, so their differences are paired. Raises ValueError for labels that do not belong
    together, fewer than two clusters, or no resamples.
    """
    for predicted in answers:
        check_labels(truth, predicted, classes)
    if resamples < 1:
        raise ValueError(f"{resamples} resamples; use {RESAMPLES}")
    rng = np.random.default_rng(seed)
    kinds, kind = np.unique(np.column_stack([truth, *answers]), axis=0, return_inverse=True)
    kind = kind.reshape(-1)  # numpy 2.0.0 gives it as a column
    if clusters is None:
        drawn = rng.multinomial(len(truth), np.bincount(kind) / len(truth), size=resamples).astype(np.float64)
    else:
        cluster = np.unique(clusters, return_inverse=True)[1]
        held = np.zeros((int(cluster.max()) + 1, len(kinds)))
        if len(held) < 2:
            raise ValueError("all clips are of one subject: nothing can be said of others; draw clips instead")
        np.add.at(held, (cluster, kind), 1)
        drawn = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=resamples) @ held
    cells = [np.eye(classes * (classes + 1))[_cell(kinds[:, 0], column, classes)] for column in kinds.T[1:]]
    return np.stack([(drawn @ one).reshape(resamples, classes, classes + 1) for one in cells])


def answer_counts(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Clips [C,C+1] by label and answer: the confusion matrix, and a last column of those that got no answer (-1)."""
    check_labels(truth, predicted, classes)
    counts = np.bincount(_cell(truth, predicted, classes), minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def figures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """`FIGURES` of each of the `answer_counts` [...,C,C+1], each figure [...]; as `classification_metrics` defines."""
    support = counts.sum(axis=-1)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    given = counts[..., :-1].sum(axis=-2)
    occurring = (support > 0).sum(axis=-1)
    recall = right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + given, 1)  # 0 where the class does not occur: nothing is right there
    return {
        "uar": recall.sum(axis=-1) / occurring,
        "war": right.sum(axis=-1) / support.sum(axis=-1),
        "macro_f1": f1.sum(axis=-1) / occurring,
    }


def percentile_interval(value: float, samples: np.ndarray, level: float = LEVEL) -> Interval:
    """The middle `level` of `samples` [R], beside the figure itself. Raises ValueError for a level that is no share."""
    _check_level(level)
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a level of confidence of {level} is not between 0 and 1; the usual one is {LEVEL}")


def _cell(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    return truth * (classes + 1) + np.where(predicted < 0, classes, predicted)
