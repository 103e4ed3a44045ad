"""`ray-fer evaluate`: test a bundle on clips and write a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from rich.table import Table

    from ray_fer.evaluation.landscape import LandscapeOptions


@exit_on_bad_input
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="trained model")],
    clips: Annotated[str, typer.Argument(help="clip store, a path or a URL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the report")],
    split: Annotated[str, typer.Option(help="which clips; 'all' for all of them")] = "test",
    tell_culture: Annotated[
        bool, typer.Option("--tell-culture", help="tell the model the clips' culture labels")
    ] = False,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPU share of each model; 0 computes on CPUs")] = 0.0,
    subjects: Annotated[
        bool, typer.Option("--subjects", help="intervals from draws of whole persons, not of clips")
    ] = False,
    faces: Annotated[bool, typer.Option("--faces/--no-faces", help="show frames of clips on the page")] = True,
    landscape: Annotated[
        bool, typer.Option("--landscape", help="also show the loss around the trained weights: flat or sharp?")
    ] = False,
    landscape_clips: Annotated[
        int | None, typer.Option(help="clips whose mean loss it is, of each class its share (default: 64)")
    ] = None,
    landscape_points: Annotated[
        int | None, typer.Option(help="points along each side of its grid, an odd number (default: 15)")
    ] = None,
    landscape_reach: Annotated[
        float | None,
        typer.Option(help="how far it goes; at 1 each filter is moved by as much as it is long (default: 1)"),
    ] = None,
    landscape_seed: Annotated[int | None, typer.Option(help="other random directions (default: 0)")] = None,
    activation_maps: Annotated[
        bool, typer.Option("--activation-maps", help="also show where the model looks, by class and group (Grad-CAM)")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Test a bundle on labelled clips: a page with tables and figures, report.json, PNGs, and all answers.

    For example: ray-fer evaluate runs/dfew-cafer stores/dfew -o reports/dfew-cafer

    `ray-fer compare` puts several reports into one table, beside published figures. Use --no-faces where a dataset's
    licence forbids showing its pictures.

    --landscape moves the weights along two random directions (Li et al. 2018; HDF's Fig. 5) and takes as long as
    answering 15 x 15 x 64 clips. landscape.json has the losses, report.json figures to compare models by: on the same
    clips and grid, and with more than one --landscape-seed, as directions differ. --landscape-reach 0.5 looks closer.

    --activation-maps is for models with convolutions: the mean Grad-CAM of each class and culture group, with the
    regions of Action Units (EthnicMER's Figs 3 and 4). activation-maps.json says how much lies in each region, left and
    right.
    """
    from ray_fer.bundle import load_bundle
    from ray_fer.cli.progress import stages
    from ray_fer.evaluation.activation_run import activation_maps as mean_maps
    from ray_fer.evaluation.evaluated import of_bundle
    from ray_fer.evaluation.infer import predict_clips
    from ray_fer.evaluation.landscape_run import loss_landscape
    from ray_fer.evaluation.page import landscape_words
    from ray_fer.evaluation.report import REPORT, ReportOptions, check_output, write_report
    from ray_fer.preprocessing.store_index import read_index
    from ray_fer.serving.local_ray import ray_session

    asked = {"clips": landscape_clips, "points": landscape_points, "reach": landscape_reach, "seed": landscape_seed}
    plane = _landscape_options(landscape, {name: value for name, value in asked.items() if value is not None})
    check_output(output, overwrite)
    about = of_bundle(load_bundle(bundle))
    index = read_index(clips)
    chosen = index if split == "all" else index.split(split)
    given: dict[str, float | None] = {
        "--tell-culture": tell_culture,
        "--subjects": subjects,
        "--no-faces": not faces,
        "--landscape": landscape,
    }
    given |= {f"--landscape-{name}": value for name, value in asked.items()} | {"--activation-maps": activation_maps}
    options = ReportOptions(
        selection=about.selection, unit="subject" if subjects else "clip", told_culture=tell_culture, faces=faces,
        overwrite=overwrite, command=_command(bundle, clips, output, split, given),
    )  # fmt: skip
    surface, looked = None, None
    with ray_session():
        if activation_maps:  # first, as it may turn out that the model cannot be looked into
            with stages() as advance:
                shown = partial(advance, "activation maps")
                looked = mean_maps(bundle, chosen, tell_culture, gpus, faces=faces, progress=shown)
        predictions = predict_clips(bundle, chosen, tell_culture, gpus)
        if plane is not None:
            with stages() as advance:
                shown = partial(advance, "loss landscape")
                surface = loss_landscape(bundle, chosen, plane, tell_culture, gpus, progress=shown)
    page = write_report(about, predictions, chosen, output, options, landscape=surface, activations=looked)
    content = json.loads((output / REPORT).read_text("utf-8"))
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(_table(content))
    if surface is not None:
        print(f"loss landscape: {landscape_words(content['landscape'])}")
    print(f"report: {page}")


def _landscape_options(wanted: bool, given: dict[str, Any]) -> LandscapeOptions | None:
    """None where no landscape is wanted. Raises ValueError for values that are wrong, or given for nothing."""
    from ray_fer.evaluation.landscape import LandscapeOptions

    if given and not wanted:
        raise ValueError(f"--landscape-{next(iter(given))} says how, but not to do it: add --landscape")
    return LandscapeOptions(**given) if wanted else None


def _command(bundle: Path, clips: str, output: Path, split: str, given: Mapping[str, float | None]) -> str:
    """What was typed. Options of `given` that are True stand alone; those that are False or None were not given."""
    words = ["ray-fer", "evaluate", str(bundle), clips, "-o", str(output)]
    words += [] if split == "test" else ["--split", split]
    for name, value in given.items():
        if value is not None and value is not False:
            words += [name] if value is True else [name, str(value)]
    return shlex.join(words)


def _table(content: dict[str, Any]) -> Table:
    """All clips, then each culture: UAR, WAR and macro F1 in percent with their intervals."""
    from rich.table import Table

    data = " + ".join(content["datasets"])
    table = Table(title=f"{content['model']['name']} {content['model']['version']} on {data}")
    table.add_column("", no_wrap=True)
    for name in ("clips", "UAR %", "WAR %", "macro F1 %"):
        table.add_column(name, justify="right", no_wrap=True)
    metrics = content["metrics"]
    figures = ("uar", "war", "macro_f1")
    everything = [_cell(metrics[one]["value"], [metrics[one]["low"], metrics[one]["high"]]) for one in figures]
    table.add_row("all", str(metrics["count"]), *everything, end_section=True)
    cultures = content["groups"]["culture"]
    for name, group in cultures.items() if len(cultures) > 1 else ():
        cells = [_cell(group[one], group["intervals"][one]) for one in figures]
        table.add_row(f"{name} (few)" if group["few"] else name, str(group["count"]), *cells)
    return table


def _cell(value: float, bounds: list[float] | None) -> str:
    return f"{100 * value:.1f}" + (f" ({100 * bounds[0]:.0f}–{100 * bounds[1]:.0f})" if bounds else "")
