"""R3D-18: the 3D ResNet-18 of DFER's comparison tables."""

from __future__ import annotations

from typing import ClassVar

from ray_fer.models.backbones.video_resnet import Kind, VideoResNetClassifier
from ray_fer.models.card import Card, Input, Published


class R3D18(VideoResNetClassifier):
    """R3D-18: ResNet-18 with 3x3x3 convolutions (Tran et al., CVPR 2018).

    As torchvision has it, which the code released with DFEW trains. OUS cites Hara et al. (CVPR 2018) for its row
    "3D Resnet18"; theirs begins with a 7x7x7 convolution and a max pooling, of which this network has neither.

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    width: channels of the first stage.

    Takes any number of frames of any size.
    """

    kind: ClassVar[Kind] = "r3d_18"
    card = Card(
        title="R3D-18",
        paper="Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018",
        status="faithful",
        input=Input(16, 112),
        tiny={"width": 8},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "R3D-18, Kinetics-400", "torchvision, R3D_18_Weights.KINETICS400_V1", Input(16, 112),
                parameters=33.371472, gmacs=40.697, config={"classes": 400},
            ),
        ),
        weights=("torchvision R3D_18_Weights.KINETICS400_V1 (r3d_18-b3b3357e.pth)",),
    )  # fmt: skip
