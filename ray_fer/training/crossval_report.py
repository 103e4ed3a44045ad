"""The report of a cross-validation: for each seed, a page of the answers of all its folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.evaluated import Evaluated, of_bundle
from ray_fer.evaluation.predictions import Predictions
from ray_fer.evaluation.report import Folds, ReportOptions, write_report
from ray_fer.training.bundles import bundle_config
from ray_fer.training.card import caveats
from ray_fer.training.crossval_plan import CrossValOptions, CrossValPlan, trial_folder
from ray_fer.training.trial import finished

REPORT = "report"


def write_reports(
    plan: CrossValPlan,
    options: CrossValOptions,
    seeds: Mapping[int, tuple[Predictions, Folds]],
    units: Mapping[int, str],
    say: Callable[[str], None],
) -> dict[int, Path]:
    """Write the report of each of `seeds` (pooled answers, and those of its folds); returns the folders.

    `units` are what its intervals draw. A report that cannot be written is said, and left out: it must cost nobody the
    figures.
    """
    written = {}
    for seed, (pooled, folds) in seeds.items():
        folder = options.of_seed(seed) / REPORT
        shown = ReportOptions(
            protocol=plan.protocol, selection=plan.trials[0].selection, unit=units[seed],
            told_culture=plan.recipe.tell_culture, faces=options.faces, command=options.keeping.command or None,
            overwrite=True,
        )  # fmt: skip
        try:
            write_report(_evaluated(plan, options, seed, len(pooled)), pooled, plan.index, folder, shown, folds)
        except Exception as error:
            say(f"warning: the report of seed {seed} is not written: {error or type(error).__name__}")
        else:
            written[seed] = folder
    return written


def _evaluated(plan: CrossValPlan, options: CrossValOptions, seed: int, tested: int) -> Evaluated:
    trials = [trial for trial in plan.trials if trial.recipe.seed == seed]
    first = trials[0]
    if len(trials) == 1:
        folder = trial_folder(options.output, first)
        kept: dict[str, Any] = finished(first, folder) or {}
        if kept.get("bundle"):
            return of_bundle(load_bundle(folder / kept["bundle"]))
    shared = first.priors if options.aus is None or len(trials) == 1 else None
    config = bundle_config(f"{options.name or first.recipe.name} seed {seed}", first.recipe, first.clips, shared)
    return Evaluated(
        config.model_copy(update={"version": ""}), priors=shared, metrics={"clips": {"tested": tested}},
        caveats=caveats(config),
    )  # fmt: skip
