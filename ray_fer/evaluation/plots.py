"""Figures of a report, to look at on a screen and on paper: every colour also differs in shape, hatch or number.

Each `*_figure` returns a matplotlib `Figure` of its own (pyplot keeps global state, and is not used); `png` makes a
file of it. Nothing in a figure depends on the time or on chance that has no seed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ray_fer.action_units.priors_report import profile_heat_map
from ray_fer.action_units.profiles import Priors
from ray_fer.evaluation.calibration import Calibration, calibration
from ray_fer.evaluation.predictions import Predictions
from ray_fer.evaluation.timeline import COLOURS
from ray_fer.labels import UNKNOWN_CULTURE

GROUPED = ("culture", "dataset")
"""Columns of predictions by which clips are grouped."""
FILES = (
    "confusion.png", "calibration.png", "culture.png", "dataset.png", "tsne-expression.png", "tsne-culture.png",
    "au-profiles.png", "landscape.png", "activation-maps.png",
)  # fmt: skip
PERPLEXITY, LEAST_CLIPS, MOST_CLIPS = 30.0, 10, 2000
# Okabe and Ito's palette, then darker relatives of it, for names that have no colour of their own.
_MORE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#444444", "#b8a800", "#5a2d0c", "#8a94a3")
_MARKERS = "os^DvPX*<>hp"
INK, QUIET, _BLUE, _ORANGE = "#1d2733", "#66707d", "#1f5a99", "#d98a1f"


@dataclass(frozen=True)
class Picture:
    """A file of the report, and what a reader who cannot see it is told."""

    file: str
    """Name in the report's folder."""
    data: bytes
    alt: str
    caption: str = ""


def png(figure: Figure, file: str, alt: str, caption: str = "", dpi: int = 150) -> Picture:
    """A figure as a PNG file; the same figure gives the same bytes with the same matplotlib."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=dpi, format="png")
    return Picture(file, buffer.getvalue(), alt, caption)


def report_charts(
    priors: Priors | None, predictions: Predictions, content: Mapping[str, Any], pooled: bool
) -> dict[str, Picture | str]:
    """All charts of a report by name, but groups, landscape and activation maps; a text is why there is none.

    `priors` are those of the model, `content` is report.json. With `pooled`, the answers are those of several models,
    one for each fold.
    """
    classes = predictions.classes
    result = calibration(predictions.truth, predictions.probabilities)
    charts: dict[str, Picture | str] = {
        "confusion": png(
            confusion_figure(content["metrics"]["confusion"], classes), "confusion.png", "Confusion matrix",
            "Rows are the truth. Large: percent of a row; small: clips.",
        ),
        "calibration": png(reliability_figure(result), "calibration.png", "Reliability diagram"),
        "aus": _au_chart(priors, pooled),
    }  # fmt: skip
    apart = "each fold has a model of its own, and their latent spaces do not belong together"
    embedding = apart if pooled else embed(predictions.features)
    if isinstance(embedding, str):
        return charts | {"tsne": embedding}
    drawn = f"{len(embedding.rows)} of " if len(embedding.rows) < len(predictions) else ""
    caption = f"{drawn}{len(predictions)} clips, perplexity {embedding.perplexity:.3g}, seed 0"
    cultures = [value or UNKNOWN_CULTURE for value in predictions.column("culture")]
    known = sorted(set(cultures), key=lambda one: (one == UNKNOWN_CULTURE, one))
    for name, owners, order in (("expression", predictions.column("label"), classes), ("culture", cultures, known)):
        scatter = embedding_figure(embedding.points, [owners[row] for row in embedding.rows], order)
        charts[f"tsne_{name}"] = png(scatter, f"tsne-{name}.png", f"t-SNE of the latents by {name}", caption)
    return charts


def _au_chart(priors: Priors | None, pooled: bool) -> Picture | str:
    if priors is None:
        return "there are no AU profiles that all folds share" if pooled else "the model has no AU profiles"
    return png(profile_heat_map(priors), "au-profiles.png", "Mean intensity of each Action Unit by group")


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name: those of the seven basic expressions are fixed, all others get one by their order."""
    taken = {COLOURS[name] for name in names if name in COLOURS}
    free = [colour for colour in _MORE if colour not in taken] or list(_MORE)
    others = [name for name in names if name not in COLOURS]
    return {name: COLOURS.get(name) or free[others.index(name) % len(free)] for name in names}


