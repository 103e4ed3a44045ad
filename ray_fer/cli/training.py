"""`ray-fer train` and `ray-fer recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.options import Overwrite
from ray_fer.errors import exit_on_bad_input

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="change a field of the recipe, such as optimizer.lr=3e-4; may be given many times"),
]


@exit_on_bad_input
def train(
    output: Annotated[Path, typer.Option(help="folder of the bundle to write")],
    store: Annotated[str | None, typer.Option(help="clip store, a path or a URL")] = None,
    priors_file: Annotated[
        Path | None, typer.Option("--priors", help="priors.json of the same clips, for models that use AU profiles")
    ] = None,
    synthfer: Annotated[str | None, typer.Option(help="render SynthFER instead: 'demo' or 'packaged' size")] = None,
    recipe: Annotated[str, typer.Option(help="`ray-fer recipes` lists them")] = "cafer-small",
    settings: Settings = None,
    work: Annotated[Path | None, typer.Option(help="where SynthFER is rendered to (default: temporary)")] = None,
    run: Annotated[
        Path | None, typer.Option(help="folder of the run's log and checkpoints (default: OUTPUT.run)")
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="URL for checkpoints where nodes do not share the run's folder (s3://...)")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where an interrupted run stopped")] = False,
    overwrite: Overwrite = False,
    tensorboard: Annotated[bool, typer.Option(help="write TensorBoard's files into the run's folder")] = True,
    mlflow: Annotated[str | None, typer.Option(help="also log to this MLflow folder or address")] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="train on every mixture of the store's datasets, and test each on EiLA")
    ] = False,
    seeds: Annotated[str | None, typer.Option(help="with --sweep: train each mixture with each of these")] = None,
) -> None:
    """Train a model on Ray Train and write a bundle, from a clip store or from rendered SynthFER clips.

    The best epoch on split "val" is kept (without one, on val_share of the training clips); split "test" is tested.
    What dies is started again from the last checkpoint; after an interruption --resume goes on. Examples of --set:
    epochs=30, workers=4, gpus_per_worker=1, precision=bf16, batch_size=32, early_stopping=7, 'workers=[2, 8]'
    (elastic), model_config_.embedding_dim=64, augment=null, val_share=0.2.

    --sweep is the multi-dataset study: OUTPUT gets a trial for each dataset alone and mixed with 10 to 100 % of EiLA,
    and Tables 5 and 6 of the paper. The same command goes on after an interruption.
    """
    from ray_fer.cli.sweep import train_mixtures
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.run import Keeping, TrainOptions, run_training

    if sweep:
        train_mixtures(store, output, recipe, tuple(settings or ()), seeds, mlflow)
        return
    if seeds is not None:
        raise ValueError("--seeds goes with --sweep; a single run has --set seed=")
    keeping = Keeping(
        run or output.with_name(output.name + ".run"), resume, overwrite, checkpoints, tensorboard, mlflow
    )
    options = TrainOptions(
        output=output, store=store, priors=priors_file, synthfer=synthfer, recipe=recipe,
        settings=tuple(settings or ()), work=work, keeping=keeping,
    )  # fmt: skip
    options.check()
    with ray_session():
        written = run_training(options)
    print(f"bundle: {written.path}")


@exit_on_bad_input
def recipes(
    name: Annotated[str | None, typer.Argument(help="recipe to print whole")] = None,
    settings: Settings = None,
) -> None:
    """List the training recipes, or print one with all its fields (and what --set makes of it)."""
    from ray_fer.training.recipe import overridden
    from ray_fer.training.recipes import RECIPES
    from ray_fer.training.recipes import recipe as recipe_named

    if name is not None:
        print(overridden(recipe_named(name), settings or []).model_dump_json(indent=1))
        return
    for each, make in RECIPES.items():
        made = make()
        seen = f"{made.transform.frames} x {made.transform.size} px"
        print(
            f"{each:18} {made.model:14} {seen:12} {made.optimizer.name} {made.optimizer.lr:g}, "
            f"batch {made.batch_size}, at most {made.epochs} epochs"
        )
