"""A chart of the groups of a report: their UAR and WAR beside one another, and below their recall class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from ray_fer.evaluation.plots import GROUPED, INK, QUIET, Picture, bare, groups_figure, groups_width, png

_BARS, _ROW, _MARGIN = 3.6, 0.42, 1.1


def fairness_charts(content: Mapping[str, Any]) -> dict[str, Picture]:
    """By column of `plots.GROUPED` that has two groups or more, the chart of report.json's `content`."""
    charts = {}
    for column in GROUPED:
        groups = content["groups"][column]
        if len(groups) > 1:
            figure = fairness_figure(groups, content["classes"], content["fairness"][column]["recall_gap"])
            charts[column] = png(
                figure, f"{column}.png", f"UAR and WAR of each {column}, and its recall by class",
                "Below: recall in percent, in small print the number of clips; the gap is of the compared groups.",
            )  # fmt: skip
    return charts


def fairness_figure(
    groups: Mapping[str, Mapping[str, Any]], classes: Sequence[str], gaps: Mapping[str, float | None]
) -> Figure:
    """`plots.groups_figure` above a heat map of recall, classes x groups, with the gap (0 to 1, or None) of each class.

    `groups` is a part of report.json's "groups": {name: {"uar", "war", "count", "few", "intervals", "recall",
    "support"}}.
    """
    table = _ROW * len(classes) + _MARGIN
    figure = Figure(figsize=(groups_width(len(groups)), _BARS + table), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[_BARS, table])
    groups_figure(groups, 1 / len(classes), upper)
    _recall_map(lower, groups, classes, gaps)
    return figure


def _recall_map(
    figure: SubFigure, groups: Mapping[str, Mapping[str, Any]], classes: Sequence[str],
    gaps: Mapping[str, float | None],
) -> None:  # fmt: skip
    axes = figure.add_subplot()
    recall = np.array([[group["recall"][name] for group in groups.values()] for name in classes], float)
    image = axes.imshow(100 * recall, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, name in enumerate(classes):
        for column, group in enumerate(groups.values()):
            value = group["recall"][name]
            if value is None:
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#d5dae1",
                                         linewidth=0))  # fmt: skip
            colour = "white" if value is not None and value > 0.55 else INK
            shown = "–" if value is None else f"{100 * value:.0f}"
            axes.text(column - 0.03, row, shown, ha="right", va="center", color=colour, fontsize=10)
            axes.text(column + 0.03, row, f"of {group['support'][name]}", ha="left", va="center", color=colour,
                      fontsize=7.5, alpha=0.9)  # fmt: skip
        gap = gaps[name]
        axes.text(len(groups), row, "–" if gap is None else f"{100 * gap:.0f}", ha="center", va="center", color=INK,
                  fontsize=10, fontweight="bold")  # fmt: skip
    marked = [f"{name}\n(few)" if group["few"] else name for name, group in groups.items()]
    axes.set_xticks(range(len(groups) + 1), [*marked, "gap"])
    axes.set_xlim(-0.5, len(groups) + 0.5)
    axes.set_yticks(range(len(classes)), list(classes))
    axes.set_xticks(np.arange(len(groups)) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_title("recall, %", loc="left", fontsize=9, color=QUIET)
    bare(axes, "top", "right", "left", "bottom")
    bar = figure.colorbar(image, ax=axes, aspect=24, ticks=[0, 50, 100])
    bar.outline.set_visible(False)
