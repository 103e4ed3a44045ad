"""Where to begin to read a topic: its oldest record, its end, an offset, or a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast, get_args

from kafka import KafkaConsumer, TopicPartition

_Edge = Literal["earliest", "latest"]
Start = _Edge | int | datetime


def parse_start(text: str) -> Start:
    """`earliest`, `latest`, an offset, or an ISO 8601 time (of this machine's zone if it names none); ValueError."""
    if text in get_args(_Edge):
        return cast(_Edge, text)
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise ValueError(
            f"cannot begin at {text!r}: give earliest, latest, an offset, or a time such as 2026-11-21T14:30:00+01:00"
        ) from None


def start_offsets(
    reader: KafkaConsumer, partitions: Sequence[TopicPartition], start: Start
) -> dict[TopicPartition, int]:
    """The offset of each partition at which `start` lies.

    An offset that a partition does not have becomes its nearest one. A time means the first record that was written
    then or later, or the end of a partition that has none.
    """
    oldest, ends = reader.beginning_offsets(partitions), reader.end_offsets(partitions)
    if start == "earliest":
        return oldest
    if start == "latest":
        return ends
    if isinstance(start, int):
        return {one: min(max(start, oldest[one]), ends[one]) for one in partitions}
    found = reader.offsets_for_times(dict.fromkeys(partitions, round(start.timestamp() * 1000)))
    return {one: ends[one] if found[one] is None else found[one].offset for one in partitions}
