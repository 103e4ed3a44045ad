"""What a cross-validation will do: its options, and all of its trials, checked before anything is started.

With `only` some folds, OUTPUT/trials is shared with the whole cross-validation, so nothing is trained twice; summary
and seeds have names of their own, so that nothing of the whole is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ray_fer.action_units.profiles import read_priors
from ray_fer.evaluation.evaluated import LAST, TEST_FOLD, VALIDATION
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.bundles import model_arguments
from ray_fer.training.data import Reading, check_clips
from ray_fer.training.fit import TrainingClips, check_model
from ray_fer.training.fold_priors import AuStats
from ray_fer.training.parts import Fold, chosen, classes_of, cultures_of, folds, held_out, protocol_name
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.trial import Trial, TrialKeeping, finished

TRIALS, PREDICTIONS = "trials", "predictions.parquet"


@dataclass(frozen=True)
class CrossValOptions:
    """Which clips, folds, seeds and recipe, and where the outcome goes."""

    store: str
    output: Path
    recipe: str = "cafer-small"
    settings: tuple[str, ...] = ()
    protocol: str | int = "folds"
    by_subject: bool = False
    only: tuple[int, ...] = ()
    """Numbers of the folds that are tried; all when empty."""
    seeds: tuple[int, ...] = ()
    """The recipe's when empty; folds that are made here are the same for all of them."""
    aus: str | None = None
    """AU table: each fold gets AU profiles of its own training clips."""
    priors: Path | None = None
    """AU profiles that are the same for all folds."""
    paper_protocol: bool = False
    name: str = ""
    """What reports call the system; the recipe's name when empty."""
    faces: bool = True
    """Show frames of clips in the reports."""
    parallel: int | None = None
    overwrite: bool = False
    keeping: TrialKeeping = field(default_factory=TrialKeeping)

    def check(self) -> Recipe:
        """The recipe. Raises ValueError for options that do not go together, before anything is started."""
        if self.aus is not None and self.priors is not None:
            raise ValueError("give --aus (profiles of each fold's training clips) or --priors (the same for all)")
        if self.by_subject and not isinstance(self.protocol, int):
            raise ValueError("--by-subject goes with a number of folds to make, such as --protocol 5")
        if self.only and self.protocol == "fixed":
            raise ValueError("--only chooses folds, and protocol fixed has none; leave it out")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {', '.join(map(str, self.seeds))}: give each seed once")
        if self.parallel is not None and self.parallel < 1:
            raise ValueError(f"{self.parallel} trials at once; give 1 or more")
        return overridden(recipe_named(self.recipe), self.settings)

    @property
    def summary(self) -> Path:
        """The file of all figures."""
        return self.output / f"summary{self._part}.json"

    def of_seed(self, seed: int) -> Path:
        """The folder of a seed's pooled predictions and report."""
        return self.output / f"seed-{seed}{self._part}"

    @property
    def _part(self) -> str:
        return "".join(f"-{one}" for one in ("only", *sorted(set(self.only)))) if self.only else ""


@dataclass(frozen=True)
class CrossValPlan:
    """`trials` of folds of `index`, the first seed's first; `protocol` as reports and published tables call it."""

    index: ClipIndex
    trials: list[Trial]
    protocol: str

    @property
    def recipe(self) -> Recipe:
        """That of the first seed."""
        return self.trials[0].recipe


def plan_cross_validation(options: CrossValOptions) -> CrossValPlan:
    """Everything that will be tried, after all that can be checked without training has been.

    Raises ValueError, FileNotFoundError, or FileExistsError where OUTPUT holds something else and `overwrite` is not
    set.
    """
    recipe = options.check()
    plan = plan_trials(read_index(options.store), recipe, options)
    first = plan.trials[0]
    for part in (first.clips.train, first.clips.val, first.test):
        check_clips(part, Reading.of(recipe, first.clips.classes, first.clips.cultures))
    check_model(recipe, model_arguments(recipe, first.clips, first.priors), plan.index)
    if not options.overwrite:
        check_output(options.output, plan)
    return plan


def plan_trials(index: ClipIndex, recipe: Recipe, options: CrossValOptions) -> CrossValPlan:
    """All trials. Raises ValueError with advice when the clips do not allow them."""
    priors = None if options.priors is None else read_priors(options.priors)
    table = None if options.aus is None else AuStats.read(options.aus)
    classes, cultures = classes_of(index), cultures_of(index) if priors is None else priors.cultures
    if table is not None and not cultures:
        raise ValueError(f"{options.store}: no clip has a culture label, and AU profiles are made for each culture")
    parts = folds(index, options.protocol, recipe.seed, options.by_subject)
    taken = chosen(parts, options.only)
    selection = TEST_FOLD if options.paper_protocol else LAST if recipe.select == "last" else VALIDATION
    trials = []
    for seed in options.seeds or (recipe.seed,):
        seeded = recipe.model_copy(update={"seed": seed})
        for fold in taken:
            clips = _clips(index, fold, classes, cultures, seeded, options.paper_protocol)
            own = priors if table is None else table.priors(clips.train, cultures, fold.name)
            trials.append(Trial(fold.name, seeded, clips, index.where(fold.test), own, selection))
    return CrossValPlan(index, trials, protocol_name(options.protocol, parts, taken))


def trial_folder(output: Path, trial: Trial) -> Path:
    """Where a trial leaves its files."""
    return output.resolve() / TRIALS / trial.name


def _clips(
    index: ClipIndex, fold: Fold, classes: list[str], cultures: list[str], recipe: Recipe, paper_protocol: bool
) -> TrainingClips:
    train = index.where(fold.train)
    if paper_protocol:
        return TrainingClips(train, index.where(fold.test), classes, cultures)
    if fold.val is not None:
        return TrainingClips(train, index.where(fold.val), classes, cultures)
    try:
        return TrainingClips(*held_out(train, recipe.val_share, recipe.seed), classes, cultures)
    except ValueError as error:
        raise ValueError(f"{fold.name}: {error}") from error


def check_output(output: Path, plan: CrossValPlan) -> None:
    """Raise FileExistsError when a folder holds something else, or trials of something else."""
    if output.is_dir() and any(output.iterdir()) and not (output / TRIALS).is_dir():
        raise FileExistsError(f"{output} is not the folder of a cross-validation; choose another")
    for trial in plan.trials:
        finished(trial, trial_folder(output, trial))
