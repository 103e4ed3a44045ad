"""The two types every model shares: what it is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

InputName = Literal["frames", "scene", "flow", "apex"]
"""Fields of a `ClipBatch` that hold pixels or motion."""


@dataclass
class ClipBatch:
    """A batch of clips. `frames` float [B,T,3,H,W], normalised by the model's own transform.

    `culture` int64 [B] (-1 = unknown) and `label` int64 [B] index the class lists of the model's configuration.
    For models that read them, `scene` [B,T,3,H,W] are the whole frames, `flow` [B,3,H,W] is the motion from onset to
    apex (u, v and strain), and `apex` [B,3,H,W] the face at the apex. `cached` is what `Model.frozen` gave for these
    clips, read from disk: pixels are not needed then. `frames` that are not read are [B,0].
    """

    frames: Tensor
    culture: Tensor | None = None
    label: Tensor | None = None
    scene: Tensor | None = None
    flow: Tensor | None = None
    apex: Tensor | None = None
    cached: dict[str, Tensor] | None = None

    @classmethod
    def of(
        cls,
        inputs: dict[InputName, Tensor],
        count: int,
        culture: Tensor | None = None,
        label: Tensor | None = None,
        cached: dict[str, Tensor] | None = None,
    ) -> ClipBatch:
        """A batch of `count` clips of which `inputs` are read."""
        others: dict[str, Any] = {name: one for name, one in inputs.items() if name != "frames"}
        frames = inputs.get("frames")
        if frames is None:
            known = next(one for one in (label, culture, *inputs.values()) if one is not None)
            frames = known.new_empty(count, 0, dtype=torch.float32)
        return cls(frames, culture, label, cached=cached, **others)

    def to(self, device: torch.device | str) -> ClipBatch:
        return ClipBatch(**{field.name: _moved(getattr(self, field.name), device) for field in fields(self)})

    def __len__(self) -> int:
        return int(self.frames.shape[0])


@dataclass
class ModelOutput:
    """`logits` [B,C], `features` [B,D], and the model's own loss terms by name: scalars, for `Model.balance`."""

    logits: Tensor
    features: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, dict):
        return {name: _moved(one, device) for name, one in value.items()}
    return None if value is None else value.to(device, non_blocking=True)
