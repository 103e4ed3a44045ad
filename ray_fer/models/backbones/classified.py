"""A backbone with one linear layer, as its own paper counts and measures it."""

from __future__ import annotations

from torch import nn

from ray_fer.models.batch import ClipBatch, ModelOutput


class Classified(nn.Module):
    """`backbone` gives (cls [B,D], tokens [B,N,D]); logits are linear in cls."""

    def __init__(self, backbone: nn.Module, dim: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """See the class."""
        cls, _ = self.backbone(batch.frames)
        return ModelOutput(self.head(cls), cls)
