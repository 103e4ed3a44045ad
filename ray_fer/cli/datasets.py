"""Commands that make manifests from datasets: import, split, mix."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.datasets.reading import Reading

SHOWN_PROBLEMS = 20
MAX_COLUMNS = 30
Output = Annotated[Path, typer.Option("--output", "-o", help="manifest to write (.parquet)")]


@exit_on_bad_input
def import_dataset(
    name: Annotated[
        str,
        typer.Argument(
            help="dfew ferv39k mafw afew fer2013 sfew casme2 samm eila gccfer; folder or csv for your own data"
        ),
    ],
    root: Annotated[Path, typer.Argument(help="folder of the dataset as you downloaded it")],
    output: Output,
    variant: Annotated[
        str | None, typer.Option(help="which release's lists: official, s2d, dfer-clip, mae-dfer ... (default: found)")
    ] = None,
    lists: Annotated[Path | None, typer.Option(help="folder of the lists, if not below ROOT")] = None,
    media: Annotated[Path | None, typer.Option(help="folder of the clips, if not one of the usual below ROOT")] = None,
    labels: Annotated[
        str | None, typer.Option(help="casme2, samm: ethnicmer (default), megc, or emotions (as coded)")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option(help="folder, csv: a CSV of label,expression that says what your labels mean")
    ] = None,
    ethnicity: Annotated[
        Path | None, typer.Option(help="casme2, samm: a CSV of subject,ethnicity; gccfer: the JSON of DFEW ethnicities")
    ] = None,
    dfew: Annotated[Path | None, typer.Option(help="gccfer: folder of DFEW, for the clips taken from it")] = None,
    images: Annotated[
        Path | None, typer.Option(help="fer2013: where to write the images of the CSV (default: beside the output)")
    ] = None,
    split_rule: Annotated[
        str | None,
        typer.Option(help="eila: released (default), section-3.1, or group (nobody is in two splits)"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="fail on any problem, and on sizes that are not the published ones")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Read a dataset as it was released and write a manifest: one row per clip.

    For example: ray-fer import dfew /data/DFEW -o dfew.parquet

    Labels go through the named map of the release that is found. Rows that cannot be used are counted, shown, and
    written in full beside the output (.problems.csv). `ray-fer datasets` says what each NAME reads and which options
    it takes.
    """
    from ray_fer.datasets import read
    from ray_fer.datasets.manifest import write_manifest

    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another file or pass --overwrite")
    if name == "fer2013" and images is None:
        images = output.parent / f"{output.stem}_images"
    console = Console(stderr=True)
    with console.status(f"reading {root}"):
        reading = read(
            name, root, variant=variant, lists=lists, media=media, labels=labels, label_map=label_map,
            ethnicity=ethnicity, dfew=dfew, images=images, split_rule=split_rule,
        )  # fmt: skip
    problems = reading.report.problems
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"problem: {problem}", file=sys.stderr)
    if strict and (problems or reading.report.differences):
        first = problems[0] if problems else reading.report.differences[0]
        count = len(problems) + len(reading.report.differences)
        raise ValueError(f"{count} problems, the first: {first}; mend them, or leave out --strict")
    write_manifest(reading.clips, output)
    listed = output.with_suffix(".problems.csv")
    listed.unlink(missing_ok=True)
    if problems:
        reading.report.write_problems(listed)
        print(f"{len(problems)} problems; all of them: {listed}", file=sys.stderr)
    _show_reading(reading, output, as_json)


