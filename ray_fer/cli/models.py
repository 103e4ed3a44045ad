"""`ray-fer models`: what can be trained, and what each model consists of."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_fer.cli.options import AsJson
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.models.describe import Comparison, Description


@exit_on_bad_input
def models(
    describe: Annotated[
        str | None, typer.Option(metavar="NAME", help="show this model's layers, size and published figures")
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="with --describe: the preset that trains on a CPU")] = False,
    as_json: AsJson = False,
) -> None:
    """List the models that can be trained, with their paper and how faithful they are, or describe one.

    "faithful" models are as their paper and released code say. Of "reconstructed" ones parts are published nowhere;
    the docstring of ray_fer/models/NAME.py says which are ours. Papers print G multiply-adds as GFLOPs.

    Example: ray-fer models --describe former_dfer
    """
    from ray_fer.models import card, names
    from ray_fer.models.describe import describe as described

    if describe is not None:
        found = described(describe, "tiny" if tiny else None)
        if as_json:
            print(json.dumps(_as_dict(found)))
        else:
            _print(found)
        return
    cards = {name: card(name) for name in names()}
    if as_json:
        listed = {
            name: {"title": one.title, "paper": one.paper, "status": one.status, "input": dataclasses.asdict(one.input)}
            for name, one in cards.items()
        }
        print(json.dumps(listed, ensure_ascii=False))
        return
    for name, one in cards.items():
        print(f"{name:16} {one.status:14} {one.input.frames:>3} x {one.input.size} px  {one.title}: {one.paper}")


def _print(found: Description) -> None:
    from rich.console import Console
    from rich.table import Table

    console, known, size = Console(), found.card, found.size
    console.print(f"[bold]{known.title}[/bold] ({found.name}, {known.status})", highlight=False)
    console.print(known.paper, highlight=False)
    frozen = size.parameters - size.trained
    console.print(
        f"input: {found.input.frames} frames of {found.input.size} x {found.input.size} px; "
        f"{_millions(size.parameters)} parameters{f', {_millions(frozen)} of them frozen' if frozen else ''}; "
        f"{_giga(size.macs)} G multiply-adds per clip ({2 * size.macs / 1e9:.4g} GFLOPs)",
        highlight=False,
    )
    table = Table(box=None, title_justify="left")
    for title in ("layer", "kind", "output of one clip", "parameters", "G multiply-adds"):
        table.add_column(title, justify="right" if title[0] in "pG" else "left")
    for layer in found.layers:
        table.add_row(layer.name, layer.kind, layer.output, f"{layer.parameters:,}", _giga(layer.macs))
    console.print(table)
    for one in found.comparisons:
        console.print(_published(one), highlight=False, markup=False)
    for weights in known.weights:
        console.print(f"public weights, with --set pretrained=FILE: {weights}", highlight=False, markup=False)


def _published(one: Comparison) -> str:
    theirs, ours = one.published, one.ours
    figures = []
    if theirs.parameters is not None:
        published = theirs.parameters * 1e6
        figures.append(
            f"{_millions(ours.parameters)} parameters, published {_millions(published)} "
            f"({_apart(ours.parameters, published)})"
        )
    if theirs.gmacs is not None:
        published = theirs.gmacs * 1e9
        figures.append(
            f"{_giga(ours.macs)} G multiply-adds, published {_giga(published)} ({_apart(ours.macs, published)})"
        )
    lines = [f"{theirs.what}, {theirs.input.frames} x {theirs.input.size} px ({theirs.source}):"]
    lines += [f"    {'; '.join(figures)}", *([f"    {theirs.reason}"] if theirs.reason else [])]
    return "\n".join(lines)


def _millions(count: float) -> str:
    return f"{count / 1e6:.4g} M"


def _giga(macs: float) -> str:
    return f"{macs / 1e9:.4g}"


def _apart(ours: float, theirs: float) -> str:
    return f"{100 * (ours / theirs - 1):+.1f} %"


def _as_dict(found: Description) -> dict[str, Any]:
    comparisons = [
        {
            "what": one.published.what, "source": one.published.source,
            "input": dataclasses.asdict(one.published.input),
            "published": {"parameters_m": one.published.parameters, "gmacs": one.published.gmacs},
            "ours": dataclasses.asdict(one.ours), "reason": one.published.reason,
        }
        for one in found.comparisons
    ]  # fmt: skip
    return {
        "name": found.name, "title": found.card.title, "paper": found.card.paper, "status": found.card.status,
        "input": dataclasses.asdict(found.input), **dataclasses.asdict(found.size),
        "layers": [dataclasses.asdict(layer) for layer in found.layers], "published": comparisons,
        "weights": list(found.card.weights),
    }  # fmt: skip
