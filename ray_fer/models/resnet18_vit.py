"""ResNet18-ViT: a frame's vector is a token of a transformer encoder over time."""

from __future__ import annotations

from torch import Tensor, nn

from ray_fer.models.backbones.frame_cnn import ResNet18
from ray_fer.models.backbones.sequence import FrameSequence
from ray_fer.models.backbones.vivit import Encoder
from ray_fer.models.card import Card, Input


class ResNet18Vit(FrameSequence):
    """ResNet18-ViT: ResNet-18 on each frame, a ViT's encoder over the frames (baseline in OUS, Table II).

    Reconstructed. The tables cite ResNet and ViT and describe no network. Here the frames' vectors are the tokens of a
    ViT's encoder: CLS token, learned positions, pre-LN layers, LayerNorm, and a linear layer on the CLS token. Its size
    is that of Former-DFER's temporal transformer: 3 layers, 8 heads x 64, MLP 1024. 16 frames of 112 px are ours, too.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels.
    frames: of a clip; each has its position.
    width: of the ResNet's first convolution; a frame's vector has 8 times as many numbers.
    depth, heads, mlp_dim: of the encoder.
    dropout: in the encoder and before the linear layer.

    Raises ValueError for clips of another number of frames.
    """

    card = Card(
        title="ResNet18-ViT",
        paper="no paper of its own; a row of Table II of OUS, which cites ResNet (He et al., CVPR 2016) and ViT "
        "(Dosovitskiy et al., ICLR 2021)",
        status="reconstructed",
        input=Input(16, 112),
        tiny={"frames": 4, "width": 8, "depth": 1, "heads": 2, "mlp_dim": 64},
        tiny_input=Input(4, 32),
        weights=("torchvision ResNet18_Weights.IMAGENET1K_V1: the frame network",),
    )

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        frames: int = 16,
        width: int = 64,
        depth: int = 3,
        heads: int = 8,
        mlp_dim: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        network = ResNet18(channels, width)
        sequence = _Cls(frames, Encoder(frames, network.dim, depth, heads, mlp_dim, dropout))
        super().__init__(network, sequence, network.dim, classes, dropout)


class _Cls(nn.Module):
    """CLS token of an encoder of `frames` vectors: [B,T,D] -> [B,D]."""

    def __init__(self, frames: int, encoder: Encoder) -> None:
        super().__init__()
        self.frames = frames
        self.encoder = encoder

    def forward(self, vectors: Tensor) -> Tensor:
        if vectors.shape[1] != self.frames:
            raise ValueError(
                f"ResNet18-ViT was built for {self.frames} frames and was given {vectors.shape[1]}; build it with "
                "frames= as the transform gives them"
            )
        return self.encoder(vectors)[:, 0]
