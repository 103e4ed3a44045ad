"""Benchmark of preprocessing: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.options import AsJson
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def bench_preprocess(
    clips: Annotated[int, typer.Option(min=2, help="clips whose speed and memory are measured")] = 500,
    few_clips: Annotated[int, typer.Option(min=2, help="clips of the memory measurement to compare with")] = 50,
    baseline_clips: Annotated[int, typer.Option(min=2, help="clips for the plain script and for the floor")] = 48,
    frames: Annotated[int, typer.Option(min=100, help="frames of the long video whose AUs are extracted")] = 4500,
    output: Annotated[Path | None, typer.Option(help="also write the figures to this JSON file")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare preprocessing with a plain script and with the cost of its parts; measure memory and AU extraction."""
    from ray_fer.preprocessing import speed
    from ray_fer.serving.local_ray import ray_session

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="ray-fer-bench-") as name:
        folder = Path(name)
        say(f"making {clips} clips of 5 s, 720p")
        manifests = {count: speed.make_clips(folder / str(count), count) for count in {few_clips, clips}}
        videos = sorted((folder / str(clips) / "videos").glob("*.mp4"))[:baseline_clips]
        baselines: list[tuple[speed.Speed, speed.Speed]] = []

        def measure_baselines(some: list[Path]) -> None:
            say(f"the plain script and the floor, {len(some)} clips")
            baselines.append((speed.sequential(some), speed.floor(some, cores)))

        measure_baselines(videos[::2])
        memories = []
        with ray_session():
            speed.warm_up(manifests[few_clips], folder / "warm")
            for count in (few_clips, clips):
                say(f"preprocessing {count} clips")
                measured, memory = speed.ours(manifests[count], count, folder / "clips")
                memories.append(memory)
            measure_baselines(videos[1::2])
            plain, floor = (speed.mean_speed(both) for both in zip(*baselines, strict=True))
            speeds = [plain, measured, floor]
            say(f"AUs of every frame of videos of {frames // 10} and {frames} frames")
            au = [speed.frame_aus(folder, count) for count in (frames // 10, frames)]
    report = {
        "cores": cores, "speeds": [vars(one) for one in speeds], "memory": [vars(one) for one in memories],
        "frame_aus": [vars(one) for one in au],
    }  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")
    if as_json:
        print(json.dumps(report))
        return
    table = Table(title=f"Clips of 5 s, 720p, 30 frames/s -> 16 aligned faces, {cores} cores")
    for column in ("way", "clips/s", "of the plain script", "of the floor", "seconds per clip and core"):
        table.add_column(column)
    for one in speeds:
        parts = ", ".join(f"{part} {seconds:.3f}" for part, seconds in one.parts.items())
        rate = one.clips_per_second
        table.add_row(
            one.way,
            f"{rate:.2f}",
            f"{rate / plain.clips_per_second:.2f}",
            f"{rate / floor.clips_per_second:.2f}",
            parts,
        )
    Console().print(table)
    table = Table("clips", "peak memory, MB", title="Memory of preprocessing, with Ray and all workers")
    for memory in memories:
        table.add_row(str(memory.clips), f"{memory.peak_mb:.0f}")
    Console().print(table)
    table = Table("frames", "frames/s", "peak memory, MB", title="Action Units of every frame of one video")
    for extracted in au:
        table.add_row(str(extracted.frames), f"{extracted.frames_per_second:.1f}", f"{extracted.peak_mb:.0f}")
    Console().print(table)
