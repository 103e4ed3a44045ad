"""ResNet18-GRU: ResNet18-LSTM's network with gated recurrent units."""

from __future__ import annotations

from torch import nn

from ray_fer.models.backbones.frame_cnn import ResNet18
from ray_fer.models.backbones.sequence import FrameSequence, LastState
from ray_fer.models.card import Card, Input


class ResNet18Gru(FrameSequence):
    """ResNet18-GRU: ResNet-18 on each frame, a GRU over the frames (baseline in tables of DFEW, such as OUS, Table I).

    Reconstructed. The tables give no sizes; ours are those of `ResNet18Lstm`: one layer of as many units as the frame
    vector has, the last state classified, 16 frames of 112 px.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels.
    width: of the ResNet's first convolution; a frame's vector has 8 times as many numbers.
    hidden, layers: of the GRU.
    dropout: before the linear layer.
    """

    card = Card(
        title="ResNet18-GRU",
        paper="no paper of its own; a row of Table I of OUS, which cites ResNet (He et al., CVPR 2016)",
        status="reconstructed",
        input=Input(16, 112),
        tiny={"width": 8, "hidden": 32},
        tiny_input=Input(4, 32),
        weights=("torchvision ResNet18_Weights.IMAGENET1K_V1: the frame network",),
    )

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        width: int = 64,
        hidden: int = 512,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        network = ResNet18(channels, width)
        sequence = LastState(nn.GRU(network.dim, hidden, layers, batch_first=True))
        super().__init__(network, sequence, hidden, classes, dropout)
