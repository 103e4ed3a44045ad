"""ResNet18-LSTM: the baseline of DFEW and FERV39k that reads one vector a frame in order."""

from __future__ import annotations

from torch import nn

from ray_fer.models.backbones.frame_cnn import ResNet18
from ray_fer.models.backbones.sequence import FrameSequence, LastState
from ray_fer.models.card import Card, Input, Published


class ResNet18Lstm(FrameSequence):
    """ResNet18-LSTM: ResNet-18 on each frame, an LSTM over the frames (FERV39k's baseline, Wang et al., CVPR 2022).

    Reconstructed. FERV39k prints parameter counts and no sizes; one layer of as many units as the frame vector has
    gives the counts of two of its rows (57 M with ResNet-50, 27 M with two streams of ResNet-18). That the last state
    is classified, and 16 frames of 112 px, are ours. The code that DFEW's authors released under the name resnet18_LSTM
    is another network: bottleneck blocks, three layers of 256 units, and a linear layer over all 16 states.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels.
    width: of the ResNet's first convolution; a frame's vector has 8 times as many numbers.
    hidden, layers: of the LSTM.
    dropout: before the linear layer.
    """

    card = Card(
        title="ResNet18-LSTM",
        paper="Wang et al., FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos, "
        "CVPR 2022",
        status="reconstructed",
        input=Input(16, 112),
        tiny={"width": 8, "hidden": 32},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "R18-LSTM", "README of wangyanckxx/FERV39k, model zoo", Input(16, 112), parameters=132,
                reason="taken for a misprint of 13.2: the same table gives its two-stream version 27",
            ),
        ),
        weights=("torchvision ResNet18_Weights.IMAGENET1K_V1: the frame network",),
    )  # fmt: skip

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
        sequence = LastState(nn.LSTM(network.dim, hidden, layers, batch_first=True))
        super().__init__(network, sequence, hidden, classes, dropout)
