"""What a finished trial of a cross-validation leaves, without training; for tests of what comes after."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.training.crossval_plan import trial_folder
from ray_fer.training.trial import Trial


def answers(trial: Trial, every: int = 5) -> Predictions:
    """Answers to the test clips of a trial: every so manieth is wrong, the others are right."""
    classes, labels = trial.clips.classes, trial.test.column("label")
    truth = np.array([classes.index(label) for label in labels])
    said = np.where(np.arange(len(truth)) % every == 0, (truth + 1) % len(classes), truth)
    clips = trial.test.table.select(list(COLUMNS)).combine_chunks()
    features = np.random.default_rng(len(truth)).normal(size=(len(truth), 4)).astype(np.float32)
    return Predictions("m", classes, clips, np.eye(len(classes), dtype=np.float32)[said], features)


def finish(trial: Trial, output: Path, every: int = 5, bundle: str | None = None) -> None:
    """Leave predictions and record of a trial in a cross-validation's folder."""
    folder, found = trial_folder(output, trial), answers(trial, every)
    found.write(folder / "predictions.parquet")
    about = {
        "trial": trial.name, "described": trial.described(), "clips": {}, "training": {}, "ended": "finished",
        "seconds": 1.0, "bundle": bundle, "test": classification_metrics(found.truth, found.predicted, found.classes),
    }  # fmt: skip
    (folder / "trial.json").write_text(json.dumps(about))
