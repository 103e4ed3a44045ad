"""`ray-fer compare`: reports beside each other and beside what the papers print."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def compare(
    reports: Annotated[
        list[Path] | None,
        typer.Argument(
            help="folders of reports: `ray-fer evaluate` and `ray-fer crossval` write them", show_default=False
        ),
    ] = None,
    format: Annotated[
        Literal["markdown", "latex", "csv"] | None,
        typer.Option("--format", help="of the table (default: by the suffix of --output, else markdown)"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write instead of printing")] = None,
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="put the papers' figures beside them where they compare")
    ] = True,
    table: Annotated[
        str | None,
        typer.Option("--table", help="instead: a published table as printed, such as hdf-table-1, or 'list'"),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="a column for the recall of each class")] = False,
    per_culture: Annotated[bool, typer.Option("--per-culture", help="UAR and WAR of each culture group")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make one table of several reports, with the published figures in a block of their own.

    For example: ray-fer compare runs/dfew-cafer runs/dfew-hdf --per-class -o dfew.tex

    Rows share a block only if dataset, protocol and classes are the same; notes say what was left out and why. The
    best of each column in a block is bold. A † marks an epoch that was chosen on the test fold, as most released code
    does. Reports on SynthFER get a table of their own: nothing published compares to them.

    The papers' tables are in the package: --table list names them, --table ID prints one, with what does not fit
    together in it.
    """
    from ray_fer.evaluation.compare import compare as compared
    from ray_fer.evaluation.compare import read_report
    from ray_fer.evaluation.tables import FORMATS, published_comparison, published_list, render

    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another file or pass --overwrite")
    if table is not None and reports:
        raise ValueError("--table prints a published table alone; leave out either it or the reports")
    if table == "list":
        made = [published_list()]
    elif table is not None:
        made = [published_comparison(table)]
    elif reports:
        made = compared([read_report(report) for report in reports], published, per_class, per_culture)
    else:
        raise ValueError("nothing to compare: give folders that `ray-fer evaluate` wrote, or --table ID (--table list)")
    chosen = format or FORMATS.get(output.suffix.lower() if output else "", "markdown")
    if as_json:
        text = json.dumps([dataclasses.asdict(one) for one in made], ensure_ascii=False) + "\n"
    else:
        text = render(made, chosen)
        if chosen == "csv":
            for note in (note for one in made for note in one.notes):
                print(f"note: {note}", file=sys.stderr)
    if output is None:
        print(text, end="")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    print(f"{output}: {sum(len(block.rows) for one in made for block in one.blocks)} rows", file=sys.stderr)
