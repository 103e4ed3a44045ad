"""3-D convolutions that can be trained in bfloat16 on a CPU, too, and first convolutions for more channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that stays in its own precision under autocast on a CPU; on a GPU it is `nn.Conv3d`.

    oneDNN, as of torch 2.15, writes weight gradients of bfloat16 3D convolutions wrongly, and past their end, where a
    map is small: two temporal indices under a kernel of three are enough. Seen on a CPU with AVX-512 BF16.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cpu:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


def early_convolutions(channels: int, width: int, patch: int) -> nn.Sequential:
    """Two strided 3x3 convolutions before a patch embedding: [N,channels,H,W] -> [N,width,H/4,W/4].

    They let a small transformer learn from hundreds of clips (Xiao et al., Early Convolutions Help Transformers See
    Better, NeurIPS 2021). Raises ValueError for a `patch` that 4 does not divide.
    """
    if patch % 4:
        raise ValueError(f"a convolutional stem needs a patch size that 4 divides, not {patch}")
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.GELU(),
        nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )


def widened(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weight [O,C,...] for more input channels.

    What is added starts at 0, so that the network starts as the public one, whatever the further channels show. Raises
    ValueError for fewer channels than the weight has.
    """
    missing = channels - weight.shape[1]
    if missing < 0:
        raise ValueError(f"the first convolution reads {weight.shape[1]} channels, more than the model's {channels}")
    if missing == 0:
        return weight
    return functional.pad(weight, [0, 0] * (weight.ndim - 2) + [0, missing])
