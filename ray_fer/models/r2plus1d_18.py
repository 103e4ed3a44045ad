"""R(2+1)D-18: a 3D ResNet-18 whose convolutions are split into space and time."""

from __future__ import annotations

from typing import ClassVar

from ray_fer.models.backbones.video_resnet import Kind, VideoResNetClassifier
from ray_fer.models.card import Card, Input, Published


class R2Plus1D18(VideoResNetClassifier):
    """R(2+1)D-18: ResNet-18 with 1x3x3 and 3x1x1 convolutions in turn (Tran et al., CVPR 2018).

    As torchvision has it. The paper chooses the number of channels between the two for each convolution by itself, so
    that it has as many parameters as a 3x3x3 one; here both convolutions of a block have what suits the first, so that
    blocks that double the channels have fewer parameters than those of R3D-18.

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    width: channels of the first stage.

    Takes any number of frames of any size.
    """

    kind: ClassVar[Kind] = "r2plus1d_18"
    card = Card(
        title="R(2+1)D-18",
        paper="Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018",
        status="faithful",
        input=Input(16, 112),
        tiny={"width": 8},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "R(2+1)D-18, Kinetics-400", "torchvision, R2Plus1D_18_Weights.KINETICS400_V1", Input(16, 112),
                parameters=31.505325, gmacs=40.519, config={"classes": 400},
            ),
        ),
        weights=("torchvision R2Plus1D_18_Weights.KINETICS400_V1 (r2plus1d_18-91a641e6.pth)",),
    )  # fmt: skip
