"""Benchmark of the stream: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.streaming.kafka_settings import KafkaSettings

Bundle = Annotated[Path | None, typer.Option(help="bundle to run (default: the one in the package)")]
Servers = Annotated[
    str | None, typer.Option(help="use this Kafka (default: an Apache Kafka of its own, for which it needs Java)")
]


@exit_on_bad_input
def bench_stream(
    bundle: Bundle = None,
    bootstrap_servers: Servers = None,
    streams: Annotated[int, typer.Option(min=0, help="live streams to begin with; 0 guesses")] = 0,
    hold: Annotated[float, typer.Option(min=10, help="seconds for which the lag must stay flat")] = 120.0,
    trials: Annotated[int, typer.Option(min=1, help="trials with live streams at most")] = 30,
    loop_seconds: Annotated[float, typer.Option(min=2, help="seconds that each loop in memory is measured")] = 20.0,
    backlog_streams: Annotated[int, typer.Option(min=1, help="streams of the backlog")] = 24,
    backlog_seconds: Annotated[float, typer.Option(min=10, help="seconds of each stream of the backlog")] = 60.0,
    output: Output = None,
    plot: Annotated[Path | None, typer.Option(help="also draw latency and memory over time into this PNG")] = None,
    as_json: AsJson = False,
) -> None:
    """Find how many live streams of 640x480 JPEGs at 30 frames/s this machine answers, beside plain loops in memory.

    Kafka, cameras, workers and models share the machine. First the same windows in bare loops, one for each core: the
    code of the stream without Kafka and Ray, and the naive design that searches every frame. Then the deployed graph
    on a topic that is full already: with stages in replicas of their own, and with stages in the workers, one for each
    core. The faster of the two gets the live streams.
    """
    from ray_fer.bundle import PACKAGED, read_config
    from ray_fer.serving import bare_loop, stream_speed, window_parts
    from ray_fer.serving.cameras import record_footage
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.streaming.options import StreamOptions
    from ray_fer.streaming.windows import WindowConfig

    folder = (bundle or PACKAGED).resolve()
    options = StreamOptions(windows=WindowConfig(frames=read_config(folder).preprocessing.frames))
    stream_speed.measured_backlog(backlog_streams, backlog_seconds, options.windows)
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-bench-")))
        kafka, pids = broker(bootstrap_servers, work, stack)
        say("recording footage")
        footage = record_footage(work / "footage")
        parts, others = window_parts.parts_of_a_window(folder, footage, options)
        say(f"bare loops, {cores} at once")
        bare = [bare_loop.bare(folder, footage, options, loop_seconds / 2, cores)]
        naive = bare_loop.naive(folder, footage, options, loop_seconds, cores)
        stack.enter_context(ray_session())
        replicas = stream_speed.System(folder, kafka, options, faces=cores, pids=pids)
        systems = {
            "stages in replicas": replicas,
            "stages in workers": replace(replicas, faces=0, workers=cores),
        }
        rates = {}
        for layout, system in systems.items():
            say(f"{layout}, on a backlog of {backlog_streams} streams of {backlog_seconds:g} s")
            rates[layout] = stream_speed.backlog(system, footage, backlog_streams, backlog_seconds)
            # Before, between and after, as a machine's clock is not the same from minute to minute.
            bare.append(bare_loop.bare(folder, footage, options, loop_seconds / 2, cores))
        floor = sum(one.windows_per_s for one in bare) / len(bare)
        told = ", ".join(f"{layout} {rate:.1f}" for layout, (rate, _) in rates.items())
        say(f"windows/s: {told}; the bare loop {floor:.1f}, the naive one {naive.windows_per_s:.1f}")
        fastest = max(rates, key=lambda layout: rates[layout][0])
        first = streams or max(1, int(0.7 * rates[fastest][0]))
        tried = stream_speed.most_streams(systems[fastest], footage, first, hold, trials, say)
    best = stream_speed.highest(tried)
    report: dict[str, Any] = {
        "cores": cores,
        "parts_ms": parts,
        "other_ways": [vars(one) for one in others],
        "bare_windows_per_s": floor,
        "naive_windows_per_s": naive.windows_per_s,
        "layouts": {
            layout: {
                "windows_per_s": rate,
                "of_bare": rate / floor,
                "of_naive": rate / naive.windows_per_s,
                "cpu_ms_per_window": {part: 1000 * taken / (rate * use.seconds) for part, taken in use.cpu_s.items()},
            }
            for layout, (rate, use) in rates.items()
        },
        "live_layout": fastest,
        "trials": [
            {name: value for name, value in vars(one).items() if name not in ("latency", "use")} for one in tried
        ],
        "live_streams": 0 if best is None else best.streams,
        "live_cpu_share": {} if best is None else {n: s / best.use.seconds for n, s in best.use.cpu_s.items()},
        "live_memory_mb": {} if best is None else {n: max(m for _, m in s) / 1e6 for n, s in best.use.memory.items()},
    }
    printed = hand_over(report, output, as_json)
    if plot is not None:
        from ray_fer.serving.stream_plots import plot_trials

        say(f"plot: {plot_trials(tried, plot)}")
    if not printed:
        _print(report)


def broker(bootstrap_servers: str | None, folder: Path, stack: ExitStack) -> tuple[KafkaSettings, dict[int, str]]:
    """Settings for that Kafka, or for one that is started; and the names of the processes that were started."""
    from ray_fer.streaming.apache_kafka import FAST, KafkaCluster, missing_tools
    from ray_fer.streaming.kafka import check_broker
    from ray_fer.streaming.kafka_settings import KafkaSettings

    if bootstrap_servers is not None:
        check_broker(bootstrap_servers)
        return KafkaSettings(bootstrap_servers=bootstrap_servers), {}
    if missing := missing_tools():
        raise ValueError(
            f"no {' and no '.join(missing)} to run an Apache Kafka with; install Java 17 and Maven, or name a Kafka "
            "with --bootstrap-servers"
        )
    say("starting Apache Kafka")
    cluster = stack.enter_context(KafkaCluster(folder / "kafka", java=FAST))
    return KafkaSettings(bootstrap_servers=cluster.bootstrap_servers), dict.fromkeys(cluster.pids(), "broker")


def _print(report: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"Windows per second, {report['cores']} cores")
    for column in ("way", "windows/s", "of the bare loop", "of the naive loop"):
        table.add_column(column)
    bare, naive = report["bare_windows_per_s"], report["naive_windows_per_s"]
    for way, rate in (
        ("naive: every frame decoded and searched", naive),
        ("bare: chosen frames, from memory", bare),
        *((f"ray_fer, {layout}", one["windows_per_s"]) for layout, one in report["layouts"].items()),
    ):
        table.add_row(way, f"{rate:.2f}", f"{rate / bare:.2f}", f"{rate / naive:.1f}")
    console.print(table)
    table = Table(title="One window alone: ms of processor time")
    for part in report["parts_ms"]:
        table.add_column(part)
    table.add_row(*(f"{ms:.1f}" for ms in report["parts_ms"].values()))
    console.print(table)
    table = Table(
        "part", "another way", "ms now", "ms so", "of the whole", "other answers", title="The same done otherwise"
    )
    for one in report["other_ways"]:
        saved = (one["ms"] - one["instead_ms"]) / sum(report["parts_ms"].values())
        other = "none" if one["other_answers"] is None else f"{one['other_answers']:.0%}"
        table.add_row(
            one["part"], one["way"], f"{one['ms']:.1f}", f"{one['instead_ms']:.1f}", f"{-saved:+.0%}", other
        )  # fmt: skip
    console.print(table)
    table = Table("layout", "part", "ms", title="The deployed graph: ms of processor time per window")
    for layout, one in report["layouts"].items():
        for part, ms in sorted(one["cpu_ms_per_window"].items(), key=lambda item: -item[1]):
            table.add_row(layout, part, f"{ms:.1f}")
    console.print(table)
    table = Table(title=f"Live streams, 640x480 JPEG, 30 frames/s each; {report['live_layout']}")
    for column in ("streams", "lag", "seconds", "frames/s in", "windows/s out", "p50 s", "p99 s"):
        table.add_column(column)
    for one in report["trials"]:
        table.add_row(
            str(one["streams"]), "flat" if one["flat"] else "grows", f"{one['seconds']:.0f}",
            f"{one['frames_per_s']:.0f}", f"{one['windows_per_s']:.1f}", f"{one['p50_s']:.2f}", f"{one['p99_s']:.2f}",
        )  # fmt: skip
    console.print(table)
    table = Table(title=f"Who uses the machine at {report['live_streams']} live streams")
    for column in ("part", "cores", "peak memory, MB"):
        table.add_column(column)
    for part, share in sorted(report["live_cpu_share"].items(), key=lambda item: -item[1]):
        table.add_row(part, f"{share:.2f}", f"{report['live_memory_mb'][part]:.0f}")
    console.print(table)
