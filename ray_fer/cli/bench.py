"""Benchmarks of preprocessing and training: run by their jobs, not commands of `ray-fer`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.accelerator import bench_accelerator
from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.training import Settings
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def bench_preprocess(
    clips: Annotated[int, typer.Option(min=2, help="clips whose speed and memory are measured")] = 500,
    few_clips: Annotated[int, typer.Option(min=2, help="clips of the memory measurement to compare with")] = 50,
    baseline_clips: Annotated[int, typer.Option(min=2, help="clips for the plain script and for the floor")] = 48,
    frames: Annotated[int, typer.Option(min=100, help="frames of the long video whose AUs are extracted")] = 4500,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compare preprocessing with a plain script and with the cost of its parts; measure memory and AU extraction."""
    from ray_fer.preprocessing import speed
    from ray_fer.serving.local_ray import ray_session

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
    if hand_over(report, output, as_json):
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


@exit_on_bad_input
def bench_train(
    recipe: Annotated[
        str | None, typer.Option(help="recipe whose model is trained (default: cafer-small; with --gpu cafer)")
    ] = None,
    settings: Settings = None,
    clips: Annotated[int, typer.Option(min=28, help="SynthFER clips that are trained on")] = 112,
    epochs: Annotated[int, typer.Option(min=2, help="epochs; the first one does not count")] = 5,
    nodes: Annotated[int, typer.Option(min=0, help="nodes of the simulated cluster; 0 leaves it out")] = 4,
    peak_tflops: Annotated[
        float | None, typer.Option(help="of the accelerator at this precision: also print how much of it is used (MFU)")
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option(
            "--gpu",
            help="instead: cafer, hdf or ous of the paper's size on one GPU, beside transformers' ViViT-B, X3D alone, "
            "or OUS without cached features",
        ),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="with --gpu: clips per step")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="with --gpu: steps that are measured")] = 50,
    compiled: Annotated[bool, typer.Option("--compile", help="with --gpu: torch.compile the models")] = False,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compare the training loop with bare PyTorch loops in memory; measure what each step costs beside the model.

    One worker per core unless --set workers=N; with --set gpus_per_worker=1 on GPUs. Augmentation is off in both.
    --gpu measures one GPU in bf16: clips/s, share of its measured matrix-product peak (MFU), memory.
    """
    from ray_fer.training.recipe import overridden
    from ray_fer.training.recipes import recipe as recipe_named

    if gpu:
        chosen = overridden(recipe_named(recipe or "cafer"), settings or [])
        bench_accelerator(chosen, batch, steps, clips, compiled, output, as_json)
        return
    from ray_fer.preprocessing.store_index import read_index
    from ray_fer.serving.local_ray import ray_session, simulated_cluster
    from ray_fer.training import speed
    from ray_fer.training.bundles import model_arguments
    from ray_fer.training.fit import TrainingClips
    from ray_fer.training.parts import classes_of
    from ray_fer.training.synthfer import SynthFerSize, synthfer_clips

    cores = len(os.sched_getaffinity(0))
    wanted = [f"workers={cores}", f"epochs={epochs}", "augment=null", f"evaluate_every={epochs}", *(settings or [])]
    made = overridden(recipe_named(recipe or "cafer-small"), wanted)
    with tempfile.TemporaryDirectory(prefix="ray-fer-bench-") as name:
        with ray_session():
            rendered = synthfer_clips(SynthFerSize(clips, 28, 28), made, Path(name), say)
            index = read_index(rendered.store)
            parts = TrainingClips(index.split("train"), index.split("val"), classes_of(index), rendered.priors.cultures)
            arguments = model_arguments(made, parts, rendered.priors)
            loops, in_memory = speed.bare_loops(made.worker_range[1]), Path(name) / "clips.pt"
            speed.decode_clips(made, parts, in_memory)
            rounds = []
            for turn in ("once", "and again"):  # each loop's better turn counts: the machine has slow moments
                say(f"bare loops and ray_fer, {turn}")
                bare = [speed.bare(made, in_memory, arguments, loop, cores) for loop in loops]
                rounds.append([*bare, speed.ours(made, parts, arguments)])
        *best, measured = (max(pair, key=lambda one: one.clips_per_second) for pair in zip(*rounds, strict=True))
        overheads = []
        if nodes:
            say(f"steps of an empty model on a simulated cluster of {nodes} nodes")
            with simulated_cluster(nodes, cpus=2):
                overheads = speed.step_overhead(made, parts, [1, 2, nodes])
    fastest = max(one.clips_per_second for one, loop in zip(best, loops, strict=True) if loop.one_model)
    ratio = measured.clips_per_second / fastest
    flops = speed.flops_per_clip(made, arguments)
    report = {
        "recipe": made.name, "workers": measured.workers, "bare": [vars(one) for one in best],
        "ray_fer": vars(measured), "ratio": ratio,
        "empty_model": [vars(one) for one in overheads], "gflop_per_clip": flops / 1e9,
    }  # fmt: skip
    if peak_tflops is not None:
        report["mfu"] = flops * measured.clips_per_second / (peak_tflops * 1e12 * measured.workers)
    if hand_over(report, output, as_json):
        return
    table = Table(title=f"{made.name}, batch {made.batch_size}, {measured.workers} workers")
    for column in ("loop", "clips/s", "ray_fer / loop", "waiting for data", "s per step"):
        table.add_column(column)
    for one in (*best, measured):
        table.add_row(
            one.way, f"{one.clips_per_second:.1f}", f"{measured.clips_per_second / one.clips_per_second:.2f}",
            f"{one.waited:.1%}", f"{one.seconds_per_step:.3f}",
        )  # fmt: skip
    Console().print(table)
    if overheads:
        table = Table("workers", "ms per step", title=f"An empty model on {nodes} simulated nodes of this machine")
        for one in overheads:
            table.add_row(str(one.workers), f"{1000 * one.seconds_per_step:.1f}")
        Console().print(table)
    print(f"{flops / 1e9:.2f} GFLOP per clip" + (f", MFU {report['mfu']:.1%}" if peak_tflops is not None else ""))