def confusion_figure(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Rows are the truth: each cell has its share of the row in percent, and the number of clips in small print."""
    counts = np.asarray(confusion, float)
    totals = counts.sum(axis=1, keepdims=True)
    share = 100 * counts / np.maximum(totals, 1)
    side = 1.6 + 0.72 * len(classes)
    figure = Figure(figsize=(side + 0.5, side - 0.45), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row in range(len(classes)):
        for column in range(len(classes)):
            colour = "white" if share[row, column] > 55 else INK
            percent = f"{share[row, column]:.1f}" if totals[row, 0] else "–"
            axes.text(column, row - 0.08, percent, ha="center", va="center", color=colour, fontsize=10,
                      fontweight="bold" if row == column else "normal")  # fmt: skip
            axes.text(column, row + 0.27, f"{int(counts[row, column])}", ha="center", va="center", color=colour,
                      fontsize=7.5, alpha=0.9)  # fmt: skip
    axes.set_xticks(range(len(classes)), list(classes), rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), list(classes))
    axes.set_xticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    bare(axes, "top", "right", "left", "bottom")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=28, ticks=[0, 50, 100])
    bar.set_label("% of the clips of a row")
    bar.outline.set_visible(False)
    return figure


def reliability_figure(result: Calibration) -> Figure:
    """Accuracy of each bin of confidence against the diagonal, and below how many clips each bin has."""
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    shown = [one for one in result.bins if one.count]
    middle = [(one.low + one.high) / 2 for one in shown]
    width = 0.92 * (result.bins[0].high - result.bins[0].low)
    accuracy = np.array([one.accuracy for one in shown], float)
    confidence = np.array([one.confidence for one in shown], float)
    upper.bar(middle, accuracy, width, color=_BLUE, label="accuracy")
    upper.hlines(
        confidence, np.array(middle) - width / 2, np.array(middle) + width / 2, color=_ORANGE, linewidth=3,
        label="mean confidence",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], "--", color=QUIET, linewidth=1.2, label="perfectly calibrated")
    upper.set(ylim=(0, 1), xlim=(0, 1), ylabel="accuracy")
    upper.set_title(f"ECE {100 * result.ece:.1f} %", loc="right", fontsize=11, fontweight="bold")
    upper.legend(loc="upper left", frameon=False, fontsize=9)
    lower.bar(middle, [one.count for one in shown], width, color="#9db4cc")
    lower.set(xlabel="confidence: probability of the predicted class", ylabel="clips")
    lower.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    for axes in (upper, lower):
        bare(axes, "top", "right")
    return figure


def groups_figure(
    groups: Mapping[str, Mapping[str, Any]], chance: float | None = None, figure: Figure | SubFigure | None = None
) -> Figure | SubFigure:
    """UAR and WAR of each group with their intervals; groups of few clips are pale.

    `groups` is a part of report.json's "groups": {name: {"uar", "war", "count", "few", "intervals"}}. Drawn into
    `figure` where one is given.
    """
    names = list(groups)
    if figure is None:
        figure = Figure(figsize=(groups_width(len(names)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (figure_name, colour, hatch) in enumerate((("uar", _BLUE, ""), ("war", _ORANGE, "///"))):
        for number, name in enumerate(names):
            one = groups[name]
            x, value = number + (place - 0.5) * 0.36, 100 * one[figure_name]
            axes.bar(x, value, 0.32, color=colour, alpha=0.35 if one["few"] else 1.0, hatch=hatch, edgecolor="white",
                     linewidth=0)  # fmt: skip
            bounds = (one.get("intervals") or {}).get(figure_name)
            top = value
            if bounds:
                low, top = (100 * bound for bound in bounds)
                axes.errorbar(x, value, [[max(value - low, 0)], [max(top - value, 0)]], color=INK, capsize=3,
                              linewidth=1.1)  # fmt: skip
            axes.text(x, max(value, top) + 1.5, f"{value:.0f}", ha="center", va="bottom", fontsize=9, color=INK)
    if chance is not None:
        axes.axhline(100 * chance, color=QUIET, linewidth=1, linestyle=":")
    marked = [f"{name}\n{one['count']} clips{' (few)' if one['few'] else ''}" for name, one in groups.items()]
    axes.set_xticks(range(len(names)), marked)
    axes.set(ylim=(0, 112), ylabel="%", xlim=(-0.6, len(names) - 0.4))
    axes.set_yticks(range(0, 101, 20))
    handles: list[Any] = [
        Patch(facecolor=_BLUE, label="UAR"),
        Patch(facecolor=_ORANGE, hatch="///", edgecolor="white", linewidth=0, label="WAR"),
    ]
    if chance is not None:
        handles.append(Line2D([], [], color=QUIET, linestyle=":", label="chance"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    bare(axes, "top", "right")
    axes.tick_params(axis="x", length=0)
    return figure


def groups_width(count: int) -> float:
    """Inches that a chart of `count` groups needs."""
    return max(6.4, 2.2 + 1.15 * count)


@dataclass(frozen=True)
class Embedding:
    """2-D places [M,2] of the clips at `rows` [M]; `perplexity` is what was used."""

    points: np.ndarray
    rows: np.ndarray
    perplexity: float


def embed(features: np.ndarray, seed: int = 0, most: int = MOST_CLIPS) -> Embedding | str:
    """t-SNE of latents [N,D] (van der Maaten and Hinton 2008), or the reason why there is none.

    The perplexity is 30, or (N - 1) / 3 where there are fewer clips; of more than `most` clips, that many are drawn.
    """
    from sklearn.manifold import TSNE

    if len(features) < LEAST_CLIPS:
        return f"t-SNE needs {LEAST_CLIPS} clips or more to show anything; there are {len(features)}"
    if features.ndim != 2 or features.shape[1] < 2:
        return "there are no latent features of these clips"
    rows = np.arange(len(features))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
    values = features[rows].astype(np.float64)
    if not np.isfinite(values).all():
        return "the model's latent features are not finite"
    if np.allclose(values, values[0]):
        return "the model's latent features are the same for every clip"
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    # The exact method is quadratic, but the same on every machine and number of threads; small sets can afford it.
    kind = "exact" if len(rows) <= 500 else "barnes_hut"
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed, method=kind).fit_transform(values)
    return Embedding(points, rows, perplexity)


def embedding_figure(points: np.ndarray, names: Sequence[str], order: Sequence[str]) -> Figure:
    """Scatter plot of places [M,2], coloured and marked by the name [M] of each; the legend is in the given order."""
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    axes = figure.add_subplot()
    owners = np.asarray(names)
    present = [name for name in order if (owners == name).any()]
    colours = colours_of(order)
    size = float(np.clip(9000 / len(points), 10, 46))
    for place, name in enumerate(present):
        own = points[owners == name]
        axes.scatter(own[:, 0], own[:, 1], s=size, marker=_MARKERS[place % len(_MARKERS)], color=colours[name],
                     edgecolors="white", linewidths=0.4, alpha=0.9, label=f"{name} ({len(own)})")  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    for side in axes.spines.values():
        side.set_color("#d5dae1")
    figure.legend(loc="outside lower center", ncols=min(4, len(present)), frameon=False, fontsize=9, markerscale=1.3)
    return figure


def frame_strip(frames: np.ndarray, side: int = 112, gap: int = 3) -> np.ndarray:
    """Frames uint8 [K,H,W,3] beside each other, each `side` px wide -> uint8 [side, K*side + (K-1)*gap, 3]."""
    shrinks = side < frames.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    strip = np.full((side, len(frames) * (side + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(frames):
        start = place * (side + gap)
        strip[:, start : start + side] = cv2.resize(frame, (side, side), interpolation=how)
    return strip


def overlay(frames: np.ndarray, maps: np.ndarray, strength: float = 0.65) -> np.ndarray:
    """Frames uint8 [K,H,W,3] with maps float [K,h,w], 0 to 1, as heat: the higher, the brighter and the less is seen of
    the face, which is grey, so that all colour is the map's."""
    from matplotlib import colormaps

    result = np.empty_like(frames)
    for place, (frame, heat) in enumerate(zip(frames, maps, strict=True)):
        smooth = cv2.resize(heat.astype(np.float32), frame.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
        colour = 255 * colormaps["inferno"](smooth)[..., :3]
        grey = frame.mean(axis=2, keepdims=True).repeat(3, axis=2)
        share = strength * np.sqrt(smooth)[..., None]
        result[place] = ((1 - share) * grey + share * colour).round().clip(0, 255).astype(np.uint8)
    return result


def bare(axes: Any, *sides: str) -> None:
    """Draw no line at these sides."""
    for side in sides:
        axes.spines[side].set_visible(False)
