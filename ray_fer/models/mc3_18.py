"""MC3-18: a 3D ResNet-18 that convolves over time only at its beginning."""

from __future__ import annotations

from typing import ClassVar

from ray_fer.models.backbones.video_resnet import Kind, VideoResNetClassifier
from ray_fer.models.card import Card, Input, Published


class MC3_18(VideoResNetClassifier):
    """MC3-18: ResNet-18 with 3D convolutions, then 2D ones (Tran et al., CVPR 2018).

    As torchvision has it: the stem and the first stage convolve over time, the three other stages see one temporal
    index at a time, and nothing before the final pooling makes the clip shorter.

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    width: channels of the first stage.

    Takes any number of frames of any size.
    """

    kind: ClassVar[Kind] = "mc3_18"
    card = Card(
        title="MC3-18",
        paper="Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018",
        status="faithful",
        input=Input(16, 112),
        tiny={"width": 8},
        tiny_input=Input(4, 32),
        published=(
            Published(
                "MC3-18, Kinetics-400", "torchvision, MC3_18_Weights.KINETICS400_V1", Input(16, 112),
                parameters=11.69544, gmacs=43.343, config={"classes": 400},
            ),
        ),
        weights=("torchvision MC3_18_Weights.KINETICS400_V1 (mc3_18-a90a0ba3.pth)",),
    )  # fmt: skip
