"""What a demo run amounts to: counts per stream, UAR on labelled windows, latency; and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.timeline import plot_timeline
from ray_fer.serving.demo_streams import DemoStream
from ray_fer.streaming.messages import Prediction
from ray_fer.streaming.windows import WindowConfig

_NOT_PREDICTED = -1


def summarise(
    streams: Sequence[DemoStream], predictions: Sequence[Prediction], config: WindowConfig, classes: list[str]
) -> dict[str, Any]:
    """Counts, metrics over labelled windows (None without any; one without a prediction is wrong), latency in ms."""
    seen = {(one.stream_id, one.window.index): one for one in predictions}
    rows: dict[str, dict[str, int]] = {}
    truth: list[int] = []
    answers: list[int] = []
    for stream in streams:
        own = [one for one in predictions if one.stream_id == stream.stream_id]
        known = stream.truth(config)
        correct = 0
        for index, label in known.items():
            one = seen.get((stream.stream_id, index))
            expression = one.expression if one is not None else None
            correct += expression == label
            truth.append(classes.index(label))
            answers.append(classes.index(expression) if expression is not None else _NOT_PREDICTED)
        rows[stream.stream_id] = {
            "windows": len(own),
            "expected": stream.expected_windows(config),
            "no_face": sum(one.status == "no_face" for one in own),
            "labelled": len(known),
            "correct": correct,
        }
    latency = [one.latency_ms for one in predictions if one.latency_ms is not None]
    return {
        "streams": rows,
        "windows": len(predictions),
        "repeated": len(predictions) - len(seen),
        "missing": sum(
            (stream.stream_id, index) not in seen
            for stream in streams
            for index in range(stream.expected_windows(config))
        ),
        "classification": classification_metrics(np.array(truth), np.array(answers), classes) if truth else None,
        "latency_ms": {
            "p50": round(float(np.percentile(latency, 50)), 1) if latency else None,
            "p99": round(float(np.percentile(latency, 99)), 1) if latency else None,
        },
    }


def write_files(
    folder: Path,
    streams: Sequence[DemoStream],
    predictions: Sequence[Prediction],
    summary: dict[str, Any],
    config: WindowConfig,
) -> dict[str, Path]:
    """Write predictions.jsonl, timeline.png and summary.json; returns their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ("predictions.jsonl", "timeline.png", "summary.json")}
    paths["predictions.jsonl"].write_text("".join(one.model_dump_json() + "\n" for one in predictions))
    truth = {(s.stream_id, index): label for s in streams for index, label in s.truth(config).items()}
    if predictions:
        plot_timeline(predictions, paths["timeline.png"], truth)
    else:
        del paths["timeline.png"]
    paths["summary.json"].write_text(json.dumps(summary, indent=1) + "\n")
    return paths
