"""What reads the vectors of a clip's frames in order: recurrent layers and small transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_fer.models.backbones.frame_cnn import imagenet_weights
from ray_fer.models.backbones.lean_transformer import Layer
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Model


class FrameSequence(Model):
    """Each frame through `network`, the frames' vectors through `sequence`, and one linear layer.

    network: images [N,C,H,W] -> [N,D].
    sequence: vectors [B,T,D] -> [B,dim].
    """

    def __init__(self, network: nn.Module, sequence: nn.Module, dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.network = network
        self.sequence = sequence
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        vectors = self.network(batch.frames.flatten(0, 1)).unflatten(0, batch.frames.shape[:2])
        features = self.dropout(self.sequence(vectors))
        return ModelOutput(logits=self.head(features), features=features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's ImageNet weights of the frame network."""
        return {f"network.{name}": weight for name, weight in imagenet_weights(self.network, state).items()}


class LastState(nn.Module):
    """Output of a recurrent layer at the last frame: [B,T,D] -> [B,hidden]."""

    def __init__(self, recurrent: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, vectors: Tensor) -> Tensor:
        outputs, _ = self.recurrent(vectors)
        return outputs[:, -1]


class TemporalTransformer(nn.Module):
    """What `depth` layers make of a CLS token before the frames' vectors: [B,T,D] -> [B,D].

    As in DFER-CLIP's released code: positions are learned, they and the token start as N(0, 1), and no LayerNorm
    follows the last layer.
    """

    def __init__(self, frames: int, dim: int, depth: int, heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, frames + 1, dim))
        self.layers = nn.Sequential(*(Layer(dim, heads, dim // heads, mlp_dim) for _ in range(depth)))

    def forward(self, vectors: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(vectors), -1, -1), vectors], dim=1) + self.position
        return self.layers(x)[:, 0]
