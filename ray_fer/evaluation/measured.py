"""The figures that published tables print, of what a system answered over folds and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_fer.evaluation.groups import group_report
from ray_fer.evaluation.metrics import classification_metrics, cross_entropy
from ray_fer.evaluation.predictions import Predictions, joined

MEASURES = {
    "uar": "UAR", "war": "WAR", "macro_f1": "macro F1", "weighted_f1": "weighted F1", "f1": "F1", "recall": "recall",
    "precision": "precision", "loss": "cross-entropy", "std": "SD of WAR over cultures", "count": "clips",
}  # fmt: skip
"""The measures of published tables that there is a figure for here, with their names."""
_BY_FOLD = ("uar", "war", "macro_f1")
_OF_CLIPS = (*_BY_FOLD, "weighted_f1", "loss", "count")
_OF_CLASS = {"recall": "recall", "precision": "precision", "f1": "f1", "count": "support"}

Figure = tuple[float | None, float | None]
"""(value, standard deviation); None is what there is nothing to say of."""


@dataclass(frozen=True)
class Measured:
    """What a system answered: by seed, (fold, its test clips) for each fold."""

    seeds: Mapping[int, Sequence[tuple[str, Predictions]]]
    split: str
    """The protocol, as published tables call it."""
    selection: str = "validation"
    """On what its epochs were chosen; it starts with "test" where that is what is reported."""

    @property
    def on_test_fold(self) -> bool:
        """Whether epochs were chosen on what is reported."""
        return self.selection.startswith("test")

    @property
    def several_folds(self) -> bool:
        """Whether there is more than one."""
        return any(len(folds) > 1 for folds in self.seeds.values())

    def figure(self, measure: str, of: str | None = None) -> Figure:
        """One of `MEASURES` for all clips, or for those `of` one class or culture; shares are from 0 to 1, the loss
        is in nats.

        UAR, WAR and macro F1 of all clips are means over folds with their standard deviation (n-1), except under loso,
        where a subject may lack a class; all else is of the pooled answers of all folds. Of several seeds it is the
        mean of their figures, with the deviation over seeds.
        """
        found = [self._of_seed([one for _, one in folds], measure, of) for folds in self.seeds.values()]
        values = [value for value, _ in found if value is not None]
        if not values or len(values) < len(found):
            return None, None
        if len(values) == 1 or measure == "count":
            return found[0]
        return statistics.fmean(values), statistics.stdev(values)

    def by_fold(self, measure: str) -> dict[tuple[int, str], float]:
        """UAR, WAR or macro F1, from 0 to 1, of each (seed, fold)."""
        return {
            (seed, name): float(_metrics(one)[measure]) for seed, folds in self.seeds.items() for name, one in folds
        }

    def classes(self) -> list[str]:
        """Of the model, in its order."""
        return self._any().classes

    def cultures(self) -> list[str]:
        """Of the clips, sorted; unknown ones are none."""
        folds = next(iter(self.seeds.values()))
        return sorted({str(name) for _, one in folds for name in one.column("culture") if name})

    def _any(self) -> Predictions:
        return next(iter(self.seeds.values()))[0][1]

    def _of_seed(self, folds: Sequence[Predictions], measure: str, of: str | None) -> Figure:
        if of is None and measure in _BY_FOLD and len(folds) > 1 and self.split != "loso":
            values = [_metrics(fold)[measure] for fold in folds]
            return statistics.fmean(values), statistics.stdev(values)
        pooled = joined(folds)
        if of is None and measure == "std":
            return group_report(pooled, minimum=1).fairness.war_std, None
        if of in pooled.classes:
            return _metrics(pooled)[_OF_CLASS[measure]][of] if measure in _OF_CLASS else None, None
        mine = pooled if of is None else pooled.select([name == of for name in pooled.column("culture")])
        if measure not in _OF_CLIPS or not len(mine):
            return None, None
        if measure == "loss":
            return cross_entropy(mine.probabilities, mine.truth), None
        return _metrics(mine)[measure], None


def _metrics(predictions: Predictions) -> dict[str, Any]:
    return classification_metrics(predictions.truth, predictions.predicted, predictions.classes)
