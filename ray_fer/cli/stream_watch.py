"""`ray-fer stream tail`: watch predictions and dead letters."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ray_fer.cli.options import AsJson, Brokers, KafkaConfig
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from ray_fer.streaming.kafka_settings import KafkaSettings
    from ray_fer.streaming.positions import Start

_TABLE_FRAME = 6  # lines of the table that are no stream: its borders and heading, the totals, the cursor


@exit_on_bad_input
def tail(
    bootstrap_servers: Brokers = None,
    kafka_config: KafkaConfig = None,
    topic: Annotated[str | None, typer.Option(help="topic to read (default: of the settings)")] = None,
    start: Annotated[
        str, typer.Option("--from", help="earliest, latest, an offset, or a time such as 2026-11-21T14:30")
    ] = "earliest",
    stream: Annotated[str | None, typer.Option(help="only this stream id")] = None,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="show what could not be used, and why")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="stop after so many records")] = None,
    as_json: AsJson = False,
) -> None:
    """Watch predictions until Ctrl-C: a live table on a terminal, a line each elsewhere.

    Predictions that this version cannot read are shown as such.
    """
    from ray_fer.cli.tail_table import dead_letter_json, dead_letter_line, prediction_json, prediction_line
    from ray_fer.streaming.kafka import check_broker
    from ray_fer.streaming.kafka_settings import KafkaSettings
    from ray_fer.streaming.positions import parse_start
    from ray_fer.streaming.tail import see_dead_letter, see_prediction

    position = parse_start(start)
    settings = KafkaSettings.read(kafka_config, bootstrap_servers=bootstrap_servers)
    check_broker(settings.bootstrap_servers)
    try:
        if dead_letters:
            show: Callable[[Any], Any] = dead_letter_json if as_json else dead_letter_line
            _lines(settings, topic or settings.dead_letter_topic, position, see_dead_letter, show, stream, limit)
        elif as_json or not Console().is_terminal:
            show = prediction_json if as_json else prediction_line
            _lines(settings, topic or settings.predictions_topic, position, see_prediction, show, stream, limit)
        else:
            _live(settings, topic or settings.predictions_topic, position, stream, limit)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _lines(
    settings: KafkaSettings, topic: str, start: Start, see: Callable[[Any], Any], show: Callable[[Any], Any],
    stream: str | None, limit: int | None,
) -> None:  # fmt: skip
    """Print a line for each record; dicts as JSON."""
    from ray_fer.streaming.tail import follow

    console = Console(soft_wrap=True, highlight=False)
    count = 0
    with contextlib.closing(follow(settings, topic, start)) as looks:
        for seen in (see(record) for records in looks for record in records):
            if stream not in (None, seen.stream_id):
                continue
            line = show(seen)
            if isinstance(line, Text):
                console.print(line)
            else:
                print(json.dumps(line), flush=True)
            count += 1
            if count == limit:
                return


def _live(settings: KafkaSettings, topic: str, start: Start, stream: str | None, limit: int | None) -> None:
    """Show the newest window of each stream; dead letters that come meanwhile are counted."""
    from rich.live import Live

    from ray_fer.cli.tail_table import StreamsTable
    from ray_fer.streaming.tail import follow, see_dead_letter, see_prediction

    console = Console()
    table, count = StreamsTable(time.monotonic()), 0
    looks = follow(settings, topic, start, from_now=settings.dead_letter_topic)
    with contextlib.closing(looks), Live(console=console, refresh_per_second=4) as live:
        for records in looks:
            now = time.monotonic()
            for record in records:
                if record.topic != topic:
                    if stream in (None, see_dead_letter(record).stream_id):
                        table.add_dead_letter()
                    continue
                seen = see_prediction(record)
                if stream in (None, seen.stream_id) and count != limit:
                    table.add(seen, now)
                    count += 1
            live.update(table.render(now, max(1, console.size.height - _TABLE_FRAME)))
            if count == limit:
                return
