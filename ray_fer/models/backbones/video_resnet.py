"""Video ResNets of 18 layers (Tran et al., CVPR 2018, arXiv:1711.11248) as torchvision has them: R3D, MC3, R(2+1)D.

Written anew, under torchvision's parameter names, so that its weights fit and a width can be chosen, which
torchvision's own class does not offer.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Model

Kind = Literal["r3d_18", "mc3_18", "r2plus1d_18"]
_STAGES = 4


class VideoResNet(nn.Module):
    """18-layer video ResNet: frames [B,T,C,H,W] -> (cls [B,D], tokens [B,N,D]), D = `dim`.

    Tokens are the cells of the last feature map, ordered by time, row and column: T/8 x H/16 x W/16 of them, each
    rounded up ("mc3_18" keeps T). A CNN has no CLS token: cls is the mean of the tokens, the global average pooling of
    the paper, so that whatever concatenates cls with the mean token gets the same vector twice.

    Parameters
    ----------
    kind: "r3d_18" (3x3x3 convolutions), "mc3_18" (3x3x3 in the first stage, 1x3x3 after it), or "r2plus1d_18" (each
        3x3x3 split into 1x3x3 and 3x1x1 with about as many parameters).
    channels: of the frames.
    width: channels of the first stage; each further stage has twice as many. `dim` is 8 times as much.

    Raises ValueError for an unknown kind.
    """

    def __init__(self, kind: Kind = "r3d_18", channels: int = 3, width: int = 64) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"unknown video ResNet {kind!r}; expected r3d_18, mc3_18 or r2plus1d_18")
        self.kind, self.channels = kind, channels
        self.dim = width * 2 ** (_STAGES - 1)
        self.stem = _stem(kind, channels, width)
        self.layer1 = _stage(kind, width, width, stride=1)
        after = "frame" if kind == "mc3_18" else kind
        self.layer2 = _stage(after, width, 2 * width, stride=2)
        self.layer3 = _stage(after, 2 * width, 4 * width, stride=2)
        self.layer4 = _stage(after, 4 * width, 8 * width, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stem(frames.transpose(1, 2))  # [B,C,T,H,W] from here on
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        tokens = maps.flatten(2).transpose(1, 2)
        return tokens.mean(dim=1), tokens

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of torchvision's model, without its head, for this backbone. Raises ValueError for others."""
        if "stem.0.weight" not in state or "layer4.1.conv2.1.weight" not in state:
            raise ValueError(f"these are not the weights of torchvision's {self.kind}")
        ours = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        ours["stem.0.weight"] = widened(ours["stem.0.weight"], self.channels)
        return ours


class VideoResNetClassifier(Model):
    """`VideoResNet` of one kind with a linear layer; initialised as torchvision does it."""

    kind: ClassVar[Kind]

    def __init__(self, classes: int = 7, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.backbone = VideoResNet(self.kind, channels, width)
        self.classifier = nn.Linear(self.backbone.dim, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are the global average pooling of the last feature map."""
        features, _ = self.backbone(batch.frames)
        return ModelOutput(logits=self.classifier(features), features=features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; the head only where it is for as many classes."""
        ours = {f"backbone.{name}": tensor for name, tensor in self.backbone.adapted(state).items()}
        head = {f"classifier.{name}": state[f"fc.{name}"] for name in ("weight", "bias") if f"fc.{name}" in state}
        if head and len(head["classifier.weight"]) == self.classifier.out_features:
            ours.update(head)
        return ours


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut: [B,inputs,T,H,W] -> [B,outputs,T',H',W']."""

    def __init__(self, kind: str, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        # As in torchvision, both convolutions of an R(2+1)D block have the inner width that suits the first.
        inner = (inputs * outputs * 3 * 3 * 3) // (inputs * 3 * 3 + 3 * outputs)
        self.conv1 = nn.Sequential(
            _convolution(kind, inputs, outputs, inner, stride), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(_convolution(kind, outputs, outputs, inner, stride=1), nn.BatchNorm3d(outputs))
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            strides = (1 if kind == "frame" else stride, stride, stride)
            self.downsample = nn.Sequential(
                Conv3d(inputs, outputs, 1, stride=strides, bias=False), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv2(self.conv1(x)) + self.downsample(x))


def _stem(kind: Kind, channels: int, width: int) -> nn.Sequential:
    if kind != "r2plus1d_18":
        return nn.Sequential(
            Conv3d(channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
    inner = 45 * width // 64
    return nn.Sequential(
        Conv3d(channels, inner, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(inner),
        nn.ReLU(inplace=True),
        Conv3d(inner, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


def _stage(kind: str, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(kind, inputs, outputs, stride), BasicBlock(kind, outputs, outputs, stride=1))


def _convolution(kind: str, inputs: int, outputs: int, inner: int, stride: int) -> nn.Module:
    if kind == "frame":
        return Conv3d(inputs, outputs, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
    if kind == "r2plus1d_18":
        return nn.Sequential(
            Conv3d(inputs, inner, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(inplace=True),
            Conv3d(inner, outputs, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
        )
    return Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
