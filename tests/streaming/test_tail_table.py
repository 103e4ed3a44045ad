"""What `ray-fer stream tail` writes on the screen."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from ray_fer.cli.tail_table import (
    StreamsTable,
    dead_letter_json,
    dead_letter_line,
    prediction_json,
    prediction_line,
    printable,
)
from ray_fer.streaming.messages import CultureInfo, ModelInfo, Prediction, WindowInfo
from ray_fer.streaming.tail import SeenDeadLetter, SeenPrediction


def seen(stream: str, index: int, **fields: Any) -> SeenPrediction:
    given = {"status": "ok", "expression": "Happy", "probabilities": {"Happy": 0.75, "Sad": 0.25}, "latency_ms": 312.4}
    prediction = Prediction(
        stream_id=stream,
        window=WindowInfo(index=index, start_us=index * 1_000_000, end_us=(index + 5) * 1_000_000, frames=9, faces=9),
        culture=CultureInfo(source="global_prior", weights={}),
        model=ModelInfo(name="m", version="1"),
        **(given | fields),
    )
    return SeenPrediction(stream, 0, index, prediction)


BROKEN = SeenPrediction("old", 3, 7, error="schema version 1, this program reads 2")
LETTER = SeenDeadLetter("cam", "truncated JPEG", "frames", 1, 77, 5000, 1_700_000_000_123)


def text(shown: RenderableType) -> list[str]:
    """The lines that a wide terminal shows, without the lines of the table."""
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(shown)
    return [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines() if line.strip()]


def rows(table: StreamsTable, now: float = 0.0, count: int = 50) -> dict[str, str]:
    """Stream -> its row."""
    lines = text(table.render(now, count))
    return dict(line.split(" ", 1) for line in lines[3:-2])


def totals(table: StreamsTable, now: float = 0.0, count: int = 50) -> str:
    return text(table.render(now, count))[-1]


def test_a_row_has_the_newest_window_of_a_stream() -> None:
    table = StreamsTable(0.0)
    for index in range(3):
        table.add(seen("a", index), 0.0)
    table.add(seen("b", 4, status="no_face", expression=None, probabilities={}, latency_ms=None), 0.0)
    assert rows(table) == {"a": "2-7 s Happy █████████░░░ 0.75 ok 312 ms 3", "b": "4-9 s no face 1"}


def test_a_failed_window_says_why() -> None:
    table = StreamsTable(0.0)
    table.add(seen("a", 0, status="failed", error="out of memory", expression=None, probabilities={}), 0.0)
    assert rows(table) == {"a": "0-5 s failed: out of memory 312 ms 1"}


def test_what_cannot_be_read_is_shown_and_counted() -> None:
    table = StreamsTable(0.0)
    table.add(BROKEN, 0.0)
    table.add_dead_letter()
    assert rows(table) == {"old": "schema version 1, this program reads 2 0"}
    assert totals(table) == "0.0 windows/s 0 windows 1 streams 1 new dead letters 1 unreadable predictions"


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    table = StreamsTable(100.0)
    for second in range(40):
        for _ in range(3):
            table.add(seen("a", second), 100.0 + second)
    assert totals(table, 139.5).startswith("3.0 windows/s 120 windows 1 streams")
    assert totals(table, 200.0).startswith("0.0 windows/s 120 windows")
    early = StreamsTable(100.0)
    early.add(seen("a", 0), 101.0)
    early.add(seen("a", 1), 102.0)
    assert totals(early, 104.0).startswith("0.5 windows/s")


def test_a_small_screen_has_the_streams_that_moved_last() -> None:
    table = StreamsTable(0.0)
    for index in range(2):
        for stream in ("a", "b", "c", "d"):
            table.add(seen(stream, index), 0.0)
    table.add(seen("b", 2), 0.0)
    assert list(rows(table, count=2)) == ["b", "d"]
    assert "4 streams (2 shown)" in totals(table, count=2)


def test_lines_of_predictions() -> None:
    assert prediction_line(seen("cam", 2)).plain == "cam  2-7 s  Happy  █████████░░░ 0.75  ok  312 ms"
    assert prediction_line(BROKEN).plain == "old  unreadable at 3:7: schema version 1, this program reads 2"


def test_lines_of_dead_letters() -> None:
    assert (
        dead_letter_line(LETTER).plain == "2023-11-14T22:13:20.123+00:00  cam  frames 1:77  5000 bytes  truncated JPEG"
    )
    unknown = SeenDeadLetter("?", "no reason given", None, None, None, 0, 1_700_000_000_123)
    assert dead_letter_line(unknown).plain.endswith("?  ? ?:?  0 bytes  no reason given")


def test_json_has_all_that_is_known() -> None:
    one = seen("cam", 2)
    assert one.prediction is not None
    assert Prediction.model_validate(prediction_json(one)) == one.prediction
    assert prediction_json(BROKEN) == {"stream_id": "old", "partition": 3, "offset": 7, "error": BROKEN.error}
    assert dead_letter_json(LETTER) == {
        "stream_id": "cam",
        "reason": "truncated JPEG",
        "topic": "frames",
        "partition": 1,
        "offset": 77,
        "bytes": 5000,
        "written": "2023-11-14T22:13:20.123+00:00",
    }


def test_a_stream_cannot_write_on_the_terminal() -> None:
    hostile = "cam\x1b[2J\r[red]x[/red]\n"
    assert printable(hostile) == "cam\ufffd[2J\ufffd[red]x[/red]\ufffd"
    table = StreamsTable(0.0)
    table.add(seen(hostile, 0), 0.0)
    table.add(SeenPrediction("b", 0, 0, error=hostile), 0.0)
    shown = "".join(text(table.render(0.0, 5)))
    assert "\x1b" not in shown
    assert shown.count("[red]x[/red]") == 2
    line = dead_letter_line(SeenDeadLetter(hostile, hostile, hostile, 0, 0, 0, 0)).plain
    assert "\x1b" not in line
    assert "\n" not in line
