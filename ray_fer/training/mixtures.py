"""The multi-dataset study: a model for each mixture of datasets, all tested on one of them (EiLA, Tables 3, 5 and 6).

One clip store holds all datasets: a mixture is a choice of its clips, so nothing is preprocessed twice. Each mixture
with each seed is a trial (see `trial`) in OUTPUT/trials, side by side on the cluster; what is finished is not done
again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.datasets.mixture import mix
from ray_fer.evaluation.evaluated import LAST, VALIDATION
from ray_fer.evaluation.groups import spread
from ray_fer.evaluation.metrics import classification_metrics, cross_entropy
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.bundles import model_arguments
from ray_fer.training.crossval import Watch, run_trials
from ray_fer.training.crossval_plan import trial_folder
from ray_fer.training.data import Reading, check_clips
from ray_fer.training.fit import TrainingClips, check_model
from ray_fer.training.parts import classes_of, cultures_of
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.trial import Trial, TrialKeeping, finished, trial_predictions

TARGET, BASES, FRACTIONS = "eila", ("sfew", "fer2013"), (0.1, 0.3, 0.5, 1.0)
_TITLES = {"eila": "EiLA", "sfew": "SFEW", "fer2013": "FER2013"}


@dataclass(frozen=True)
class Mixture:
    """All of `base` and a `fraction` of the training and validation clips of the dataset that is tested.

    Without a base it is that dataset alone.
    """

    base: str | None
    fraction: float

    def name(self, target: str) -> str:
        """The row of Tables 3, 5 and 6."""
        if self.base is None:
            return f"{_title(target)} only"
        if not self.fraction:
            return f"{_title(self.base)} only"
        return f"{_title(self.base)} + {self.fraction:.0%} {_title(target)}"

    def slug(self, target: str) -> str:
        """Its name as a part of a folder's: "SFEW-30-EiLA"."""
        return re.sub(r"[^\w]+", "-", self.name(target).replace("%", "")).strip("-")


@dataclass(frozen=True)
class SweepOptions:
    """Which clips, what is tested, and where the outcome goes."""

    store: str
    output: Path
    recipe: str = "multidataset"
    settings: tuple[str, ...] = ()
    target: str = TARGET
    """The dataset whose split "test" is tested."""
    bases: tuple[str, ...] = ()
    """Datasets that are mixed with it; all others in the store when empty."""
    fractions: tuple[float, ...] = FRACTIONS
    seeds: tuple[int, ...] = ()
    """The recipe's when empty. A seed draws the clips of a mixture, too."""
    parallel: int | None = None
    keeping: TrialKeeping = field(default_factory=TrialKeeping)


def mixtures(datasets: Sequence[str], options: SweepOptions) -> list[Mixture]:
    """What is trained, in Table 3's order of a dataset alone and then its mixtures.

    Raises ValueError for datasets that the store does not hold, or fractions that are not in (0, 1].
    """
    known = [name for name in BASES if name in datasets]
    others = [*known, *(name for name in sorted(set(datasets)) if name not in (*known, options.target))]
    bases = options.bases or tuple(others)
    _check_datasets((options.target, *bases), datasets, options.store)
    if any(not 0 < one <= 1 for one in options.fractions):
        raise ValueError(f"fractions {options.fractions} must be above 0, and 1 at most")
    found = [Mixture(None, 1.0)]
    for base in bases:
        found += [Mixture(base, fraction) for fraction in (0.0, *options.fractions)]
    return found


def mixed_clips(index: ClipIndex, mixture: Mixture, target: str, seed: int) -> tuple[TrainingClips, ClipIndex]:
    """(training and validation clips, test clips) of a mixture.

    Raises ValueError as `mix` does, for a dataset that the store does not hold, or a split without clips.
    """
    _check_datasets([target, *([mixture.base] if mixture.base else [])], index.column("dataset"), index.store)
    rows = index.table.to_pylist()
    base = [row for row in rows if row["dataset"] == mixture.base]
    extra = [row for row in rows if row["dataset"] == target]
    places = {row["clip_id"]: place for place, row in enumerate(rows)}
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for row in mix(base, extra, mixture.fraction, seed):
        parts[row["split"]].append(places[row["clip_id"]])
    for name, chosen in parts.items():
        if not chosen:
            raise ValueError(f'{index.store}: {mixture.name(target)} has no clip in split "{name}"')
    train, val, test = (index.where(np.sort(np.array(chosen))) for chosen in parts.values())
    return TrainingClips(train, val, classes_of(index), cultures_of(index)), test


