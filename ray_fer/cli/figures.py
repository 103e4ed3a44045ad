"""What every benchmark does with its figures besides printing them as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Output = Annotated[Path | None, typer.Option(help="also write the figures to this JSON file")]


def hand_over(report: dict[str, Any], output: Path | None, as_json: bool) -> bool:
    """Write the figures to `output`, if there is one, and print them with `as_json`; whether they were printed."""
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")
    if as_json:
        print(json.dumps(report))
    return as_json
