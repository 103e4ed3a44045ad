"""`ray-fer evaluate`: test a bundle on clips and write a report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from rich.table import Table


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
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Test a bundle on labelled clips: a page with tables and figures, report.json, PNGs, and all answers.

    For example: ray-fer evaluate runs/dfew-cafer stores/dfew -o reports/dfew-cafer

    `ray-fer compare` puts several reports into one table, beside published figures. Use --no-faces where a dataset's
    licence forbids showing its pictures.
    """
    from ray_fer.bundle import load_bundle
    from ray_fer.evaluation.evaluated import of_bundle
    from ray_fer.evaluation.infer import predict_clips
    from ray_fer.evaluation.report import REPORT, ReportOptions, check_output, write_report
    from ray_fer.preprocessing.store_index import read_index
    from ray_fer.serving.local_ray import ray_session

    check_output(output, overwrite)
    about = of_bundle(load_bundle(bundle))
    index = read_index(clips)
    chosen = index if split == "all" else index.split(split)
    options = ReportOptions(
        selection=about.selection, unit="subject" if subjects else "clip", told_culture=tell_culture, faces=faces,
        overwrite=overwrite, command=_command(bundle, clips, output, split, tell_culture, subjects, faces),
    )  # fmt: skip
    with ray_session():
        predictions = predict_clips(bundle, chosen, tell_culture, gpus)
    page = write_report(about, predictions, chosen, output, options)
    content = json.loads((output / REPORT).read_text("utf-8"))
    if as_json:
        print(json.dumps(content, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(_table(content))
    print(f"report: {page}")


def _command(
    bundle: Path, clips: str, output: Path, split: str, tell_culture: bool, subjects: bool, faces: bool
) -> str:
    words = ["ray-fer", "evaluate", str(bundle), clips, "-o", str(output)]
    words += [] if split == "test" else ["--split", split]
    given = {"--tell-culture": tell_culture, "--subjects": subjects, "--no-faces": not faces}
    return shlex.join(words + [word for word, on in given.items() if on])


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
