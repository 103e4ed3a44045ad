"""Benchmark of Kafka clients: run by its job, not a command of `ray-fer`."""

from __future__ import annotations

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ray_fer.cli.bench_stream import Servers, broker
from ray_fer.cli.figures import Output, hand_over
from ray_fer.cli.options import AsJson
from ray_fer.cli.trials import say
from ray_fer.errors import exit_on_bad_input

_STREAMS = 24


@exit_on_bad_input
def bench_kafka_clients(
    bootstrap_servers: Servers = None,
    megabytes: Annotated[int, typer.Option(min=1, help="how much is sent and read in each round")] = 300,
    frame_bytes: Annotated[int, typer.Option(min=100, max=8_000_000, help="size of a frame")] = 50_000,
    rounds: Annotated[int, typer.Option(min=1, help="rounds of each client, by turns")] = 5,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Send and read the same frames with kafka-python, as the stream does, and with confluent-kafka (librdkafka)."""
    from ray_fer.streaming.client_speed import compare_clients
    from ray_fer.streaming.frame_message import FrameMessage

    chance = random.Random(0)
    contents = [chance.randbytes(frame_bytes) for _ in range(_STREAMS)]
    frames = [
        FrameMessage(f"camera-{number % _STREAMS:03d}", number, number, "image/jpeg", contents[number % _STREAMS])
        for number in range(max(1, megabytes * 1_000_000 // frame_bytes))
    ]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-fer-bench-")))
        kafka, _ = broker(bootstrap_servers, work, stack)
        say(f"{len(frames)} frames of {frame_bytes} bytes, {rounds} rounds of each client")
        speeds = compare_clients(kafka, frames, rounds)
    if hand_over({"frame_bytes": frame_bytes, "clients": [vars(one) for one in speeds]}, output, as_json):
        return
    table = Table("client", "sent, MB/s", "ms of processor time per MB", "read, MB/s", "ms per MB")
    for one in speeds:
        table.add_row(
            one.client, f"{one.sent_mb_per_s:.0f}", f"{one.send_ms_per_mb:.2f}",
            f"{one.read_mb_per_s:.0f}", f"{one.read_ms_per_mb:.2f}",
        )  # fmt: skip
    Console().print(table)
