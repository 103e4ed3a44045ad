"""`ray-fer keys`: who may use the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ray_fer.errors import exit_on_bad_input

KeysFile = Annotated[Path, typer.Option("--file", help="file of keys; it holds hashes, never keys")]

keys = typer.Typer(
    help="Make, list and remove keys of the HTTP API (`ray-fer serve --keys FILE`).", no_args_is_help=True
)


@keys.command()
@exit_on_bad_input
def create(
    name: Annotated[str, typer.Argument(help="whose key it is, such as a person's or a program's name")],
    file: KeysFile = Path("keys.json"),
    per_minute: Annotated[int | None, typer.Option(min=1, help="requests a minute, of each replica of the API")] = None,
) -> None:
    """Make a key and print it, once: it cannot be read back from the file.

    Whoever has it sends `Authorization: Bearer KEY`. A running deployment takes it within a second.
    """
    from ray_fer.serving.keys import add_key

    print(add_key(file, name, per_minute))
    typer.echo(f"keep it: {file} has only its hash", err=True)


@keys.command("list")
@exit_on_bad_input
def list_keys(file: KeysFile = Path("keys.json")) -> None:
    """Say whose keys there are."""
    from rich.console import Console
    from rich.table import Table

    from ray_fer.serving.keys import read_keys

    table = Table("name", "made", "requests a minute", "SHA-256 begins with")
    for entry in read_keys(file):
        limit = "any number" if entry.per_minute is None else str(entry.per_minute)
        table.add_row(entry.name, f"{entry.created:%Y-%m-%d %H:%M} UTC", limit, entry.sha256[:12])
    Console().print(table)


@keys.command()
@exit_on_bad_input
def remove(name: Annotated[str, typer.Argument(help="whose key ends")], file: KeysFile = Path("keys.json")) -> None:
    """Take a key out of the file. A running deployment refuses it within a second."""
    from ray_fer.serving.keys import remove_key

    remove_key(file, name)
    print(f"{name}'s key is removed from {file}")
