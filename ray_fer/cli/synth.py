"""`ray-fer synth`: render SynthFER."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def synth(
    output: Annotated[Path, typer.Argument(help="folder to write videos and manifest.parquet to")],
    clips: Annotated[int, typer.Option(min=1, help="training clips")] = 56,
    val: Annotated[int, typer.Option(min=0, help="validation clips (training identities)")] = 0,
    test: Annotated[int, typer.Option(min=0, help="test clips (held-out identities)")] = 28,
    seed: Annotated[int, typer.Option(help="same seed, same clips")] = 42,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one per CPU)")] = None,
) -> None:
    """Render SynthFER clips: photographs moved by known Action Units."""
    from rich.progress import track

    from ray_fer.datasets.synthfer import generate, plan

    counts = {"train": clips, "val": val, "test": test}
    specs = [spec for split, count in counts.items() if count for spec in plan(count, seed, split)]
    ticks = iter(track(range(len(specs)), description="rendering", console=Console(stderr=True)))
    done = 0

    def advance(finished: int, _: int) -> None:
        nonlocal done
        for _tick in range(finished - done):
            next(ticks, None)
        done = finished

    print(generate(specs, output, workers, advance))
    next(ticks, None)