def datasets(as_json: AsJson = False) -> None:
    """List the datasets that `ray-fer import` reads."""
    from ray_fer.datasets.readers import READERS

    if as_json:
        print(json.dumps({name: {"reads": r.summary, "options": r.options} for name, r in READERS.items()}))
        return
    table = Table("name", "reads", "options", box=None, pad_edge=False)
    for name, reader in READERS.items():
        table.add_row(
            name, escape(reader.summary), " ".join(f"--{option.replace('_', '-')}" for option in reader.options)
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@exit_on_bad_input
def split(
    manifests: Annotated[list[Path], typer.Argument(help="manifests; several are joined to one (composite datasets)")],
    output: Output,
    scheme: Annotated[
        str, typer.Option(help="kfold (stratified on expression x culture), loso (one fold per subject), or fixed")
    ] = "kfold",
    folds: Annotated[int, typer.Option(min=2, help="kfold: number of folds")] = 5,
    val_share: Annotated[float, typer.Option(min=0, max=0.9, help="fixed: share of validation")] = 0.1,
    test_share: Annotated[float, typer.Option(min=0, max=0.9, help="fixed: share of test")] = 0.2,
    by_subject: Annotated[
        bool, typer.Option("--by-subject", help="kfold, fixed: nobody in two folds or splits")
    ] = False,
    seed: Annotated[int, typer.Option(help="same seed, same split")] = 42,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace folds or splits that the dataset came with")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Give clips folds or splits, and write them into a manifest.

    loso over several manifests is composite database evaluation (CDE), as MEGC and EthnicMER do it.
    """
    from ray_fer.datasets.manifest import read_manifest, write_rows
    from ray_fer.datasets.splits import fixed, kfold, loso

    if scheme not in ("kfold", "loso", "fixed"):
        raise ValueError(f"unknown scheme {scheme!r}; expected kfold, loso or fixed")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another file or pass --overwrite")
    parts = [read_manifest(manifest) for manifest in manifests]
    rows = [row for part in parts for row in part]
    people = Counter(subject for part in parts for subject in {row["subject_id"] for row in part} if subject)
    shared = [subject for subject, count in people.items() if count > 1]
    if shared:
        print(f"note: subject {shared[0]} is in several manifests, and taken for one person", file=sys.stderr)
    column = "split" if scheme == "fixed" else "fold"
    given = sum(row[column] is not None for row in rows)
    if given and not replace:
        raise ValueError(f"{given} clips have a {column} already (official?); keep it, or pass --replace")
    if scheme == "kfold":
        rows = kfold(rows, folds, seed, by_subject)
    elif scheme == "loso":
        rows = loso(rows)
    else:
        shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
        rows = fixed(rows, shares, seed, by_subject)
    write_rows(rows, output)
    _show(rows, output, as_json, {})


@exit_on_bad_input
def mix(
    base: Annotated[Path, typer.Argument(help="manifest that is taken whole")],
    extra: Annotated[Path, typer.Argument(help="manifest with splits, of which a part is added")],
    output: Output,
    fraction: Annotated[float, typer.Option(min=0, max=1, help="part of EXTRA's training and validation clips")],
    seed: Annotated[int, typer.Option(help="same seed, same clips")] = 42,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Add a part of one dataset to another, per class; the test split is EXTRA's (the EiLA paper's Table 3)."""
    from ray_fer.datasets.manifest import read_manifest, write_rows
    from ray_fer.datasets.mixture import mix as mix_rows

    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another file or pass --overwrite")
    rows = mix_rows(read_manifest(base), read_manifest(extra), fraction, seed)
    write_rows(rows, output)
    _show(rows, output, as_json, {})


def _show_reading(reading: Reading, output: Path, as_json: bool) -> None:
    import dataclasses

    report = reading.report
    extra: dict[str, Any] = {
        "variant": reading.variant,
        "problems": len(report.problems),
        "left_out": dict(report.left_out),
        "notes": report.notes,
        "differences": report.differences,
    }
    _show([dataclasses.asdict(clip) for clip in reading.clips], output, as_json, extra)


def _show(rows: list[dict[str, Any]], output: Path, as_json: bool, extra: dict[str, Any]) -> None:
    from ray_fer.datasets.summary import cross_table, summarise
    from ray_fer.labels import UNKNOWN_CULTURE

    if as_json:
        print(json.dumps(summarise(rows) | extra | {"manifest": str(output)}, ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    tables = [cross_table(rows, column) for column in ("split", "fold", "culture")]
    tables = [t for t in tables if t is not None and len(t.values) <= MAX_COLUMNS and t.values != [UNKNOWN_CULTURE]]
    for counts in tables or [cross_table(rows, "dataset")]:
        if counts is None:
            continue
        table = Table("label", *counts.values, "all", title=f"clips by {counts.column}", title_justify="left")
        for label, numbers in counts.counts.items():
            table.add_row(label, *map(str, numbers), str(sum(numbers)))
        totals = [sum(column_counts) for column_counts in zip(*counts.counts.values(), strict=True)]
        table.add_row("all", *map(str, totals), str(sum(totals)), style="bold")
        console.print(table)
    for note in extra.get("notes", []):
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    for difference in extra.get("differences", []):
        console.print(f"differs: {difference}", soft_wrap=True, highlight=False, markup=False)
    for reason, count in extra.get("left_out", {}).items():
        print(f"left out: {count} clips: {reason}")
    total = summarise(rows)
    what = f" ({extra['variant']})" if "variant" in extra else ""
    people = f" of {total['subjects']} people" if total["subjects"] else ""
    print(f"{output}: {total['clips']} clips{people}{what}, {extra.get('problems', 0)} problems")
