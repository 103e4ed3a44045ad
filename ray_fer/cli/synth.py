"""`ray-fer synth`: render SynthFER, check it, look at it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.datasets.synthfer.check import CheckReport


@exit_on_bad_input
def synth(
    output: Annotated[Path | None, typer.Argument(help="folder for videos, manifest.parquet and truth")] = None,
    clips: Annotated[int, typer.Option(min=1, help="clips in all")] = 112,
    val_share: Annotated[float, typer.Option(help="share of the clips for validation; its subjects are its own")] = 0.1,
    test_share: Annotated[float, typer.Option(help="share of the clips for testing; its subjects are its own")] = 0.2,
    preset: Annotated[str, typer.Option(help="balanced, gccfer, micro or scene")] = "balanced",
    strength: Annotated[
        float, typer.Option(help="how far the groups differ: 0 nothing, 0.5 in style, 1 in what a pattern means")
    ] = 0.5,
    occlusion: Annotated[float, typer.Option(help="share of the clips with a part of the face hidden")] = 0.0,
    scene_agreement: Annotated[float, typer.Option(help="share of the scenes that fit the label")] = 0.9,
    faces: Annotated[Path | None, typer.Option(help="folder of photographs to use instead, one face each")] = None,
    seed: Annotated[int, typer.Option(help="same seed, same clips")] = 42,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one per CPU)")] = None,
    check: Annotated[bool, typer.Option("--check", help="read planted AUs back instead of writing clips")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="write OUTPUT/preview.png instead of clips")] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Render SynthFER clips: photographs moved by known Action Units, with a known truth about four groups."""
    from ray_fer.datasets.synthfer import SynthOptions, generate, plan, split_counts
    from ray_fer.datasets.synthfer.photos import folder_splits

    options = SynthOptions(preset, seed, strength, occlusion, scene_agreement, faces)
    console = Console(stderr=True)
    if faces is not None:
        for report in folder_splits(faces)[1]:
            console.print(f"passed over: {report}", highlight=False, soft_wrap=True)
    if check:
        from ray_fer.datasets.synthfer.check import check as read_back

        with _bar("reading AUs back", console) as advance:
            result = read_back(options, progress=advance)
        if as_json:
            print(json.dumps(result.as_json()))
        else:
            _show(result)
        return
    if output is None:
        raise ValueError("give the folder to write to (or --check, which writes nothing)")
    if preview:
        from ray_fer.datasets.synthfer.preview import write_preview

        print(write_preview(options, output / "preview.png"))
        return
    specs = plan(split_counts(clips, val_share, test_share), options)
    with _bar("rendering", console) as advance:
        manifest = generate(specs, output, workers, advance, options, overwrite)
    print(manifest)


@exit_on_bad_input
def bench_synth(
    preset: Annotated[str, typer.Option(help="balanced, gccfer, micro or scene")] = "balanced",
    batch_size: Annotated[int, typer.Option(min=1, help="clips rendered at once")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="duration of each measurement")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Measure how fast SynthFER is rendered."""
    from rich.table import Table

    from ray_fer.datasets.synthfer.speed import measure_speed

    speeds = measure_speed(preset, batch_size, seconds)
    if as_json:
        print(json.dumps([dataclasses.asdict(speed) for speed in speeds]))
        return
    table = Table(title=f"SynthFER frames per second, preset {preset}")
    for column in ("device", "way", "frames/s", "ratio"):
        table.add_column(column, justify="right" if column in ("frames/s", "ratio") else "left")
    for speed in speeds:
        table.add_row(speed.device, speed.way, f"{speed.frames_per_second:.0f}", f"{speed.ratio:.2f}")
    Console().print(table)


@exit_on_bad_input
def calibrate_blendshapes(
    output: Annotated[Path | None, typer.Argument(help="JSON file (default: the map inside the package)")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of the faces and their AUs")] = 42,
    frames: Annotated[int, typer.Option(min=8, help="frames of each face")] = 64,
) -> None:
    """Fit the map from MediaPipe's blendshapes to AUs on SynthFER, and show it on faces it was not fitted on."""
    from rich.table import Table

    from ray_fer.action_units.blendshape_map import PACKAGED
    from ray_fer.datasets.synthfer.calibration import CalibrationOptions, calibrate

    with _bar("faces", Console(stderr=True)) as progress:
        fitted = calibrate(CalibrationOptions(seed=seed, frames=frames), progress)
    table = Table(title=f"On {fitted.held_out_identities} held-out faces: calibrated / documented map")
    for column in ("AU", "r within a face", "r over all", "mean absolute error", "map"):
        table.add_column(column)
    for au, one in fitted.aus.items():
        now, before = one.held_out, one.held_out_documented
        table.add_row(
            au + ("" if one.reliable else " (unreliable)"), f"{now.within:.2f} / {before.within:.2f}",
            f"{now.correlation:.2f} / {before.correlation:.2f}", f"{now.mae:.3f} / {before.mae:.3f}",
            "calibrated" if one.calibrated else "documented",
        )  # fmt: skip
    Console().print(table)
    print(fitted.write(PACKAGED if output is None else output))


@contextmanager
def _bar(title: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, as a function of (done, in all)."""
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


def _show(report: CheckReport) -> None:
    from rich.table import Table

    table = Table(title=f"Correlation of planted and read AUs, {report.frames} frames each")
    for column in ("AU", "read from", "planted alone", "among others", "reading at 1", "within subjects"):
        table.add_column(column, overflow="fold")
    for row in report.aus:
        shapes = dict.fromkeys(shape.removesuffix("Left").removesuffix("Right") for shape in row.blendshapes)
        table.add_row(
            "+".join(row.aus), " ".join(shapes), f"{row.alone:.2f}", f"{row.mixed:.2f}",
            f"{row.reading_at_1:+.2f}", f"{row.subjects:.2f}",
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for row in report.aus:
        if row.limit:
            console.print(f"{'+'.join(row.aus)}: {row.limit}")
    faces = ", ".join(f"{Path(name).name} {residual:.2f}" for name, residual in report.identities.items())
    console.print(f"faces (strongest AU left in them): {faces}")
    console.print(f"a face is found in {report.face_rate:.1%} of {report.face_frames} frames of preset gccfer")
