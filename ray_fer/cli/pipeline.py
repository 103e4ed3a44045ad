"""Commands from a manifest to a bundle: preprocess, Action Units, priors, train."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def preprocess(
    manifest: Annotated[Path, typer.Argument(help="manifest.parquet, or its folder")],
    output: Annotated[Path, typer.Argument(help="folder of the clip store to write")],
    frames: Annotated[int, typer.Option(min=1, help="frames per clip, sampled uniformly")] = 16,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray Data actors (default: one per CPU)")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decode, sample, find and align faces of all clips of a manifest, on Ray Data."""
    from ray_fer.preprocessing.clips import preprocess as run
    from ray_fer.serving.local_ray import ray_session

    with ray_session():
        summary = run(manifest, output, frames, workers, overwrite=overwrite)
    if as_json:
        print(json.dumps({"store": str(summary.store), "usable": summary.usable, "failed": summary.failed}))
        return
    for clip_id, reason in summary.failed:
        print(f"passed over {clip_id}: {reason}", file=sys.stderr)
    print(f"{summary.store}: {summary.usable} clips, {len(summary.failed)} passed over")


@exit_on_bad_input
def aus(
    store: Annotated[Path, typer.Argument(help="clip store")],
    output: Annotated[Path, typer.Argument(help="folder of the AU table to write")],
    extractor: Annotated[str, typer.Option(help="AU extractor")] = "blendshapes",
    priors_file: Annotated[Path | None, typer.Option("--priors", help="also write culture priors to this file")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Extract Action Units of all clips of a store, and their 80 statistics, on Ray Data."""
    from ray_fer.preprocessing.aus import compute_priors, extract_aus
    from ray_fer.serving.local_ray import ray_session

    with ray_session():
        print(extract_aus(store, output, extractor, overwrite))
    if priors_file is not None:
        print(compute_priors(output).write(priors_file))


@exit_on_bad_input
def priors(
    au_table: Annotated[Path, typer.Argument(help="AU table")],
    output: Annotated[Path, typer.Argument(help="priors.json to write")],
    split: Annotated[str | None, typer.Option(help="clips to use; 'all' for every split")] = "train",
) -> None:
    """Compute culture priors: AU profiles per culture and the ANOVA between cultures."""
    from ray_fer.preprocessing.aus import compute_priors

    result = compute_priors(au_table, split=None if split == "all" else split)
    result.write(output)
    table = Table("AU statistic", "F", "p", "eta²", title="Where cultures differ most", title_justify="left")
    for row in sorted(result.anova, key=lambda row: -row.eta_squared)[:10]:
        f, p = ("" if value is None else f"{value:.3g}" for value in (row.f, row.p))
        table.add_row(row.statistic, f, p, f"{row.eta_squared:.3f}")
    Console().print(table)
    print(output)


@exit_on_bad_input
def train(
    output: Annotated[Path, typer.Option(help="folder of the bundle to write")],
    store: Annotated[Path | None, typer.Option(help="clip store")] = None,
    priors_file: Annotated[Path | None, typer.Option("--priors", help="priors.json of the same clips")] = None,
    synthfer: Annotated[str | None, typer.Option(help="render SynthFER instead: 'demo' or 'packaged' size")] = None,
    recipe: Annotated[str, typer.Option(help="'cafer' (the paper's) or 'cafer-small'")] = "cafer-small",
    work: Annotated[Path | None, typer.Option(help="folder for clips and checkpoints (default: temporary)")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray Train workers, instead of the recipe's")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="one GPU per worker")] = False,
    seed: Annotated[int, typer.Option(help="seed of data and training")] = 42,
) -> None:
    """Train CA-FER on Ray Train and write a bundle, from a clip store or from rendered SynthFER clips."""
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.run import TrainOptions, run_training

    options = TrainOptions(
        output=output, store=store, priors=priors_file, synthfer=synthfer, recipe=recipe, work=work, epochs=epochs,
        workers=workers, use_gpu=gpu, seed=seed,
    )  # fmt: skip
    options.check()
    with ray_session():
        print(f"bundle: {run_training(options)}")


def models(as_json: AsJson = False) -> None:
    """List the models that can be trained."""
    from ray_fer.models import create, names

    summaries = {name: (type(create(name, conditioning="none")).__doc__ or "").split("\n")[0] for name in names()}
    if as_json:
        print(json.dumps(summaries))
        return
    for name, summary in summaries.items():
        print(f"{name:16} {summary}")
