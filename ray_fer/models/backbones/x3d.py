"""X3D (Feichtenhofer, CVPR 2020, arXiv:2004.04730): a thin video CNN that is deep instead of wide, and keeps T.

Written anew. The parameters are those of pytorchvideo's X3D, whose Kinetics weights fit after a renaming, and the net
is taken apart into a stem, four stages and a head, so that a model can put something of its own between two of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.backbones.convolution import Conv3d, widened
from ray_fer.models.card import Input

_DEPTHS = (1, 2, 5, 3)
"""Blocks of the stages before their number is multiplied."""
_SE_RATIO = 1 / 16


@dataclass(frozen=True)
class Variant:
    """A published X3D: what `depth_factor` it has, and the clips that it was trained on."""

    depth_factor: float
    input: Input


SIZES = {
    "xs": Variant(2.2, Input(4, 160)),
    "s": Variant(2.2, Input(13, 160)),
    "m": Variant(2.2, Input(16, 224)),
    "l": Variant(5.0, Input(16, 312)),
}
"""The Kinetics models: one net for XS, S and M, a deeper one for L. They read every 12th, 6th, 5th and 5th frame."""


class X3D(nn.Module):
    """X3D without its classifier: frames [B,T,C,H,W] -> features [B,D], D = `dim`.

    The stem halves H and W, and so does each of four stages; nothing changes T, so that a map has one temporal index
    for each frame. To put a module between two stages, go through the parts as `forward` does: `stem_maps`, `stages`,
    `pooled`. Stage i's map has `stage_channels[i]` channels.

    Parameters
    ----------
    channels: of the frames.
    width_factor, width: `width` channels in the stem and the first stage, twice as many in each further stage, all of
        them times `width_factor`: 24, 48, 96, 192. Rounded to multiples of 8; 8, 16, 32, 64 for a width of 4.
    depth_factor: the stages have 1, 2, 5, 3 blocks times this, rounded up; see `SIZES`.
    bottleneck_factor: a block is this much wider inside, rounded down: 54, 108, 216, 432.
    dim: of the features.

    Raises ValueError for factors and widths that are not above 0.

    The two implementations that Facebook published, SlowFast and pytorchvideo, follow one construction rule, and differ
    in one layer: SlowFast normalises every shortcut that has a convolution, pytorchvideo only those that change the
    number of channels, which leaves out the first stage's. This is pytorchvideo's. Both heads average over as many
    cells as a clip in training has, and slide over larger maps; here it is the mean of all cells, the same for clips
    of that size. What follows in both is dropout of 0.5 and a linear layer of initial deviation 0.01.
    """

    def __init__(
        self,
        channels: int = 3,
        width_factor: float = 2.0,
        depth_factor: float = 2.2,
        bottleneck_factor: float = 2.25,
        width: int = 12,
        dim: int = 2048,
    ) -> None:
        super().__init__()
        if min(channels, width_factor, depth_factor, bottleneck_factor, width, dim) <= 0:
            raise ValueError("channels, widths, factors and dim of an X3D must be above 0")
        self.channels, self.dim = channels, dim
        self.stage_channels = _stage_channels(width, width_factor)
        inners = [int(bottleneck_factor * outputs) for outputs in self.stage_channels]
        self.stem = _stem(channels, self.stage_channels[0])
        self.stages = nn.ModuleList()
        inputs = self.stage_channels[0]
        for inner, outputs, depth in zip(inners, self.stage_channels, _stage_depths(depth_factor), strict=True):
            self.stages.append(_stage(inputs, inner, outputs, depth))
            inputs = outputs
        self.head = _head(inputs, inners[-1], dim)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Block):
                nn.init.zeros_(module.norm_c.weight)  # a block starts as its shortcut

    def forward(self, frames: Tensor) -> Tensor:
        return self.pooled(self.maps(frames))

    def stem_maps(self, frames: Tensor) -> Tensor:
        """Frames [B,T,C,H,W] -> maps [B,C',T,H/2,W/2], rounded up, for the first of `stages`."""
        return self.stem(frames.transpose(1, 2))

    def maps(self, frames: Tensor) -> Tensor:
        """Frames [B,T,C,H,W] -> the last stage's maps [B,192,T,H/32,W/32], rounded up."""
        maps = self.stem_maps(frames)
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """The last stage's maps [B,192,T,H,W] -> features [B,D], none of them negative."""
        return self.head(maps)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of pytorchvideo's X3D (X3D_XS.pyth ... X3D_L.pyth), without its classifier, for this backbone.

        Raises ValueError for others, and for those of an X3D of another depth.
        """
        if not {"blocks.0.conv.conv_t.weight", "blocks.5.pool.post_conv.weight"} <= state.keys():
            raise ValueError("these are not the weights of pytorchvideo's X3D (SlowFast's have other names and layers)")
        theirs, depths = _depths_of(state), tuple(len(list(stage.children())) for stage in self.stages)
        if theirs != depths:
            raise ValueError(f"these are weights of {_named(theirs)}, and the model is {_named(depths)}")
        ours = {_our_name(name): tensor for name, tensor in state.items() if not name.startswith("blocks.5.proj.")}
        ours["stem.conv_xy.weight"] = widened(ours["stem.conv_xy.weight"], self.channels)
        return ours


class Block(nn.Module):
    """Inverted bottleneck around a channel-wise 3x3x3 convolution: [B,inputs,T,H,W] -> [B,outputs,T,H',W'].

    1x1x1 to `inner` channels, ReLU; 3x3x3 with the stride (1, s, s), squeeze-and-excitation where `excited`, Swish;
    1x1x1; plus the shortcut; ReLU. Every convolution is normalised, except the shortcut's where it only strides.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, excited: bool) -> None:
        super().__init__()
        strides = (1, stride, stride)
        self.conv_a = Conv3d(inputs, inner, 1, bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = Conv3d(inner, inner, 3, stride=strides, padding=1, groups=inner, bias=False)
        self.norm_b = nn.BatchNorm3d(inner)
        self.excitation = Excitation(inner, _rounded(_SE_RATIO * inner)) if excited else nn.Identity()
        self.conv_c = Conv3d(inner, outputs, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.add_module("conv", Conv3d(inputs, outputs, 1, stride=strides, bias=False))
        if inputs != outputs:
            self.shortcut.add_module("norm", nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm_a(self.conv_a(x)))
        inner = functional.silu(self.excitation(self.norm_b(self.conv_b(inner))))
        return functional.relu(self.norm_c(self.conv_c(inner)) + self.shortcut(x))


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al., CVPR 2018) over T, H and W: scales the channels of [B,C,T,H,W]."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = Conv3d(channels, squeezed, 1)
        self.expand = Conv3d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = functional.relu(self.reduce(x.mean(dim=(2, 3, 4), keepdim=True)))
        return x * self.expand(squeezed).sigmoid()


def _stem(channels: int, outputs: int) -> nn.Sequential:
    """1x3x3 over the image, then 5x1x1 over time in each channel by itself."""
    return nn.Sequential(
        OrderedDict(
            conv_xy=Conv3d(channels, outputs, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False),
            conv_t=Conv3d(outputs, outputs, (5, 1, 1), padding=(2, 0, 0), groups=outputs, bias=False),
            norm=nn.BatchNorm3d(outputs),
            activation=nn.ReLU(inplace=True),
        )
    )


def _stage(inputs: int, inner: int, outputs: int, depth: int) -> nn.Sequential:
    """The first block strides; the first, the third and so on have squeeze-and-excitation."""
    blocks = [Block(inputs, inner, outputs, stride=2, excited=True)]
    blocks += [Block(outputs, inner, outputs, stride=1, excited=index % 2 == 0) for index in range(1, depth)]
    return nn.Sequential(*blocks)


def _head(inputs: int, inner: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            pre_conv=Conv3d(inputs, inner, 1, bias=False),
            pre_norm=nn.BatchNorm3d(inner),
            pre_activation=nn.ReLU(inplace=True),
            pool=nn.AdaptiveAvgPool3d(1),
            post_conv=Conv3d(inner, dim, 1, bias=False),
            post_activation=nn.ReLU(inplace=True),
            flat=nn.Flatten(),
        )
    )


def _stage_channels(width: int, factor: float) -> tuple[int, ...]:
    widths = [width]
    for _ in _DEPTHS[1:]:
        widths.append(_rounded(2 * widths[-1]))
    return tuple(_rounded(factor * one) for one in widths)


def _stage_depths(factor: float) -> tuple[int, ...]:
    return tuple(math.ceil(factor * depth) for depth in _DEPTHS)


def _rounded(width: float) -> int:
    """To the nearest multiple of 8, or to the next one where that takes away more than a tenth; at least 8."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


_NAMES = (
    ("blocks.0.conv.conv_t.", "stem.conv_xy."),  # pytorchvideo has the names of these two the wrong way round
    ("blocks.0.conv.conv_xy.", "stem.conv_t."),
    ("blocks.0.norm.", "stem.norm."),
    *((f"blocks.{stage + 1}.res_blocks.", f"stages.{stage}.") for stage in range(len(_DEPTHS))),
    ("branch1_", "shortcut."),
    ("branch2.", ""),
    ("norm_b.1.block.0.", "excitation.reduce."),
    ("norm_b.1.block.2.", "excitation.expand."),
    ("norm_b.0.", "norm_b."),
    ("blocks.5.pool.", "head."),
)
"""Parts of pytorchvideo's parameter names, and of ours."""


def _our_name(name: str) -> str:
    for theirs, ours in _NAMES:
        name = name.replace(theirs, ours)
    return name


def _depths_of(state: dict[str, Tensor]) -> tuple[int, ...]:
    """How many blocks the stages of a checkpoint have."""
    prefixes = [f"blocks.{stage + 1}.res_blocks." for stage in range(len(_DEPTHS))]
    return tuple(len({name.split(".")[3] for name in state if name.startswith(prefix)}) for prefix in prefixes)


def _named(depths: tuple[int, ...]) -> str:
    """Such as "X3D-L (5, 10, 25, 15 blocks)"."""
    sizes = "/".join(size.upper() for size, one in SIZES.items() if _stage_depths(one.depth_factor) == depths)
    return f"{f'X3D-{sizes}' if sizes else 'an X3D'} ({', '.join(map(str, depths))} blocks)"
