"""Benchmark of the HTTP API: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.bench_stream import Bundle
from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.serving.serve_speed import Answered


@exit_on_bad_input
def bench_serve(
    bundle: Bundle = None,
    clients: Annotated[str, typer.Option(help="numbers of clients at once, separated by commas")] = "1,2,4,8,16,32",
    seconds: Annotated[float, typer.Option(min=2, help="seconds of each trial")] = 20.0,
    video_seconds: Annotated[float, typer.Option(min=1, max=60, help="length of the video of a request")] = 6.0,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Find how fast videos and live cameras are answered over HTTP and WebSockets, and what batches bring.

    First the same requests in plain loops, one process for each core. Then clients of the API: with the stages in
    replicas of their own, and with the stages in replicas of the API, one for each core. Then live cameras. Then the
    expression stage alone, with and without batches.
    """
    from ray_fer.bundle import PACKAGED
    from ray_fer.serving import serve_speed
    from ray_fer.serving.cameras import record_footage, record_video
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.streaming.broker import free_port

    counts = _counts(clients)
    folder = (bundle or PACKAGED).resolve()
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-bench-")))
        footage = record_footage(work / "footage", video_seconds)
        video = record_video(footage[0], work / "request.mp4")
        rate = serve_speed.direct(folder, video, seconds, cores)
        say(f"directly, {cores} processes: {rate:.1f} windows/s")
        stack.enter_context(ray_session())
        report: dict[str, Any] = {"cores": cores, "direct_windows_per_s": rate, "video_bytes": video.stat().st_size}
        port = free_port()
        for name, faces, apis in (("replicas", cores, 1), ("api", 0, cores)):
            with serve_speed.serving(folder, faces, apis, port) as url:
                report[f"http_{name}"] = [
                    _told(f"HTTP, stages in {name}", serve_speed.http_trial(url, video, count, seconds))
                    for count in counts
                ]
                if name == "replicas":
                    report["live"] = [
                        _told("live cameras", serve_speed.live_trial(url, footage, count, seconds)) for count in counts
                    ]
        report["batching"] = [
            {"together": together}
            | _told(f"batches of {together}", serve_speed.batching(folder, together, count, seconds, port))
            for together in (1, 64)
            for count in counts
        ]
    report["overhead"] = {name: rate / _saturated(report[f"http_{name}"], cores) - 1 for name in ("replicas", "api")}
    if not hand_over(report, output, as_json):
        _print(report)


def _told(what: str, trial: Answered) -> dict[str, Any]:
    say(f"{what}, {trial.clients} clients: {trial.windows_per_s:.1f} windows/s, p50 {trial.p50_s:.1f} s")
    return asdict(trial)


def _counts(clients: str) -> list[int]:
    try:
        counts = [int(one) for one in clients.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"--clients {clients}: write numbers of clients, such as 1,4,16")
    return counts


def _saturated(trials: list[dict[str, Any]], cores: int) -> float:
    """Windows per second where more clients bring no more: the median of the trials with two for each core, or more."""
    busy = [one for one in trials if one["clients"] >= 2 * cores] or trials
    return statistics.median(float(one["windows_per_s"]) for one in busy)


def _print(report: dict[str, Any]) -> None:
    console = Console()
    for name, title in (
        ("http_replicas", "POST /v1/predict, stages in replicas of their own"),
        ("http_api", "POST /v1/predict, stages in the API's replicas"),
        ("live", "WS /v1/live, cameras at 10 frames/s"),
        ("batching", "expression stage alone, one window a call"),
    ):
        together = ["batch"] if name == "batching" else []
        table = Table(*together, "clients", "requests/s", "windows/s", "p50, s", "p99, s", "skipped", title=title)
        for one in report[name]:
            given = [str(one["together"])] if together else []
            table.add_row(
                *given, str(one["clients"]), f"{one['requests_per_s']:.1f}", f"{one['windows_per_s']:.1f}",
                f"{one['p50_s']:.3f}", f"{one['p99_s']:.3f}", f"{one['skipped']:.0%}",
            )  # fmt: skip
        console.print(table)
    print(f"directly, {report['cores']} processes: {report['direct_windows_per_s']:.1f} windows/s")
    for name, share in report["overhead"].items():
        print(f"overhead of Serve and HTTP at saturation, stages in {name}: {share:.0%}")
