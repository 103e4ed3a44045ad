"""ResNet50V2 (He et al. 2016, arXiv:1603.05027) as Keras builds it, over single frames.

Other libraries' ResNets V2 are other networks: they put the strides and the biases elsewhere, and Keras' weights do not
fit them. A submodule "conv2_block1.1_conv" is Keras' layer "conv2_block1_1_conv": dots for underscores, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1.001e-5


class ResNet50V2(nn.Module):
    """ResNet50V2 without its classifier: frames [N,C,S,S] -> maps [N,dim,S/32,S/32], rounded up; none negative.

    Frames are standardised to -1..1. The stem is a 7x7 convolution of stride 2 with a bias, zeros around its map, and a
    3x3 max pooling of stride 2; neither a normalisation nor a ReLU follows it. Then four stacks of blocks, all but the
    last one with a stride of 2 in their last block; BatchNorm and ReLU.

    Parameters
    ----------
    width: channels of the stem; stack i (from 0) has `width` * 2^i inside its blocks, and four times as many outside.
    blocks: of each stack, at least 2, since the first and the last one are built differently.
    channels: of the frames.
    momentum: share of BatchNorm's moving statistics that a batch leaves as they are, as Keras counts it; torch calls
        1 - `momentum` so.

    Raises ValueError for fewer blocks.

    One difference to Keras 3 is left, in training: it moves the moving variance towards the batch's variance, torch
    towards the unbiased estimate n/(n-1) times as large, where n counts a channel's values in the batch. Keras 2 did
    so, too, with TensorFlow's fused kernel. For 32 frames of 224 px it is less than 0.07 % in the last layers, and less
    before; what a batch in training is normalised with is the same in both.
    """

    def __init__(
        self, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3), channels: int = 3, momentum: float = 0.99
    ) -> None:
        super().__init__()
        if not blocks or min(blocks) < 2:
            raise ValueError(f"each stack of a ResNet50V2 has 2 blocks or more, not {tuple(blocks)}")
        self.channels = channels
        self.conv1_conv = nn.Conv2d(channels, width, 7, stride=2, padding=3)
        self.blocks: list[str] = []
        self.dim = width
        for stack, count in enumerate(blocks):
            planes = width * 2**stack
            for index in range(count):
                strided = index == count - 1 and stack < len(blocks) - 1
                name = f"conv{stack + 2}_block{index + 1}"
                self.add_module(name, Block(self.dim, planes, 2 if strided else 1, index == 0, momentum))
                self.blocks.append(name)
                self.dim = 4 * planes
        self.post_bn = _norm(self.dim, momentum)
        initialise(self)

    def forward(self, frames: Tensor) -> Tensor:
        # Zeros count in this pooling, as in Keras; torch's own padding never wins.
        x = functional.max_pool2d(functional.pad(self.conv1_conv(frames), (1, 1, 1, 1)), 3, stride=2)
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return self.post_bn(x).relu()

    def keras_layers(self) -> list[str]:
        """All of Keras' layers in its order, `ResNet50V2(include_top=False).layers`: 190, most of them without weights.

        Poolings in shortcuts are called what Keras calls them in the first network of a process.
        """
        names, pooled = ["input_layer", "conv1_pad", "conv1_conv", "pool1_pad", "pool1_pool"], 0
        for name in self.blocks:
            block = self.get_submodule(name)
            parts = ["preact_bn", "preact_relu", "1_conv", "1_bn", "1_relu", "2_pad", "2_conv", "2_bn", "2_relu"]
            names += [f"{name}_{part}" for part in parts]
            if "0_conv" in block:
                names.append(f"{name}_0_conv")
            elif block.stride > 1:
                names.append(f"max_pooling2d_{pooled}" if pooled else "max_pooling2d")
                pooled += 1
            names += [f"{name}_3_conv", f"{name}_out"]
        return [*names, "post_bn", "post_relu"]

    def last_layers(self, count: int) -> list[str]:
        """Our submodules with weights among the last `count` of Keras' layers, in Keras' order; none for 0.

        For 10 they are conv5_block3's 1_bn, 2_conv, 2_bn and 3_conv, and post_bn: the other five have no weights.
        Raises ValueError for a negative number, and for more layers than there are.
        """
        names = self.keras_layers()
        if not 0 <= count <= len(names):
            raise ValueError(f"this ResNet50V2 has {len(names)} layers as Keras counts them, not {count}")
        ours = {name.replace(".", "_"): name for name in self.weighted()}
        return [ours[name] for name in names[len(names) - count :] if name in ours]

    def weighted(self) -> list[str]:
        """Every submodule that has weights."""
        return [name for name, one in self.named_modules() if isinstance(one, (nn.Conv2d, nn.BatchNorm2d))]


class Block(nn.ModuleDict):
    """Preactivated bottleneck: [N,inputs,H,W] -> [N,4*planes,H/stride,W/stride], rounded up.

    BatchNorm and ReLU; 1x1; BatchNorm and ReLU; 3x3 with the stride; BatchNorm and ReLU; 1x1 with a bias; plus the
    shortcut. That one is a 1x1 convolution with a bias of the activated input where `projected`, else the input itself.
    """

    def __init__(self, inputs: int, planes: int, stride: int, projected: bool, momentum: float) -> None:
        super().__init__({"preact_bn": _norm(inputs, momentum)})
        if projected:
            self["0_conv"] = nn.Conv2d(inputs, 4 * planes, 1, stride)
        self["1_conv"] = nn.Conv2d(inputs, planes, 1, bias=False)
        self["1_bn"] = _norm(planes, momentum)
        self["2_conv"] = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self["2_bn"] = _norm(planes, momentum)
        self["3_conv"] = nn.Conv2d(planes, 4 * planes, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        active = self["preact_bn"](x).relu()
        # Keras' max pooling of 1x1 cells with a stride takes every other cell.
        shortcut = self["0_conv"](active) if "0_conv" in self else x[..., :: self.stride, :: self.stride]
        y = self["1_bn"](self["1_conv"](active)).relu()
        y = self["2_bn"](self["2_conv"](y)).relu()
        return shortcut + self["3_conv"](y)


def initialise(module: nn.Module) -> None:
    """Draw convolutions and linear layers as Keras does: Glorot's uniform distribution, and biases of 0."""
    for one in module.modules():
        if isinstance(one, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(one.weight)
            if one.bias is not None:
                nn.init.zeros_(one.bias)


def _norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=1 - momentum)
