"""`ray-fer cache-features`: what a frozen encoder makes of clips, once for all training runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.pipeline import report
from ray_fer.cli.progress import rows_per_second
from ray_fer.cli.training import Settings
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def cache_features(
    store: Annotated[str, typer.Argument(help="clip store, a path or a URL")],
    output: Annotated[str, typer.Argument(help="folder or URL of the features to write")],
    recipe: Annotated[str, typer.Option(help="of the model; `ray-fer recipes` lists them")] = "ous",
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="finish what an interrupted run left")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="also try clips again that failed")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Run the frozen part of a model over all clips of a store once, on Ray Data, with GPUs if there are any.

    Training then reads the features and no pixels, which gives the same weights many times faster:

    ray-fer cache-features stores/dfew features/dfew --set pretrained=clip-vit-large-patch14

    ray-fer train --store stores/dfew --recipe ous --set pretrained=clip-vit-large-patch14 --set augment=null --set
    cached=features/dfew --output runs/ous

    Features are of clips as they are, so that clips are not augmented. Give the settings that training gets, at least
    those of the encoder: pretrained, transform, precision, and seed where there are no pretrained weights. Runs with
    other numbers of blocks or prompts, other losses or rates read the same features.
    """
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.cache import cache_features as run
    from ray_fer.training.recipe import overridden
    from ray_fer.training.recipes import recipe as recipe_named

    chosen = overridden(recipe_named(recipe), settings or ())
    with rows_per_second("clips") as progress:
        summary = run(store, output, chosen, resume, retry_failed, overwrite, progress, ray_session)
    report(summary, "clips", as_json)
