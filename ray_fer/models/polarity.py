"""Whether an expression, or what a scene looks like, is negative, neutral or positive: OUS's polarity (III.A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POLARITIES: tuple[str, ...] = ("negative", "neutral", "positive")

POLARITY: dict[str, str] = {
    "Angry": "negative",
    "Disgust": "negative",
    "Fear": "negative",
    "Happy": "positive",
    "Neutral": "neutral",
    "Sad": "negative",
    "Surprise": "neutral",
    "Anxiety": "negative",
    "Contempt": "negative",
    "Disappointment": "negative",
    "Helplessness": "negative",
}
"""Of each of `COMPOUND_EXPRESSIONS`. The paper names the three polarities and not what belongs to them: ours."""

EARLY_BLOCKS = 4
"""Blocks of the image tower that the polarity encoder reads (III.A)."""


class PolarityEncoder(nn.Module):
    """What the tower's first blocks saw [B,4,width] -> V_pol [B,dim]: a LayerNorm for each block, and an MLP."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(EARLY_BLOCKS))
        self.mlp = nn.Sequential(nn.Linear(EARLY_BLOCKS * width, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, early: Tensor) -> Tensor:
        normed = [norm(block) for norm, block in zip(self.norms, early.unbind(dim=1), strict=True)]
        return self.mlp(torch.cat(normed, dim=1))


def polarities_of(names: list[str], polarities: list[str] | None) -> list[str]:
    """The polarity of each class: `polarities`, else that of its name in `POLARITY`.

    Raises ValueError that says what to give.
    """
    if polarities is None:
        unknown = [name for name in names if name not in POLARITY]
        if unknown:
            raise ValueError(
                f"the polarity of {', '.join(unknown)} is not known; give one for each class as `polarities`"
            )
        return [POLARITY[name] for name in names]
    wrong = [one for one in polarities if one not in POLARITIES]
    if wrong or len(polarities) != len(names):
        raise ValueError(
            f"`polarities` must hold one of {', '.join(POLARITIES)} for each of {len(names)} classes, not "
            f"{', '.join(polarities)}"
        )
    return list(polarities)
