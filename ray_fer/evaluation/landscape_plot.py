"""The figure of a loss landscape: a surface on the left, a contour map on the right."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from ray_fer.evaluation.landscape import RADII, Landscape
from ray_fer.evaluation.plots import INK, Picture, bare, png

FILE = "landscape.png"
CEILING = 10.0
"""Nats: higher losses are drawn at this height, which is where the contour plots of Li et al.'s code end."""
LEAST_SPAN = 0.5
"""Nats from the bottom of the figure to its top, at least: what is flat shall look flat."""
_COLOURS, _LEVELS, _MARK, _LOSS = "viridis", 12, "#e4572e", "cross-entropy, nats"


def landscape_chart(landscape: Landscape) -> Picture:
    """The figure as a file, with a caption that says what is not seen in it."""
    losses, drawn = landscape.losses, drawn_losses(landscape)
    caption, unknown = "Red: the trained weights.", int(np.isnan(losses).sum())
    circles = [f"{radius:g}" for radius in _circles(landscape)]
    if circles:
        caption += f" Dashed: at a distance of {' and '.join(circles)} from them."
    if cut := int((losses > drawn.max()).sum()):
        caption += f" Losses above {drawn.max():.3g} are drawn at that height: {cut} of {losses.size} points."
    if unknown:
        caption += f" The loss of {unknown} of {losses.size} points is not a number; they are drawn at the top."
    alt = f"Loss around the trained weights as a surface and as a contour map, {drawn.min():.3g} nats and more"
    return png(landscape_figure(landscape), FILE, alt, caption)


def drawn_losses(landscape: Landscape) -> np.ndarray:
    """The losses as heights float64 [points,points]: all finite, none above the ceiling.

    The ceiling is `CEILING`, or twice the loss of the trained weights where that is more; where less is reached, what
    is not finite is as high as the largest finite loss.
    """
    losses = np.where(np.isnan(landscape.losses), np.inf, landscape.losses)
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return np.full(losses.shape, CEILING)
    centre = landscape.sharpness.centre
    ceiling = max(CEILING, 2 * centre) if np.isfinite(centre) else CEILING
    return np.minimum(losses, min(ceiling, float(finite.max())))


def landscape_figure(landscape: Landscape) -> Figure:
    """Surface and contour map of the losses, both with a colour bar, and the trained weights marked in both."""
    steps, heights = landscape.options.steps, drawn_losses(landscape)
    levels = MaxNLocator(_LEVELS).tick_values(heights.min(), max(heights.max(), heights.min() + LEAST_SPAN))
    norm = Normalize(levels[0], levels[-1])
    alpha, beta = np.meshgrid(steps, steps, indexing="ij")
    figure = Figure(figsize=(11.6, 4.8), layout="constrained")
    left, right = figure.add_subplot(1, 2, 1, projection="3d"), figure.add_subplot(1, 2, 2)
    surface = _surface(left, alpha, beta, heights, norm)
    filled = right.contourf(alpha, beta, heights, levels, cmap=_COLOURS, norm=norm)
    _contours(right, alpha, beta, heights, levels)
    for radius in _circles(landscape):
        right.add_patch(Circle((0, 0), radius, fill=False, linestyle="--", linewidth=1.4, edgecolor="white"))
    right.set_title(f"trained weights: {landscape.sharpness.centre:.3g} nats", fontsize=11)
    for drawn, axes, shrink, pad in ((surface, left, 0.72, 0.11), (filled, right, 0.95, 0.02)):
        bar = figure.colorbar(drawn, ax=axes, shrink=shrink, pad=pad, aspect=26)
        bar.set_label(_LOSS)
        bar.outline.set_visible(False)
    return figure


def _surface(axes: Axes3D, alpha: np.ndarray, beta: np.ndarray, heights: np.ndarray, norm: Normalize) -> Any:
    middle = len(heights) // 2
    centre = heights[middle, middle]
    axes.computed_zorder = False  # else the mark may be drawn before the surface, and covered by it
    surface = axes.plot_surface(
        alpha, beta, heights, cmap=_COLOURS, norm=norm, rstride=1, cstride=1, edgecolor=(1, 1, 1, 0.35), linewidth=0.4
    )
    axes.plot([0, 0], [0, 0], [centre, norm.vmax], color=_MARK, linewidth=1.2)
    axes.plot([0], [0], [centre], "o", color=_MARK, markeredgecolor="white", markersize=7)
    axes.set(xlabel="α", ylabel="β", zlabel=_LOSS, zlim=(norm.vmin, norm.vmax))
    axes.view_init(elev=46, azim=-58)
    axes.tick_params(labelsize=8)
    return surface


def _contours(axes: Axes, alpha: np.ndarray, beta: np.ndarray, heights: np.ndarray, levels: np.ndarray) -> None:
    lines = axes.contour(alpha, beta, heights, levels, colors=INK, linewidths=0.6, alpha=0.7)
    for text in axes.clabel(lines, fontsize=8, fmt="%g", colors=INK):
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    axes.plot([0], [0], "o", color=_MARK, markeredgecolor="white", markersize=8)
    axes.set(xlabel="α", ylabel="β", aspect="equal", xlim=alpha[[0, -1], 0], ylim=beta[0, [0, -1]])
    bare(axes, "top", "right", "left", "bottom")


def _circles(landscape: Landscape) -> list[float]:
    return [radius for radius in RADII if radius <= landscape.options.reach]
