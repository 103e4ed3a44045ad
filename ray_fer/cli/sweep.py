"""`ray-fer train --sweep`: a model for each mixture of the datasets in a store."""

from __future__ import annotations

from pathlib import Path


def train_mixtures(
    store: str | None, output: Path, recipe: str, settings: tuple[str, ...], seeds: str | None, mlflow: str | None
) -> None:
    """Train what is left of all mixtures, print Tables 5 and 6 and write them. Raises ValueError without a store."""
    from ray_fer.cli.trials import command_line, numbers, say, watching
    from ray_fer.evaluation.mixture_report import markdown, write_sweep
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.mixtures import SweepOptions, plan_sweep, sweep
    from ray_fer.training.trial import TrialKeeping

    if store is None:
        raise ValueError("--sweep needs --store: one clip store that holds all datasets")
    keeping = TrialKeeping(mlflow=mlflow, command=command_line("train"))
    options = SweepOptions(store, output, recipe, settings, seeds=numbers(seeds, "seeds"), keeping=keeping)
    plan_sweep(options)
    try:
        with ray_session(), watching() as watch:
            content, failed = sweep(options, watch, say)
    except KeyboardInterrupt:
        say("interrupted; trials that are finished stay, and the same command goes on with the others")
        raise
    if any(content["rows"].values()):
        print(markdown(content))
        for file in write_sweep(output, content):
            print(file)
    for name, reason in failed.items():
        say(f"{name} failed: {reason}")
    if failed:
        raise SystemExit(1)
