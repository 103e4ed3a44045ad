"""The two types every model shares: what it is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass
class ClipBatch:
    """A batch of clips. `frames` float [B,T,3,H,W], normalised by the model's own transform.

    `culture` int64 [B] (-1 = unknown) and `label` int64 [B] index the class lists of the model's configuration.
    """

    frames: Tensor
    culture: Tensor | None = None
    label: Tensor | None = None
    scene: Tensor | None = None
    flow: Tensor | None = None
    apex: Tensor | None = None

    def to(self, device: torch.device | str) -> ClipBatch:
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return ClipBatch(**{k: v.to(device, non_blocking=True) if v is not None else None for k, v in moved.items()})

    def __len__(self) -> int:
        return int(self.frames.shape[0])


@dataclass
class ModelOutput:
    """`logits` [B,C], `features` [B,D], and the model's own loss terms by name (scalars, already weighted)."""

    logits: Tensor
    features: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
