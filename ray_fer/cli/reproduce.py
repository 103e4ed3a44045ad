"""`ray-fer reproduce`: from a clip store to a table of the papers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.training import Settings
from ray_fer.cli.trials import (
    Faces,
    Mlflow,
    PaperProtocol,
    Parallel,
    PriorsFile,
    Seeds,
    command_line,
    fractions,
    numbers,
    only_json,
    say,
    watching,
)
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def reproduce(
    table: Annotated[str | None, typer.Argument(help="such as cafer-table-3; --list names them")] = None,
    data: Annotated[
        str | None, typer.Option(help="clip store of the table's datasets, or 'synthfer' to render a small SynthFER")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for systems and tables, shared by all nodes")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="with synthfer: small systems and few clips, within an hour on two cores")
    ] = False,
    strengths: Annotated[
        str | None,
        typer.Option(
            help="with synthfer: how strongly culture groups differ, from 0 (not) to 1 (default: 0,0.5,1 for tables "
            "whose models know culture groups, else 0.5)"
        ),
    ] = None,
    rows: Annotated[list[str] | None, typer.Option(help="this row alone; may be given many times")] = None,
    recipe: Annotated[str | None, typer.Option(help="for all systems (default: the paper's of each model)")] = None,
    settings: Settings = None,
    seeds: Seeds = None,
    aus: Annotated[
        str | None, typer.Option(help="AU table of the clips, of which each fold gets AU profiles of its own")
    ] = None,
    priors_file: PriorsFile = None,
    paper_protocol: PaperProtocol = False,
    any_dataset: Annotated[
        bool, typer.Option("--any-dataset", help="train on clips of another dataset; no published figure is shown")
    ] = False,
    parallel: Parallel = None,
    mlflow: Mlflow = None,
    faces: Faces = True,
    overwrite: Overwrite = False,
    list_tables: Annotated[bool, typer.Option("--list", help="list the tables, and the rows that can be made")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a table of the papers again: train and test every system in it, and put our figures beside the published.

    The table says which model, settings and protocol a row has; a system that several rows or tables share is trained
    once for all that are made in the same folder. The same command again goes on with what is not finished. OUTPUT has
    the table as .md, .tex, .csv and .json, and OUTPUT/systems a cross-validation with its report for each system.

    Rows that cannot be trained stay empty, with the reason in the notes: models that this version does not have, or
    settings that a model refuses. Models that know culture groups are told those of test clips; with
    --set tell_culture=false they are not. Epochs are chosen on a part of the training clips; --paper-protocol chooses
    them on the test fold, as some of the papers did.

    Examples:

    ray-fer reproduce --list

    ray-fer reproduce cafer-table-3 --data synthfer --quick -o repro

    ray-fer reproduce cafer-table-4 --data dfew-clips --aus dfew-aus -o repro --set gpus_per_worker=1

    ray-fer reproduce cafer-figure-6 --data dfew-clips --aus dfew-aus -o repro --rows CA-FER --seeds 1,2,3

    ray-fer reproduce eila-table-5 --data stills -o repro --set pretrained=resnet50v2_notop.h5

    ray-fer reproduce ethnicmer-table-4 --data micro-clips -o repro --set pretrained=resnet18-f37072fd.pth

    Mixtures of datasets (eila-table-3, -5 and -6) are drawn from one clip store that holds EiLA, SFEW and FER2013, and
    trained side by side. The prima facie study (ethnicmer-table-4) trains no model: it needs clips with optical flow,
    and takes --set pretrained=FILE, subjects, draws and trees.

    On SynthFER nothing compares to the papers: its table has our figures alone, for each strength of the planted
    differences between culture groups, what each system gains over the culture-agnostic one, and a plot. Without
    --quick it is made for GPUs (--set gpus_per_worker=0.25 puts four trials on each). A trial that fails does not end
    the others: its system is left out of the table, and the exit code is 1.
    """
    from ray_fer.evaluation.tables import render
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.reproduce import reproduce as reproduced
    from ray_fer.training.reproduce_plan import ReproduceOptions

    if list_tables:
        _print_list(as_json)
        return
    if table is None or data is None or output is None:
        raise ValueError("give TABLE, --data and --output; `ray-fer reproduce --list` names the tables")
    options = ReproduceOptions(
        table=table, data=data, output=output, quick=quick,
        strengths=() if strengths is None else fractions(strengths, "strengths"),
        rows=tuple(rows or ()), recipe=recipe, settings=tuple(settings or ()),
        seeds=numbers(seeds, "seeds"), aus=aus, priors=priors_file, paper_protocol=paper_protocol,
        any_dataset=any_dataset, parallel=parallel, faces=faces, mlflow=mlflow, overwrite=overwrite,
        command=command_line("reproduce"),
    )  # fmt: skip
    try:
        with only_json(True), watching() as watch:  # the table, too, is printed for programs
            done = reproduced(options, watch, say, ray_session)
    except KeyboardInterrupt:
        say("interrupted; trials that are finished stay, and the same command goes on with the others")
        raise
    print(json.dumps(done.content, ensure_ascii=False) if as_json else render([done.table], "markdown"))
    for path in () if as_json else done.files:
        print(path)
    for name, reason in done.failed.items():
        say(f"failed: {name}: {reason}")
    if done.failed:
        raise SystemExit(1)


def _print_list(as_json: bool) -> None:
    from ray_fer.evaluation.published_tables import tables
    from ray_fer.training.systems import can_be_made, why_not

    listed: list[dict[str, Any]] = [
        {
            "id": one.id, "kind": one.kind, "title": one.title, "dataset": one.dataset, "protocol": one.protocol.split,
            "rows": can_be_made(one), "refused": why_not(one),
        }
        for one in tables()
    ]  # fmt: skip
    if as_json:
        print(json.dumps(listed, ensure_ascii=False))
        return
    for one in listed:
        protocol = "" if one["protocol"] == "none" else f", {one['protocol']}"
        print(f"{one['id']:20} {one['dataset']}{protocol}: {one['title']}")
        print(f"{'':20} {'; '.join(one['rows']) or 'nothing of it can be made with this version'}")
