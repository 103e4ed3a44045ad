"""`ray-fer curate`: keep the clips of a manifest that its annotators and an estimator agree on."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input

_ETHNICITY = "Ethnicity"
_PERSONS = "Persons"
_EXPRESSIONS = "Expressions"
_CHECKS = "Separability"
_FACES = "EiLA"


@exit_on_bad_input
def curate(
    manifest: Annotated[Path, typer.Argument(help="manifest.parquet, or its folder")],
    output: Annotated[Path, typer.Argument(help="folder for manifest.parquet, report.md, report.json, dropped.csv")],
    votes: Annotated[
        Path | None,
        typer.Option(help="CSV clip_id,annotator_1,annotator_2: the group each names", rich_help_panel=_ETHNICITY),
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(help="third source: 'deepface' or 'facexformer'", rich_help_panel=_ETHNICITY)
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="facexformer: its ckpts/model.pt; deepface: folder with .deepface/weights/", rich_help_panel=_ETHNICITY
        ),
    ] = None,
    estimates: Annotated[
        Path | None,
        typer.Option(
            help="instead of --estimator: CSV clip_id,culture,confidence (an earlier run's estimates.csv)",
            rich_help_panel=_ETHNICITY,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="confidence from which on the estimator votes (default: 0.75; ethnicmer: 0)",
            rich_help_panel=_ETHNICITY,
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        Path | None,
        typer.Option(help="CSV clip_id,culture,note: corrections by hand, which win", rich_help_panel=_ETHNICITY),
    ] = None,
    groups: Annotated[
        str,
        typer.Option(
            help="'gcc-fer' (two of three sources agree) or 'ethnicmer' (one estimator; Asian, Non-Asian)",
            rich_help_panel=_ETHNICITY,
        ),
    ] = "gcc-fer",
    max_persons: Annotated[
        int,
        typer.Option(min=1, help="clips with more are dropped; the one seen most is kept", rich_help_panel=_PERSONS),
    ] = 2,
    persons: Annotated[
        bool, typer.Option("--persons/--no-persons", help="count persons at all", rich_help_panel=_PERSONS)
    ] = True,
    frames: Annotated[int, typer.Option(min=1, help="frames looked at per clip", rich_help_panel=_PERSONS)] = 12,
    expressions: Annotated[
        Path | None,
        typer.Option(
            help="CSV clip_id,annotator_1,...: expression labels; gives Fleiss' kappa per culture",
            rich_help_panel=_EXPRESSIONS,
        ),
    ] = None,
    agree: Annotated[
        str, typer.Option(help="keep clips that are 'unanimous' or have a 'majority'", rich_help_panel=_EXPRESSIONS)
    ] = "unanimous",
    separability: Annotated[
        bool,
        typer.Option(
            "--separability/--no-separability",
            help="can ResNet-18 features tell the groups apart? 5 folds",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    resnet_weights: Annotated[
        Path | None, typer.Option(help="torchvision's resnet18 file, if not in its cache", rich_help_panel=_CHECKS)
    ] = None,
    faces: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=1024,
            help="cut each row's face from its frame and box: grey, so many pixels wide (48); persons are not counted",
            rich_help_panel=_FACES,
            show_default=False,
        ),
    ] = None,
    face_model: Annotated[
        Path | None, typer.Option(help="YOLOv8 face model as .onnx, instead of MediaPipe", rich_help_panel=_FACES)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Curate a manifest: drop crowds, keep clips whose sources agree on the ethnic group, measure agreement.

    Without any file of annotations it only counts persons. Every dropped clip is in dropped.csv with its reason.

    Example: ray-fer curate gccfer curated --votes votes.csv --estimator deepface --overrides corrections.csv
    """
    from ray_fer.cli.progress import stages
    from ray_fer.datasets.curation.curate import curate as run
    from ray_fer.datasets.curation.options import CurateOptions
    from ray_fer.datasets.curation.persons import PersonRule

    if agree not in ("unanimous", "majority"):
        raise ValueError(f"--agree {agree!r} is neither 'unanimous' nor 'majority'")
    # EiLA's boxes name the person already, one frame per row: nothing to count.
    rule = PersonRule(max_persons, frames) if persons and faces is None else None
    options = CurateOptions(
        manifest=manifest, output=output, groups=groups, votes=votes, estimates=estimates, estimator=estimator,
        weights=weights, overrides=overrides, threshold=threshold, persons=rule, expressions=expressions,
        expression_rule="majority" if agree == "majority" else "unanimous", separability=separability,
        resnet_weights=resnet_weights, faces=faces, face_model=face_model, overwrite=overwrite,
    )  # fmt: skip
    with stages() as advance:
        report = run(options, advance)
    for problem in report.problems:
        print(f"passed over {problem}", file=sys.stderr)
    if as_json:
        print(json.dumps(dataclasses.asdict(report) | {"reasons": report.reasons()}, allow_nan=False))
        return
    print(f"{output / 'manifest.parquet'}: {report.kept} of {report.clips} clips kept")
    for reason, count in report.reasons().items():
        print(f"  {count:6} dropped  {reason}")
    for line in report.headlines():
        print(f"  {line}")
    print(f"report: {output / 'report.md'}")
