"""P3D: a residual network whose 3D convolutions are split into space and time in three ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published

BlockKind = Literal["A", "B", "C", "2D"]
_EXPANSION = 4
_PORT = {"conv1_custom": "stem.0", "bn1": "stem.1", "fc": "classifier"}
_PORT_BLOCK = {
    "conv1": "reduce.0", "bn1": "reduce.1", "conv2": "spatial.0", "bn2": "spatial.1", "conv_normal": "spatial.0",
    "bn_normal": "spatial.1", "conv3": "temporal.0", "bn3": "temporal.1", "conv4": "restore.0", "bn4": "restore.1",
    "downsample": "shortcut",
}  # fmt: skip
"""The PyTorch port's names of layers, outside and inside blocks, and ours."""


class P3D(Model):
    """P3D-199: ResNet-152 with pseudo-3D blocks A, B, C in turn (Qiu, Yao & Mei, ICCV 2017).

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    blocks: per stage; (3, 8, 36, 3) is P3D-199, (3, 4, 6, 3) P3D-63, (3, 4, 23, 3) P3D-131. The code released with
        DFEW holds all three and does not say which of them its row P3D is.
    width: channels inside the blocks of the first stage (64); each further stage has twice as many.
    dropout: before the last layer.

    Raises ValueError for another number of stages. Takes any number of frames of any size: time is halved four times
    and space five times, each rounded up. Details are as in the Caffe networks that the authors released: the kinds
    take turns from stage to stage, too, the last stage convolves space only, time is pooled after the stem and each of
    the first three stages, and poolings round up. Weights start as He normal, where the authors start from ImageNet's
    ResNet-152.
    """

    card = Card(
        title="P3D-199",
        paper="Qiu et al., Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks, ICCV 2017",
        status="faithful",
        input=Input(16, 160),
        tiny={"blocks": (1, 1, 1, 1), "width": 8, "dropout": 0.0},
        tiny_input=Input(8, 40),
        published=(
            Published(
                "P3D ResNet (199 layers), Sports-1M", "Qiu et al. 2017 (a model of 261 MB, 4 bytes a weight)",
                Input(16, 160), parameters=65.25, config={"classes": 487},
                reason="printed as a model of 261 MB; ours is 266.7 million bytes, or 254.3 times 2^20 bytes",
            ),
        ),
        weights=(
            "p3d_rgb_199.checkpoint.pth.tar of the PyTorch port qijiezhao/pseudo-3d-pytorch: Kinetics-400, converted "
            "from the authors' Caffe, which reads pixels of 0 to 255 less their mean",
        ),
    )  # fmt: skip

    def __init__(
        self,
        classes: int = 7,
        channels: int = 3,
        blocks: Sequence[int] = (3, 8, 36, 3),
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"P3D has four stages of blocks, not {len(blocks)}")
        self.channels = channels
        self.stem = nn.Sequential(
            Conv3d(channels, width, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.MaxPool3d((2, 3, 3), stride=2, ceil_mode=True)
        kinds: tuple[BlockKind, ...] = ("A", "B", "C")
        place, inputs, stages = count(), width, []
        for stage, length in enumerate(blocks):
            layers: list[Bottleneck] = []
            for index in range(length):
                kind: BlockKind = "2D" if stage == 3 else kinds[next(place) % 3]
                layers.append(Bottleneck(kind, inputs, width * 2**stage, stride=2 if stage and not index else 1))
                inputs = layers[-1].outputs
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.pool_time = nn.MaxPool3d((2, 1, 1), ceil_mode=True)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are the global average pooling of the last feature map."""
        maps = self.pool(self.stem(batch.frames.transpose(1, 2)))
        for stage in (self.layer1, self.layer2, self.layer3):
            maps = self.pool_time(stage(maps))
        features = self.dropout(self.layer4(maps).mean(dim=(2, 3, 4)))
        return ModelOutput(logits=self.classifier(features), features=features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; the head only where it is for as many classes.

        The port's own blocks B and C put a ReLU on both summands and do not halve. Its weights were converted from the
        authors' Caffe networks and are read into blocks like theirs.
        """
        if "conv1_custom.weight" not in state or "layer4.0.conv_normal.weight" not in state:
            raise ValueError("these are not the weights of the PyTorch port of P3D, qijiezhao/pseudo-3d-pytorch")
        # The port's last stage has 2D convolutions.
        ours = {_ours(name): one.unsqueeze(2) if one.ndim == 4 else one for name, one in state.items()}
        ours["stem.0.weight"] = widened(ours["stem.0.weight"], self.channels)
        if len(ours["classifier.weight"]) != self.classifier.out_features:
            del ours["classifier.weight"], ours["classifier.bias"]
        return ours


class Bottleneck(nn.Module):
    """[B,inputs,T,H,W] -> [B,4*width,T,H/stride,W/stride]: x + F(x) with 1x1x1 convolutions around S and T.

    S convolves space (1x3x3), T time (3x1x1). Between the 1x1x1 convolutions "A" has T(S), "B" S + T, "C" S + T(S),
    which the authors' network halves, and "2D" S alone.
    """

    def __init__(self, kind: BlockKind, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.kind = kind
        self.outputs = _EXPANSION * width
        strides = (1, stride, stride)
        self.reduce = _normalised(inputs, width, 1, strides)
        self.spatial = _normalised(width, width, (1, 3, 3))
        if kind != "2D":
            self.temporal = _normalised(width, width, (3, 1, 1))
        self.restore = _normalised(width, self.outputs, 1)
        changed = stride != 1 or inputs != self.outputs
        self.shortcut = _normalised(inputs, self.outputs, 1, strides) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        reduced = functional.relu(self.reduce(x))
        inner = functional.relu(self.spatial(reduced))
        if self.kind == "A":
            inner = functional.relu(self.temporal(inner))
        elif self.kind == "B":
            inner = functional.relu(inner + self.temporal(reduced))
        elif self.kind == "C":
            inner = functional.relu((inner + self.temporal(inner)) / 2)
        return functional.relu(self.restore(inner) + self.shortcut(x))


def _normalised(
    inputs: int, outputs: int, kernel: int | tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
) -> nn.Sequential:
    padding = tuple(size // 2 for size in kernel) if isinstance(kernel, tuple) else kernel // 2
    return nn.Sequential(
        Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False), nn.BatchNorm3d(outputs)
    )


def _ours(name: str) -> str:
    """Our name of a parameter or buffer of the port."""
    if not name.startswith("layer"):
        layer, part = name.split(".")
        return f"{_PORT[layer]}.{part}"
    stage, index, layer, part = name.split(".", 3)
    return f"{stage}.{index}.{_PORT_BLOCK[layer]}.{part}"
