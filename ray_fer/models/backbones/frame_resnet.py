"""ResNet (He et al. 2016) over single frames, up to any stage and of any width, under torchvision's names.

torchvision's own has fixed widths and four stages; systems for facial expressions put modules between the stages, and
their tiny presets need narrow ones. Stages are named and built as there, so that its weights fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ResNet-18's block. [N,inputs,H,W] -> [N,planes,H/stride,W/stride]."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut: ResNet-50's block, its stride in the 3x3. -> [N,4*planes,...]."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = _shortcut(inputs, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class FrameResNet(nn.Module):
    """Stem and one stage for each number in `blocks`: frames [N,C,S,S] -> maps [N,dim,ceil(S/2^k),...], k stages + 1.

    `width` is the stem's (64 in the published networks); it doubles from stage to stage, and `dim` is the last one's.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        channels: int = 3,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = [f"layer{number}" for number in range(1, len(blocks) + 1)]
        self.dim = width
        for number, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            planes = width * 2**number
            self.add_module(name, stage(self.dim, planes, count, stride=2 if number else 1, block=block))
            self.dim = planes * block.expansion
        initialise(self)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(frames)).relu())
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x


def stage(
    inputs: int, planes: int, count: int, stride: int, block: type[BasicBlock] | type[Bottleneck] = BasicBlock
) -> nn.Sequential:
    """`count` blocks, the first one with the stride."""
    first = block(inputs, planes, stride)
    return nn.Sequential(first, *(block(planes * block.expansion, planes) for _ in range(count - 1)))


def initialise(module: nn.Module) -> None:
    """Draw the convolutions of `module` as He et al. do (normal, by fan-out), which all released code here does."""
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu")


def side_after(size: int, halvings: int) -> int:
    """Side of the map of a frame of `size` pixels after `halvings` strides of 2: each rounds up."""
    return -(-size // 2**halvings)


def check_clip(title: str, frames: Tensor, count: int, size: int) -> None:
    """ValueError when the clips [B,T,C,H,W] are not of `count` frames of `size` px."""
    _, seen, _, height, width = frames.shape
    if (seen, height, width) != (count, size, size):
        raise ValueError(
            f"{title} was built for {count} frames of {size}x{size} px and was given {seen} of {height}x{width}; build "
            "it with frames= and size= as the transform gives them"
        )


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
