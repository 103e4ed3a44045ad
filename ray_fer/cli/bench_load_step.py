"""Benchmark of autoscaling: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ray_fer.cli.bench_stream import Servers, broker
from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def bench_load_step(
    bootstrap_servers: Servers = None,
    low: Annotated[int, typer.Option(min=1, help="live streams before and after the step")] = 2,
    high: Annotated[int, typer.Option(min=2, help="live streams during the step")] = 14,
    workers: Annotated[int, typer.Option(min=2, help="stream workers at most")] = 4,
    before: Annotated[float, typer.Option(min=5, help="seconds before the step")] = 30.0,
    during: Annotated[float, typer.Option(min=10, help="seconds of the step")] = 120.0,
    after: Annotated[float, typer.Option(min=10, help="seconds after it")] = 120.0,
    frame_ms: Annotated[float, typer.Option(min=1, help="milliseconds that the stages take for a frame")] = 60.0,
    output: Output = None,
    plot: Annotated[
        Path | None, typer.Option(help="also draw streams, workers and lag over time into this PNG")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch stream workers come and go with the load, and the lag return to nothing; fail when a window is lost.

    The stages are timed, and use no processor: a frame takes --frame-ms, as on an accelerator elsewhere, so that one
    worker keeps up with five streams.
    """
    from ray_fer.serving.load_step import StepPlan, load_step, settled_s
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.serving.stream_plots import plot_step

    plan = StepPlan(
        low=low, high=high, workers=workers, before_s=before, during_s=during, after_s=after, frame_ms=frame_ms
    )
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-step-")))
        kafka, _ = broker(bootstrap_servers, work, stack)
        stack.enter_context(ray_session())
        seen = load_step(kafka, plan, say)
    settled = settled_s(seen.moments, before, plan.target_lag)
    report = vars(seen) | {
        "moments": [one._asdict() for one in seen.moments], "most_replicas": seen.most_replicas, "settled_s": settled
    }  # fmt: skip
    printed = hand_over(report, output, as_json)
    if plot is not None:
        say(f"plot: {plot_step(seen, plot)}")
    if not printed:
        print(
            f"{seen.windows} windows: {seen.missing} missing, {seen.repeated} twice; latency p50 {seen.p50_s:.2f} s, "
            f"p99 {seen.p99_s:.2f} s; 1 to {seen.most_replicas} workers and back to {seen.moments[-1].replicas}; "
            + ("the lag did not return" if settled is None else f"the lag was back {settled:.0f} s after the step")
        )
    if seen.missing or seen.repeated:
        raise SystemExit(1)
