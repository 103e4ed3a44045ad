"""Soak test of the stream: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.bench_stream import Bundle, Servers, broker
from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def soak_stream(
    bundle: Bundle = None,
    bootstrap_servers: Servers = None,
    minutes: Annotated[float, typer.Option(min=0.2, help="how long")] = 15.0,
    streams: Annotated[int, typer.Option(min=1, help="live streams at once")] = 6,
    replaced_every: Annotated[
        float, typer.Option(min=10, help="seconds after which a stream ends and another comes")
    ] = 60.0,
    output: Output = None,
    plot: Annotated[Path | None, typer.Option(help="also draw memory and latency over time into this PNG")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the deployed graph on live streams that come and go; fail when memory grows or a window is not there once."""
    from ray_fer.bundle import PACKAGED, read_config
    from ray_fer.serving.cameras import record_footage
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.serving.soak import soak
    from ray_fer.serving.stream_plots import plot_soak
    from ray_fer.serving.stream_speed import System
    from ray_fer.streaming.options import StreamOptions
    from ray_fer.streaming.windows import WindowConfig

    folder = (bundle or PACKAGED).resolve()
    frames = read_config(folder).preprocessing.frames
    # Soon forgotten, so that the end of a stream's memory is soaked too.
    options = StreamOptions(windows=WindowConfig(frames=frames, forget_after=replaced_every))
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-soak-")))
        kafka, pids = broker(bootstrap_servers, work, stack)
        footage = record_footage(work / "footage")
        stack.enter_context(ray_session())
        system = System(folder, kafka, options, faces=len(os.sched_getaffinity(0)), pids=pids)
        done = soak(system, footage, streams, 60 * minutes, replaced_every, say)
    report = {name: value for name, value in vars(done).items() if name not in ("use", "latency")}
    report |= {"passed": done.passed(), "cpu_s": done.use.cpu_s}
    printed = hand_over(report, output, as_json)
    if plot is not None:
        say(f"plot: {plot_soak(done, plot)}")
    if not printed:
        table = Table("part", "MB after a third", "MB more at the end", "flat")
        for part, growth in sorted(done.growth.items()):
            last = done.use.memory[part][-1][1]
            table.add_row(
                part, f"{(last - growth) / 1e6:.0f}", f"{growth / 1e6:+.1f}", "yes" if done.flat[part] else "no"
            )
        Console().print(table)
        print(
            f"{done.windows} windows of {done.streams} streams in {done.seconds / 60:.1f} min: {done.missing} missing, "
            f"{done.repeated} twice; latency p50 {done.p50_s:.2f} s, p99 {done.p99_s:.2f} s"
        )
    if not done.passed():
        raise SystemExit(1)
