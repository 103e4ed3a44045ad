"""VGG13-LSTM: the baseline of FERV39k with a VGG instead of a ResNet."""

from __future__ import annotations

from torch import nn

from ray_fer.models.backbones.frame_cnn import Vgg13
from ray_fer.models.backbones.sequence import FrameSequence, LastState
from ray_fer.models.card import Card, Input, Published


class Vgg13Lstm(FrameSequence):
    """VGG13-LSTM: VGG-13 on each frame, an LSTM over the frames (FERV39k's baseline, Wang et al., CVPR 2022).

    Reconstructed. FERV39k prints 133 M parameters and no sizes. Frame vectors from VGG-13's second layer of 4096 units
    and one LSTM layer of 256 units give 133.4 M (and 138.7 M with VGG-16, where 138 are printed). That the last state
    is classified, and 16 frames of 224 px (at which VGG's maps are 7 x 7), are ours. So is batch normalisation: the
    baselines were trained from nothing, which a plain VGG does not do reliably.

    Parameters
    ----------
    classes, channels: number of expression classes; of the frames' channels.
    width, units: of VGG's first convolution and of its fully connected layers.
    hidden, layers: of the LSTM.
    dropout: after each of VGG's fully connected layers, as in VGG, and before the linear layer.
    batch_norm: normalise after each convolution.
    """

    card = Card(
        title="VGG13-LSTM",
        paper="Wang et al., FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in Videos, "
        "CVPR 2022",
        status="reconstructed",
        input=Input(16, 224),
        tiny={"width": 4, "units": 64, "hidden": 32, "dropout": 0.0},
        tiny_input=Input(4, 32),
        published=(
            Published("VGG13-LSTM", "README of wangyanckxx/FERV39k, model zoo", Input(16, 224), parameters=133),
        ),
        weights=(
            "torchvision VGG13_BN_Weights.IMAGENET1K_V1: the frame network",
            "torchvision VGG13_Weights.IMAGENET1K_V1: the frame network, with batch_norm=False",
        ),
    )

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        width: int = 64,
        units: int = 4096,
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.5,
        batch_norm: bool = True,
    ) -> None:
        network = Vgg13(channels, width, units, dropout, batch_norm)
        sequence = LastState(nn.LSTM(network.dim, hidden, layers, batch_first=True))
        super().__init__(network, sequence, hidden, classes, dropout)
