"""Plot predictions over time: one lane per stream, one block per window."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from ray_fer.streaming.messages import Prediction

COLOURS = {
    "Angry": "#d55e00", "Disgust": "#009e73", "Fear": "#7b5ea7", "Happy": "#e6a700",
    "Neutral": "#8a94a3", "Sad": "#0072b2", "Surprise": "#cc79a7",
}  # fmt: skip
_OTHER = "#444444"


def plot_timeline(
    predictions: Iterable[Prediction], path: str | Path, truth: dict[tuple[str, int], str] | None = None
) -> Path:
    """Write a PNG of all predictions. Opacity is the probability; hatched blocks have no face; white gaps no frames.

    `truth` maps (stream id, window index) to a known label; a thin strip of its colour is drawn below the block.
    Raises ValueError when there is nothing to plot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lanes: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        lanes.setdefault(prediction.stream_id, []).append(prediction)
    if not lanes:
        raise ValueError("there is no prediction to plot")
    names = sorted(lanes)
    figure = Figure(figsize=(12, 1.4 + 0.42 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for lane, name in enumerate(names):
        windows = sorted(lanes[name], key=lambda one: one.window.index)
        step = min((b.window.start_us - a.window.start_us for a, b in pairwise(windows)), default=0)
        for one in windows:
            start, width = one.window.start_us / 1e6, (step or one.window.end_us - one.window.start_us) / 1e6
            if one.status == "ok" and one.expression is not None:
                share = one.probabilities[one.expression]
                axes.barh(lane, width, left=start, height=0.66, color=COLOURS.get(one.expression, _OTHER),
                          alpha=0.25 + 0.75 * share, edgecolor="white", linewidth=0.6)  # fmt: skip
            elif one.status == "no_face":
                axes.barh(lane, width, left=start, height=0.66, color="white", edgecolor="#9aa3b0", hatch="////",
                          linewidth=0.6)  # fmt: skip
            label = (truth or {}).get((name, one.window.index))
            if label is not None:
                axes.barh(lane + 0.42, width, left=start, height=0.12, color=COLOURS.get(label, _OTHER))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("start of window, seconds of stream time")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    handles.append(Patch(facecolor="white", edgecolor="#9aa3b0", hatch="////", label="no face"))
    figure.legend(handles=handles, loc="outside upper center", ncols=8, frameon=False, fontsize=9)
    if truth:
        axes.set_title("thin strip below a block: the known label", fontsize=9, loc="right")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
