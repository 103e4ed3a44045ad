"""Records of the predictions and dead-letter topics are shown whatever is in them, from where the user asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.structs import OffsetAndTimestamp

from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo, dead_letter_headers
from ray_fer.streaming.positions import Start, parse_start, start_offsets
from ray_fer.streaming.tail import see_dead_letter, see_prediction

GOOD = Prediction(
    stream_id="cam",
    window=WindowInfo(index=3, start_us=0, end_us=5_000_000, frames=10, faces=0),
    status="no_face",
    culture=CultureInfo(source="global_prior", weights={}),
    model=ModelInfo(name="m", version="1"),
)
PARTS = [TopicPartition("t", 0), TopicPartition("t", 1)]


def record(value: bytes | None, key: bytes | None = b"cam", headers: Sequence[tuple[str, bytes]] = ()) -> Any:
    return SimpleNamespace(
        key=key, value=value, headers=list(headers), partition=2, offset=40, timestamp=1_700_000_000_000
    )


def test_a_prediction_is_read() -> None:
    seen = see_prediction(record(GOOD.to_bytes()))
    assert (seen.prediction, seen.stream_id, seen.error) == (GOOD, "cam", None)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (json.dumps({"schema_version": 99, "what": "is this"}).encode(), "schema version 99, this program reads"),
        (b"\xff\xd8\xff", "not JSON"),
        (None, "not JSON"),
        (b"[1]", "not a prediction"),
        (GOOD.to_bytes().replace(b'"no_face"', b'"asleep"'), "not a prediction: status: Input should be 'ok'"),
    ],
)
def test_what_is_no_prediction_says_why_and_where(value: bytes | None, error: str) -> None:
    seen = see_prediction(record(value))
    assert seen.prediction is None
    assert seen.error is not None
    assert error in seen.error
    assert (seen.stream_id, seen.partition, seen.offset) == ("cam", 2, 40)


def test_a_dead_letter_says_where_it_came_from() -> None:
    headers = dead_letter_headers([("stream-id", b"cam")], "truncated JPEG", "frames", 1, 77)
    seen = see_dead_letter(record(b"12345", b"cam", headers))
    assert (seen.stream_id, seen.reason, seen.topic, seen.offset, seen.bytes) == (
        "cam",
        "truncated JPEG",
        "frames",
        77,
        5,
    )
    assert seen.partition == 1
    without_key = see_dead_letter(record(b"", None, headers))
    assert without_key.stream_id == "cam"


@given(
    st.none() | st.binary(max_size=50),
    st.none() | st.binary(max_size=10),
    st.lists(st.tuples(st.sampled_from(["error", "error-topic", "error-offset", "error-partition"]), st.binary())),
)
def test_no_record_can_stop_the_tail(value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    assert see_prediction(record(value, key)).error
    assert see_dead_letter(record(value, key, headers)).bytes == len(value or b"")


def test_an_endless_number_in_a_header_is_no_number() -> None:
    assert see_dead_letter(record(b"", headers=[("error-offset", b"9" * 5000)])).offset is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("0", 0),
        ("12345", 12345),
        ("2026-11-21T14:30:00+01:00", datetime(2026, 11, 21, 13, 30, tzinfo=UTC)),
        ("2026-11-21T14:30Z", datetime(2026, 11, 21, 14, 30, tzinfo=UTC)),
    ],
)
def test_where_to_begin(text: str, start: Start) -> None:
    assert parse_start(text) == start


def test_a_time_without_zone_is_local() -> None:
    assert parse_start("2026-11-21T14:30") == datetime(2026, 11, 21, 14, 30).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "-5", "1.5", "²", "2026-13-01"])
def test_where_nothing_can_begin(text: str) -> None:
    with pytest.raises(ValueError, match="give earliest, latest, an offset, or a time"):
        parse_start(text)


class Offsets:
    """A consumer that knows two partitions: 10..20 with a record every second, and 0..5 without one later than it."""

    def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(zip(partitions, (10, 0), strict=True))

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(zip(partitions, (20, 5), strict=True))

    def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        first, second = times
        return {first: OffsetAndTimestamp(10 + times[first] // 1000, times[first], None), second: None}


@pytest.mark.parametrize(
    ("start", "offsets"),
    [
        ("earliest", [10, 0]),
        ("latest", [20, 5]),
        (12, [12, 5]),
        (3, [10, 3]),
        (100, [20, 5]),
        (datetime(1970, 1, 1, 1, 0, 4, tzinfo=timezone(timedelta(hours=1))), [14, 5]),
    ],
)
def test_start_becomes_an_offset_of_each_partition(start: Start, offsets: list[int]) -> None:
    assert start_offsets(Offsets(), PARTS, start) == dict(zip(PARTS, offsets, strict=True))
