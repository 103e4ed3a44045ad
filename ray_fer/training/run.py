"""One training run from its options: what `ray-fer train` and the training jobs call."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_fer import storage
from ray_fer.action_units.profiles import Priors, read_priors
from ray_fer.preprocessing.store import open_dataset
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.bundles import Written, model_arguments, write_bundle
from ray_fer.training.fit import Fitted, TrainingClips, check_folder, check_model, fit, prepare_run
from ray_fer.training.mailbox import Record
from ray_fer.training.parts import classes_of, cultures_of, held_out
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.synthfer import EPOCHS, SIZES, synthfer_clips
from ray_fer.training.tracking import trackers

Say = Callable[[str], None]
FIRST = "first"


@dataclass(frozen=True)
class Keeping:
    """How a run is kept: its folder, what to do with an earlier run there, and who else is told of it."""

    run: Path
    resume: bool = False
    overwrite: bool = False
    checkpoints: str | None = None
    """URL for Ray Train's checkpoints where nodes do not share `run`."""
    tensorboard: bool = True
    mlflow: str | None = None
    """Folder or address of an MLflow."""


@dataclass(frozen=True)
class TrainOptions:
    """Where the clips come from (`store`, or rendered `synthfer`), which recipe, and what to change in it."""

    output: Path
    store: str | None = None
    priors: Path | None = None
    synthfer: str | None = None
    recipe: str = "cafer-small"
    settings: tuple[str, ...] = ()
    work: Path | None = None
    """Where SynthFER is rendered to; a temporary folder when None."""
    keeping: Keeping | None = None
    """Beside the output when None."""
    job: str = "jobs/train_cafer.py"

    def check(self) -> None:
        """Raise ValueError or an OSError (files there or not) for options that cannot work, before Ray is started."""
        if (self.store is None) == (self.synthfer is None):
            raise ValueError("give either --store (a clip store) or --synthfer")
        if self.synthfer is not None and self.synthfer not in SIZES:
            raise ValueError(f"unknown SynthFER size {self.synthfer!r}; expected one of {', '.join(SIZES)}")
        if self.keeping is not None and self.keeping.resume and self.synthfer is not None and self.work is None:
            raise ValueError("--resume with --synthfer needs the --work folder of the run that it goes on with")
        if self.keeping is not None:
            check_folder(self.keeping.run, self.keeping.resume, self.keeping.overwrite)
        self.resolved()
        if self.store is not None:
            open_dataset(self.store, "clips", "ray-fer preprocess")
        if self.priors is not None:
            read_priors(self.priors)

    def resolved(self) -> Recipe:
        """The recipe with this run's changes. Raises ValueError as `overridden`."""
        recipe = recipe_named(self.recipe)
        if self.synthfer is not None and self.recipe == "cafer-small":
            recipe = recipe.model_copy(update={"epochs": EPOCHS[self.synthfer]})
        return overridden(recipe, self.settings)

    def command(self) -> str:
        """The line that repeats this run, for the model card."""
        words = ["python", self.job]
        for name in ("synthfer", "store", "priors", "recipe", "output"):
            value = getattr(self, name)
            if value is not None and value != getattr(type(self), name, None):
                words += [f"--{name}", str(value)]
        return shlex.join([*words, *(word for one in self.settings for word in ("--set", one))])


def run_training(options: TrainOptions, say: Say = print) -> Written:
    """Train on the current Ray cluster, test on split "test" if there is one, and write the bundle.

    Raises ValueError, FileNotFoundError or FileExistsError for what the user has to mend.
    """
    options.check()
    recipe = options.resolved()
    keeping = options.keeping or Keeping(options.output.with_name(options.output.name + ".run"))
    say(recipe.model_dump_json(indent=1))
    if options.synthfer is None:
        assert options.store is not None
        priors = None if options.priors is None else read_priors(options.priors)
        index = read_index(options.store)
        return train_on(index, priors, recipe, options.output, options.command(), keeping, say)
    with tempfile.TemporaryDirectory(prefix="ray-fer-synthfer-") as temporary:
        rendered = synthfer_clips(SIZES[options.synthfer], recipe, options.work or Path(temporary), say)
        return train_on(
            read_index(rendered.store), rendered.priors, recipe, options.output, options.command(), keeping, say,
            more={"stage_seconds": rendered.seconds, "subjects": rendered.subjects},
        )  # fmt: skip


def train_on(
    index: ClipIndex,
    priors: Priors | None,
    recipe: Recipe,
    output: Path,
    command: str,
    keeping: Keeping,
    say: Say = print,
    more: dict[str, Any] | None = None,
) -> Written:
    """Train on split "train" of `index`, validate on "val" or a share of it, test on "test", and write the bundle."""
    train = index.split("train")
    if "val" in index.column("split"):
        val = index.split("val")
    else:
        train, val = held_out(train, recipe.val_share, recipe.seed)
        if recipe.val_share:
            say(f'no split "val": {len(val)} of the training clips validate, of subjects of their own where known')
        else:
            say("nothing is held out: figures while training are of the training clips")
    cultures = cultures_of(index) if priors is None else priors.cultures
    clips = TrainingClips(train, val, classes_of(index), cultures)
    test = index.split("test") if "test" in index.column("split") else None
    fitted = fit_and_track(recipe, clips, priors, keeping, say)
    return write_bundle(output, recipe, clips, fitted, priors, command, test, more)


def fit_and_track(recipe: Recipe, clips: TrainingClips, priors: Priors | None, keeping: Keeping, say: Say) -> Fitted:
    """`fit`, with the run's folder prepared and its records given to all trackers; and before it the recipe's first
    phase, whose run is in the folder FIRST of this one.
    """
    arguments = model_arguments(recipe, clips, priors)
    check_model(recipe, arguments, clips.train, clips.val, say=say)
    goes_on = prepare_run(keeping.run, recipe, clips, keeping.resume, keeping.overwrite)
    start = None
    if recipe.first is not None:
        below = None if keeping.checkpoints is None else storage.join(keeping.checkpoints, FIRST)
        kept = replace(keeping, run=keeping.run / FIRST, resume=goes_on, overwrite=False, checkpoints=below)
        say(f"first phase: {recipe.first.epochs} epochs")
        start = fit_and_track(recipe.first, clips, priors, kept, say).model.state_dict()
        say(f"second phase: {recipe.epochs} epochs")
    listening = trackers(
        keeping.run, recipe.name, recipe.model_dump(mode="json"), keeping.tensorboard, keeping.mlflow, say
    )

    def heard(record: Record) -> None:
        for tracker in listening:
            tracker.heard(record)

    error: str | None = "interrupted"
    try:
        fitted = fit(recipe, clips, arguments, keeping.run, heard, keeping.checkpoints, start)
        error = None
    except Exception as raised:
        error = str(raised)
        raise
    finally:
        for tracker in listening:
            tracker.close(error)
    return fitted
