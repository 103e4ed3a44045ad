"""The inside of a mouth that opens: a photograph with closed lips holds no pixels for it, so it is drawn."""

from __future__ import annotations

import numpy as np
import torch

from ray_fer.datasets.synthfer.geometry import UPPER_LIP
from ray_fer.labels import AU_NAMES

BOX = 108.0
"""Side of the square of canvas pixels around the mouth in which it is drawn."""

_GRID = 54
_SOFT = 0.9
"""Softness of its edges in canvas pixels."""

_BRIGHTNESS = (24.0, 76.0, 205.0)
_SKIN = (2.2, 1.8, 0.3)
"""Of throat, tongue and teeth: brightness, and the power of the skin's tone that colours them."""
_TEETH = {"AU12": 0.9, "AU10": 0.8, "AU20": 0.3, "AU25": 0.35, "AU09": 0.3}
_POINTS = len(UPPER_LIP)


def box_origin(lips: np.ndarray) -> np.ndarray:
    """Upper left corner (x, y) of the square for inner lips [22,2] at rest; more room below, where jaws drop."""
    return (lips.mean(0) - np.array([0.5, 0.36]) * BOX).astype(np.float32)


def skin_tone(canvas: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """Colour of the skin above the upper lip, each channel relative to their mean, float32 [3]; grey gives ones.

    What is drawn takes it over, or it would look pasted into a tinted or a black and white photograph.
    """
    x, y = lips[: len(UPPER_LIP)].mean(0).astype(int) - [0, 12]
    colour = canvas[:3, y - 3 : y + 4, x - 8 : x + 9].mean((1, 2)) + 1
    return (colour / colour.mean()).astype(np.float32)


def mouth_layer(
    lips: torch.Tensor, rest: torch.Tensor, origin: torch.Tensor, aus: torch.Tensor, skin: torch.Tensor
) -> torch.Tensor:
    """What is seen between the lips, [F,4,54,54] over the mouth's box: colour times alpha (0..255), alpha.

    `lips` [F,22,2] the inner edges as they are, `rest` [F,22,2] at rest, `origin` [F,2] of the box, all in canvas
    pixels; `aus` [F,20]; `skin` [F,3] as `skin_tone` says.
    """
    steps = torch.linspace(0, BOX, _GRID, device=lips.device)
    columns = (origin[:, :1] + steps).contiguous()
    rows = (origin[:, 1:] + steps)[:, :, None]
    upper, lower = lips[:, :_POINTS], lips[:, _POINTS:]
    closed = rest[:, _POINTS:, 1] - rest[:, :_POINTS, 1]
    top = _at(columns, upper[..., 0], upper[..., 1])[:, None]
    bottom = _at(columns, lower[..., 0], lower[..., 1])[:, None]
    gap = (bottom - top).clamp(min=0)
    opened = gap - _at(columns, upper[..., 0], closed)[:, None].clamp(min=0)
    alpha = torch.sigmoid((rows - top) / _SOFT) * torch.sigmoid((bottom - rows) / _SOFT)
    alpha = alpha * ((opened - 0.8) / 2.5).clamp(0, 1)  # exactly 0 where lips touch
    depth = (rows - top) / (gap + 1e-3)
    tongue = ((depth - 0.5) / 0.5).clamp(0, 1) * ((gap - 6) / 14).clamp(0, 0.8)
    shown = sum(aus[:, AU_NAMES.index(au)] * weight for au, weight in _TEETH.items())
    assert isinstance(shown, torch.Tensor)
    across = (columns - upper[:, :1, 0]) / (upper[:, -1:, 0] - upper[:, :1, 0] + 1e-3)
    within = (4 * across * (1 - across)).clamp(0, 1).sqrt()[:, None]
    length = torch.minimum(0.6 * gap, torch.full_like(gap, 6.5))
    teeth = torch.sigmoid((top + length - rows) / _SOFT) * within * shown.clamp(0, 1)[:, None, None] * (gap > 1.5)
    throat, flesh, white = (
        (value * skin**power)[..., None, None] for value, power in zip(_BRIGHTNESS, _SKIN, strict=True)
    )
    shade = throat + (flesh - throat) * tongue[:, None]
    shade = shade + (white - shade) * teeth[:, None]
    return torch.cat([shade * alpha[:, None], alpha[:, None]], 1)


def _at(columns: torch.Tensor, xs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Piecewise linear `values` [F,P] at `xs` [F,P] (ascending), read at `columns` [F,G]; constant beyond the ends."""
    xs = torch.cummax(xs, 1).values.contiguous()  # strong movements can swap neighbours near the corners
    right = torch.searchsorted(xs, columns).clamp(1, xs.shape[1] - 1)
    x0, x1 = xs.gather(1, right - 1), xs.gather(1, right)
    y0, y1 = values.gather(1, right - 1), values.gather(1, right)
    return y0 + (y1 - y0) * ((columns - x0) / (x1 - x0 + 1e-4)).clamp(0, 1)
