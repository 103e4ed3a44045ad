"""The figure of activation maps: classes below each other, groups beside each other."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke

from ray_fer.action_units.regions import EXPRESSION_AUS, FACE, REGIONS, SIDES, outline
from ray_fer.evaluation.activation_maps import ActivationMaps, GroupMap
from ray_fer.evaluation.plots import INK, QUIET, Picture, bare, png
from ray_fer.video.faces import ALIGNED_SIZE

FILE = "activation-maps.png"
_COLOURS, _STRENGTH, _PANEL = "inferno", 0.85, 2.35
_LIGHT, _DARK = "white", "#101820"


def activation_chart(maps: ActivationMaps) -> Picture:
    """The figure as a file, with a caption that says how to read it."""
    caption = (
        "Mean Grad-CAM of the true class; all panels share one scale. Outlined: where the class's Action Units show. "
        "The person's own left is on the right, unless a video is mirrored."
    )
    if any(one.few for one in maps.maps):
        caption += " Few: too few clips to conclude from."
    if flat := sum(one.flat for one in maps.maps):
        caption += f" Of {flat} clips nothing stands out; they are in no panel."
    alt = f"Where the model looks in clips of {', '.join(maps.expressions)}, by group: {', '.join(maps.groups)}"
    return png(activation_figure(maps), FILE, alt, caption)


def activation_figure(maps: ActivationMaps) -> Figure:
    """A row for each class and a column for each group: the mean face, grey, under the mean map, and the AU regions."""
    rows, columns = len(maps.expressions), len(maps.groups)
    figure = Figure(figsize=(1.3 + _PANEL * columns, 0.45 + (_PANEL + 0.25) * rows), layout="constrained")
    norm = Normalize(0, max(float(one.heat.max()) for one in maps.maps) or 1)
    panels = figure.subplots(rows, columns, squeeze=False)
    for row, expression in enumerate(maps.expressions):
        for column, group in enumerate(maps.groups):
            axes, one = panels[row, column], maps.of(expression, group)
            axes.set(xticks=[], yticks=[], xlim=(-0.5, ALIGNED_SIZE - 0.5), ylim=(ALIGNED_SIZE - 0.5, -0.5))
            axes.set_aspect("equal")
            bare(axes, "top", "right", "left", "bottom")
            if column == 0:
                axes.set_ylabel(expression, fontsize=11, fontweight="bold", color=INK)
            count = 0 if one is None else one.count
            few = ", few" if one is not None and one.few else ""
            axes.set_title(f"{group}  (n = {count}{few})", fontsize=9.5, color=QUIET if few or not count else INK)
            if one is None or not one.count:
                reason = "no clip" if one is None else f"nothing stands out\nin {one.flat} clips"
                axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", color=QUIET, fontsize=9)
            else:
                _panel(axes, one, norm)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=panels, shrink=min(0.8, 1.6 / rows), aspect=24, pad=0.02)
    bar.set_label("mean activation; each clip's from 0 to 1", fontsize=9)
    bar.outline.set_visible(False)
    return figure


def _panel(axes: Axes, one: GroupMap, norm: Normalize) -> None:
    axes.imshow(blended(one.heat, one.face, norm))
    for side in SIDES:
        if one.face is None:
            half = outline(FACE[side], one.landmarks)
            axes.add_patch(Polygon(half, closed=True, fill=False, edgecolor=_LIGHT, linewidth=0.6, alpha=0.5))
        for name in EXPRESSION_AUS.get(one.expression, ()):
            corners = outline(REGIONS[name][side], one.landmarks)
            line = Polygon(corners, closed=True, fill=False, edgecolor=_LIGHT, linewidth=0.7, joinstyle="round")
            line.set_path_effects([withStroke(linewidth=1.6, foreground=_DARK)])
            axes.add_patch(line)
            if side == "right":
                # Outside of the face's middle, so that the names do not cover what they name.
                x, y = corners[corners[:, 0].argmin()]
                axes.annotate(
                    name, (x, y), (max(x - 6, 1), y), ha="right" if x > 30 else "left", va="center", fontsize=6.5,
                    color=_LIGHT, path_effects=[withStroke(linewidth=1.8, foreground=_DARK)],
                )  # fmt: skip


def blended(heat: np.ndarray, face: np.ndarray | None, norm: Normalize) -> np.ndarray:
    """A map [H,W] over a face [H,W] (grey levels 0 to 255), or without one by itself: float [H,W,3], 0 to 1.

    The higher, the more of the colour and the less of the face is seen: all colour is the map's.
    """
    level = np.asarray(norm(heat))
    colour = colormaps[_COLOURS](level)[..., :3]
    if face is None:
        return colour
    share = _STRENGTH * level[..., None] ** 0.75
    return (1 - share) * face[..., None] / 255 + share * colour
