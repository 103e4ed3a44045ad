"""Figures of a whole cross-validation, from the records and predictions of its trials.

Two kinds of figures are reported, and they differ: the mean over folds (with the standard deviation of the folds), and
the figure of the pooled predictions of all folds, where every clip counts once. Macro F1 of the pooled predictions is
UF1, the figure of the micro-expression challenges; where a fold is one subject, only pooled figures mean much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ray_fer.evaluation.intervals import FIGURES, confidence_intervals
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import Predictions

Record = dict[str, Any]


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean and standard deviation (ddof 1; None of fewer than two) of some figures, and how many they are."""
    return {
        "mean": float(np.mean(values)) if len(values) else None,
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "count": len(values),
    }


def spreads(figures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | int | None]]:
    """`spread` of each of `FIGURES`."""
    return {name: spread([one[name] for one in figures]) for name in FIGURES}


def pooled_figures(pooled: Predictions) -> dict[str, Any]:
    """`classification_metrics` of the pooled predictions of one seed, with `intervals` of `FIGURES`.

    Where all subjects are known, they are drawn as a whole (`unit`): their clips are not independent.
    """
    subjects = pooled.column("subject_id")
    keys = set(zip(pooled.column("dataset"), subjects, strict=True))
    unit = "subject" if all(one is not None for one in subjects) and len(keys) > 1 else "clip"
    intervals = confidence_intervals(pooled, unit)
    metrics = classification_metrics(pooled.truth, pooled.predicted, pooled.classes)
    return metrics | {"unit": unit, "intervals": {name: asdict(one) for name, one in intervals.items()}}


def summarised(records: Sequence[Record], pooled: Mapping[int, Predictions], planned: Mapping[int, int]) -> Record:
    """The figures of `summary.json`.

    `records` are those of the finished trials, `pooled` the predictions of all finished folds by seed, `planned` the
    number of folds by seed. Returns

    * `seeds`: for each seed, `pooled` (see `pooled_figures`), `folds` (mean and standard deviation over its folds) and
      whether it is `complete`
    * `folds`: for each fold, the figures over its seeds
    * `over_seeds`: of complete seeds, the figures of `pooled`, and of `folds`' means, over seeds
    * `trials`: the figures of each trial
    """
    seeds: dict[str, Record] = {}
    for seed, count in planned.items():
        mine = [one["test"] for one in records if one["described"]["seed"] == seed]
        if mine:
            seeds[str(seed)] = {
                "complete": len(mine) == count,
                "pooled": pooled_figures(pooled[seed]),
                "folds": spreads(mine),
            }
    complete = [one for one in seeds.values() if one["complete"]]
    names = dict.fromkeys(one["described"]["fold"] for one in records)
    return {
        "seeds": seeds,
        "folds": {
            name: spreads([one["test"] for one in records if one["described"]["fold"] == name]) for name in names
        },
        "over_seeds": {
            "pooled": spreads([one["pooled"] for one in complete]),
            "folds": spreads([{name: one["folds"][name]["mean"] for name in FIGURES} for one in complete]),
        },
        "trials": [
            {
                "trial": one["trial"], "fold": one["described"]["fold"], "seed": one["described"]["seed"],
                "clips": one["clips"], **one["test"], "training": one["training"], "ended": one["ended"],
                "seconds": one["seconds"], "bundle": one["bundle"],
            }
            for one in records
        ],
    }  # fmt: skip
