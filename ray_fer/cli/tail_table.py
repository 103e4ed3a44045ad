"""What `ray-fer stream tail` shows: a live table of streams, one line per record, or JSON."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ray_fer.serving.demo_table import prediction_row
from ray_fer.streaming.tail import SeenDeadLetter, SeenPrediction

_RATE_S = 10.0


class StreamsTable:
    """The newest window of each stream, and how fast windows come. Times are seconds of any steady clock."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._newest: dict[str, SeenPrediction] = {}  # in the order of their newest window
        self._counts: dict[str, int] = {}
        self._arrivals: deque[float] = deque()
        self._windows = self._unreadable = self._dead_letters = 0

    def add(self, seen: SeenPrediction, now: float) -> None:
        """Take in a record of the predictions topic."""
        self._newest.pop(seen.stream_id, None)
        self._newest[seen.stream_id] = seen
        if seen.prediction is None:
            self._unreadable += 1
            return
        self._windows += 1
        self._counts[seen.stream_id] = self._counts.get(seen.stream_id, 0) + 1
        self._arrivals.append(now)

    def add_dead_letter(self) -> None:
        """Count a dead letter."""
        self._dead_letters += 1

    def render(self, now: float, rows: int) -> Group:
        """The table, with the `rows` streams whose windows came last, and a line of totals under it."""
        table = Table(expand=False)
        for name in ("stream", "window", "expression", "probability", "status", "latency", "windows"):
            table.add_column(name, justify="right" if name in ("latency", "windows") else "left", no_wrap=True)
        for stream_id in sorted(list(self._newest)[-rows:]):
            seen = self._newest[stream_id]
            table.add_row(Text(printable(stream_id)), *_cells(seen), str(self._counts.get(stream_id, 0)))
        return Group(table, Text(self._totals(now, rows)))

    def _totals(self, now: float, rows: int) -> str:
        while self._arrivals and self._arrivals[0] < now - _RATE_S:
            self._arrivals.popleft()
        rate = len(self._arrivals) / min(_RATE_S, max(1.0, now - self._began))
        parts = [f"{rate:.1f} windows/s", f"{self._windows} windows", f"{len(self._newest)} streams"]
        if len(self._newest) > rows:
            parts[-1] += f" ({rows} shown)"
        parts.append(f"{self._dead_letters} new dead letters")
        if self._unreadable:
            parts.append(f"{self._unreadable} unreadable predictions")
        return "   ".join(parts)


def prediction_line(seen: SeenPrediction) -> Text:
    """One line: stream, window, expression, probability, status, latency; or why the record cannot be read."""
    if seen.prediction is None:
        return Text(
            f"{printable(seen.stream_id)}  unreadable at {seen.partition}:{seen.offset}: {printable(seen.error)}"
        )
    return Text("  ").join([Text(printable(seen.stream_id)), *(Text.assemble(cell) for cell in _cells(seen) if cell)])


def dead_letter_line(seen: SeenDeadLetter) -> Text:
    """One line: when, stream, where it came from, size, reason."""
    where = f"{seen.topic or '?'} {_or_unknown(seen.partition)}:{_or_unknown(seen.offset)}"
    parts = (_time(seen), printable(seen.stream_id), printable(where), f"{seen.bytes} bytes", printable(seen.reason))
    return Text("  ".join(parts))


def prediction_json(seen: SeenPrediction) -> dict[str, Any]:
    """The prediction itself; of a record that cannot be read, why, and where it lies."""
    if seen.prediction is not None:
        return seen.prediction.model_dump(mode="json")
    return {"stream_id": seen.stream_id, "partition": seen.partition, "offset": seen.offset, "error": seen.error}


def dead_letter_json(seen: SeenDeadLetter) -> dict[str, Any]:
    """What is known of a dead letter, without its value."""
    return {
        "stream_id": seen.stream_id, "reason": seen.reason, "topic": seen.topic, "partition": seen.partition,
        "offset": seen.offset, "bytes": seen.bytes, "written": _time(seen),
    }  # fmt: skip


def printable(text: str | None) -> str:
    """`text` without what would move the cursor: anybody may have written it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text or "")


def _cells(seen: SeenPrediction) -> tuple[str | Text, ...]:
    """Window, expression, probability, status, latency."""
    if seen.prediction is None:
        return "", "", "", Text(printable(seen.error), style="red"), ""
    span, expression, probability, _, latency = prediction_row(seen.prediction)
    style = "green" if seen.prediction.status == "ok" else "red" if seen.prediction.error else "dim"
    status = seen.prediction.status.replace("_", " ")
    if seen.prediction.error:
        status = f"{status}: {printable(seen.prediction.error)}"
    shown = "" if seen.prediction.expression is None else expression
    return span, shown, probability, Text(status, style=style), latency


def _or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _time(seen: SeenDeadLetter) -> str:
    return datetime.fromtimestamp(seen.written_ms / 1000, UTC).isoformat(timespec="milliseconds")
