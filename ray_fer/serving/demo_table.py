"""The demo's live table and summary in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ray_fer.streaming.messages import Prediction

_STYLES = {
    "Angry": "red", "Disgust": "green", "Fear": "magenta", "Happy": "yellow",
    "Neutral": "white", "Sad": "blue", "Surprise": "bright_magenta",
}  # fmt: skip


def wide_console(stderr: bool = False) -> Console:
    """A console for these tables; where output is not a terminal, wide enough that no column is cut."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=140)


def top_aus(prediction: Prediction, count: int = 3) -> str:
    """The strongest AUs of a prediction, e.g. ``AU12 0.81  AU25 0.40``."""
    ranked = sorted(prediction.action_units.items(), key=lambda item: -item[1])[:count]
    return "  ".join(f"{name} {value:.2f}" for name, value in ranked)


def bar(share: float, width: int = 12) -> str:
    """A probability as a bar of `width` characters."""
    full = round(share * width)
    return "█" * full + "░" * (width - full)


def prediction_row(prediction: Prediction) -> tuple[str | Text, ...]:
    """Cells: seconds, expression, bar, top AUs, latency."""
    window = prediction.window
    span = f"{window.start_us / 1e6:g}-{window.end_us / 1e6:g} s"
    latency = "" if prediction.latency_ms is None else f"{prediction.latency_ms:.0f} ms"
    if prediction.expression is None:
        return span, Text(prediction.status.replace("_", " "), style="dim"), "", "", latency
    share = prediction.probabilities[prediction.expression]
    style = _STYLES.get(prediction.expression, "white")
    return (
        span,
        Text(prediction.expression, style=style),
        Text(f"{bar(share)} {share:.2f}", style=style),
        top_aus(prediction),
        latency,
    )


def live_table(latest: dict[str, Prediction], counts: dict[str, int], title: str) -> Table:
    """One row per stream with its newest window."""
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("stream", "window", "expression", "probability", "top AUs", "latency", "windows"):
        table.add_column(name, justify="right" if name in ("latency", "windows") else "left", no_wrap=True)
    for stream_id in sorted(latest):
        table.add_row(stream_id, *prediction_row(latest[stream_id]), str(counts[stream_id]))
    return table


def windows_table(predictions: Sequence[Prediction]) -> Table:
    """One row per window of a single stream."""
    table = Table(expand=False)
    for name in ("window", "expression", "probability", "top AUs", "faces"):
        table.add_column(name, no_wrap=True)
    for prediction in predictions:
        span, expression, probability, aus, _ = prediction_row(prediction)
        table.add_row(span, expression, probability, aus, str(prediction.window.faces))
    return table


def summary_table(summary: dict[str, Any]) -> Table:
    """Windows per stream: got, expected, of them without a face, and correct ones where labels are known."""
    table = Table(title="Windows per stream", title_justify="left", expand=False)
    for name in ("stream", "windows", "expected", "no face", "labelled", "correct"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for stream_id, row in sorted(summary["streams"].items()):
        labelled = str(row["labelled"]) if row["labelled"] else ""
        correct = str(row["correct"]) if row["labelled"] else ""
        table.add_row(stream_id, str(row["windows"]), str(row["expected"]), str(row["no_face"]), labelled, correct)
    return table