def plan_mixture(index: ClipIndex, mixture: Mixture, target: str, recipe: Recipe, seeds: Sequence[int]) -> list[Trial]:
    """Its trials, one for each seed (the recipe's when there is none), with clips that can be trained and tested on.

    Raises ValueError as `mixed_clips` and `check_clips` do.
    """
    selection = LAST if recipe.select == "last" else VALIDATION
    trials = []
    for seed in seeds or (recipe.seed,):
        clips, test = mixed_clips(index, mixture, target, seed)
        for part in (clips.train, clips.val, test):
            check_clips(part, Reading.of(recipe, clips.classes, clips.cultures))
        seeded = recipe.model_copy(update={"seed": seed})
        trials.append(Trial(mixture.slug(target), seeded, clips, test, None, selection))
    return trials


def plan_sweep(options: SweepOptions) -> list[tuple[Mixture, Trial]]:
    """All trials, after all that can be checked without training has been. ValueError, FileNotFoundError."""
    recipe = overridden(recipe_named(options.recipe), options.settings)
    index = read_index(options.store)
    planned = [
        (mixture, trial)
        for mixture in mixtures(index.column("dataset"), options)
        for trial in plan_mixture(index, mixture, options.target, recipe, options.seeds)
    ]
    check_model(recipe, model_arguments(recipe, planned[0][1].clips, None), index)
    return planned


def sweep(
    options: SweepOptions, watch: Watch = lambda _: None, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], dict[str, str]]:
    """Train and test what is left on the current Ray; returns the figures by row, and the trials that failed, with why.

    Raises ValueError, FileNotFoundError or FileExistsError before a trial is started.
    """
    planned = plan_sweep(options)
    trials = [trial for _, trial in planned]
    folders = [trial_folder(options.output, trial) for trial in trials]
    failed = run_trials(trials, folders, options.parallel, options.keeping, watch, say)
    rows: dict[str, list[dict[str, Any]]] = {}
    for (mixture, trial), folder in zip(planned, folders, strict=True):
        row = rows.setdefault(mixture.name(options.target), [])
        if finished(trial, folder) is not None:
            sizes = {"train": len(trial.clips.train), "val": len(trial.clips.val), "test": len(trial.test)}
            row.append({"seed": trial.recipe.seed, "clips": sizes, **answered(trial_predictions(folder))})
    return {"target": _title(options.target), "recipe": described(planned[0][1].recipe), "rows": rows}, failed


def answered(answers: Predictions) -> dict[str, Any]:
    """The columns of Tables 5 and 6: weighted F1, accuracy and cross-entropy; accuracy by group, and its deviation.

    The deviation of the groups' accuracies divides by their number less one, as in Table 6; None of one group.
    """
    metrics = classification_metrics(answers.truth, answers.predicted, answers.classes)
    right = answers.predicted == answers.truth
    owners = np.array([one or UNKNOWN_CULTURE for one in answers.column("culture")])
    groups = {str(name): float(right[owners == name].mean()) for name in np.unique(owners) if name != UNKNOWN_CULTURE}
    return {
        "weighted_f1": metrics["weighted_f1"], "accuracy": metrics["war"], "uar": metrics["uar"],
        "loss": cross_entropy(answers.probabilities, answers.truth), "groups": groups,
        "counts": {name: int((owners == name).sum()) for name in groups},
        "std": spread(groups).std if len(groups) > 1 else None,
    }  # fmt: skip


def _title(dataset: str) -> str:
    return _TITLES.get(dataset, dataset)


def _check_datasets(names: Sequence[str], datasets: Sequence[str], store: str) -> None:
    for name in names:
        if name not in datasets:
            raise ValueError(f"{store} holds no clip of {name}; its datasets are {', '.join(sorted(set(datasets)))}")


def described(recipe: Recipe) -> dict[str, Any]:
    """How it trains, as reports tell it: name, epochs of each phase, and the weights that it starts from."""
    first = recipe.first
    return {
        "name": recipe.name, "epochs": [*([first.epochs] if first else []), recipe.epochs],
        "weights": recipe.weight_files,
    }  # fmt: skip
