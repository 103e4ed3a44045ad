"""One training run from its options: what `ray-fer train` and `jobs/train_cafer.py` call."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_fer.action_units.profiles import read_priors
from ray_fer.labels import EXPRESSIONS
from ray_fer.training.fit import fit
from ray_fer.training.recipe import RECIPES, Recipe
from ray_fer.training.synthfer import EPOCHS, SIZES, train_on_synthfer


@dataclass(frozen=True)
class TrainOptions:
    """Where the clips come from (`store` with `priors`, or `synthfer`), which recipe, and what to change in it."""

    output: Path
    store: Path | None = None
    priors: Path | None = None
    synthfer: str | None = None
    recipe: str = "cafer-small"
    work: Path | None = None
    epochs: int | None = None
    workers: int | None = None
    use_gpu: bool = False
    seed: int = 42

    def check(self) -> None:
        """Raise ValueError for options that do not go together, before anything is started."""
        if self.recipe not in RECIPES:
            raise ValueError(f"unknown recipe {self.recipe!r}; expected one of {', '.join(RECIPES)}")
        if (self.store is None) == (self.synthfer is None):
            raise ValueError("give either --store (with --priors) or --synthfer")
        if self.synthfer is not None and self.synthfer not in SIZES:
            raise ValueError(f"unknown SynthFER size {self.synthfer!r}; expected one of {', '.join(SIZES)}")
        if self.store is not None and self.priors is None:
            raise ValueError("--store needs --priors; `ray-fer aus STORE TABLE --priors priors.json` makes them")

    def resolved(self) -> Recipe:
        """The recipe with this run's changes."""
        recipe = RECIPES[self.recipe]()
        epochs = self.epochs
        if epochs is None and self.synthfer is not None and self.recipe == "cafer-small":
            epochs = EPOCHS[self.synthfer]
        changes = {"epochs": epochs, "workers": self.workers, "seed": self.seed, "use_gpu": self.use_gpu}
        return Recipe.model_validate(recipe.model_dump() | {k: v for k, v in changes.items() if v is not None})

    def command(self) -> str:
        """The line that repeats this run, for the model card."""
        words = ["python", "jobs/train_cafer.py"]
        for name in ("synthfer", "store", "priors", "recipe", "epochs", "workers", "seed", "output"):
            value = getattr(self, name)
            if value is not None and value != getattr(type(self), name, None):
                words += [f"--{name}", shlex.quote(str(value))]
        return " ".join([*words, "--gpu"] if self.use_gpu else words)


def run_training(options: TrainOptions, say: Callable[[str], None] = print) -> Path:
    """Train on the current Ray cluster; returns the bundle's folder. Raises as `fit` does."""
    options.check()
    recipe = options.resolved()
    say(recipe.model_dump_json(indent=1))
    with tempfile.TemporaryDirectory(prefix="ray-fer-train-") as temporary:
        work = options.work or Path(temporary)
        if options.synthfer is not None:
            size = SIZES[options.synthfer]
            return train_on_synthfer(recipe, options.output, work, size, options.seed, options.command(), say)
        assert options.store is not None
        assert options.priors is not None
        priors = read_priors(options.priors)
        return fit(
            recipe, options.store, options.output, list(EXPRESSIONS), priors, options.command(), work / "runs", say=say
        )
