"""Plots of the stream's benchmarks: latency and memory over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_fer.serving.stream_speed import Latencies, Trial, highest

if TYPE_CHECKING:
    from ray_fer.serving.load_step import StepSeen
    from ray_fer.serving.soak import Soak


def plot_trials(trials: Sequence[Trial], path: Path) -> Path:
    """PNG: the latency of every trial's windows over time, and the memory of the largest flat one."""
    figure, (left, right) = _figure(2)
    for trial in sorted(trials, key=lambda one: one.streams):
        seconds, median = _medians(trial.latency)
        style = "-" if trial.flat else "--"
        left.plot(seconds, median, style, label=f"{trial.streams} streams{'' if trial.flat else ', falling behind'}")
    left.set_ylabel("latency, s (median of 5 s)")
    left.set_ylim(bottom=0)
    best = highest(trials)
    if best is not None:
        _plot_memory(right, best.use.memory)
        right.set_title(f"{best.streams} streams")
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def plot_soak(soak: Soak, path: Path) -> Path:
    """PNG: each part's memory, and the median latency of windows over time."""
    figure, (left, right) = _figure(2)
    _plot_memory(left, soak.use.memory)
    seconds, median = _medians(soak.latency, every_s=15)
    right.plot(seconds, median)
    right.set_ylabel("latency, s (median of 15 s)")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    return path


def plot_step(seen: StepSeen, path: Path) -> Path:
    """PNG: live streams and workers, and the unread records, over time."""
    figure, (left, right) = _figure(2)
    seconds = [one.at_s for one in seen.moments]
    left.step(seconds, [one.streams for one in seen.moments], where="post", label="live streams", color="#8a94a3")
    left.step(seconds, [one.replicas for one in seen.moments], where="post", label="stream workers", color="#0072b2")
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    known = [one for one in seen.moments if one.lag is not None]
    right.plot([one.at_s for one in known], [one.lag for one in known], color="#d55e00")
    right.set_ylabel("unread records")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    return path


def _plot_memory(axes: Any, memory: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Each part's memory over time."""
    for part, samples in sorted(memory.items(), key=lambda item: -item[1][-1][1]):
        axes.plot([s for s, _ in samples], [size / 1e6 for _, size in samples], label=part)
    axes.set_ylabel("memory, MB")
    axes.set_ylim(bottom=0)
    if memory:
        axes.legend(frameon=False, fontsize=8)


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * columns, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    for one in np.atleast_1d(axes):
        one.set_xlabel("seconds")
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
    return figure, axes


def _medians(latency: Latencies, every_s: float = 5.0) -> tuple[list[float], list[float]]:
    places: dict[int, list[float]] = {}
    for one in latency:
        places.setdefault(int(one.came_s // every_s), []).append(one.late_s)
    return [place * every_s for place in places], [float(np.median(values)) for values in places.values()]
