"""HDF's Time-Frequency Distributional Attention Module (Cui et al. 2025, section 4.1), for any video backbone.

`DAM(channels, frames)` goes wherever a backbone has feature maps [B,C,T,H,W], and returns maps of the same shape:
`nn.Sequential(stage, DAM(256, 4))` in the place of a stage puts it into any network.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.dam_released import ReleasedFrequencyBranch, ReleasedFusion, ReleasedTemporalBranch
from ray_fer.models.dct import dct_filters

Branches = Literal["both", "frequency", "temporal"]
Variant = Literal["paper", "released"]
_FILTER = 7
_PERTURBATION = 0.05
"""epsilon of equation 6, which the paper does not give."""
_STABLE = 1e-5
"""epsilon of equation 7."""


class DAM(nn.Module):
    """Feature maps [B,C,T,H,W] -> [B,C,T,H,W], with attention to frames and to places of each frame.

    Parameters
    ----------
    channels, frames: C and T of the maps.
    branches: "both", or one of them alone: the rows of Table 4. One alone is not weighted.
    variant: "paper", or "released" for what the released code computes (see `dam_released`).

    Raises ValueError for maps of other frames. The frequency branch attends from each place of a frame to all others,
    (H W)^2 products, so it belongs behind the last stages of a backbone.
    """

    def __init__(self, channels: int, frames: int, branches: Branches = "both", variant: Variant = "paper") -> None:
        super().__init__()
        if branches not in get_args(Branches):
            raise ValueError(f"unknown branches {branches!r} of DAM; expected both, frequency or temporal")
        if variant not in get_args(Variant):
            raise ValueError(f"unknown variant {variant!r} of DAM; expected paper or released")
        self.frames = frames
        self.frequency: nn.Module | None = None
        self.temporal: nn.Module | None = None
        self.fusion: nn.Module | None = None
        released = variant == "released"
        if branches != "temporal":
            self.frequency = ReleasedFrequencyBranch() if released else FrequencyBranch()
        if branches != "frequency":
            self.temporal = ReleasedTemporalBranch(frames) if released else TemporalBranch(frames)
        if branches == "both":
            self.fusion = ReleasedFusion() if released else Fusion(channels)

    def forward(self, maps: Tensor) -> Tensor:
        if maps.shape[2] != self.frames:
            raise ValueError(
                f"DAM was built for {self.frames} frames and was given maps of {maps.shape[2]}; build it with the "
                "frames that are left where it stands in the backbone"
            )
        over_time = maps if self.temporal is None else self.temporal(maps)
        over_space = maps if self.frequency is None else self.frequency(maps)
        if self.fusion is not None:
            return self.fusion(over_time, over_space)
        return over_space if self.temporal is None else over_time


class FrequencyBranch(nn.Module):
    """Attention to places, from the frequencies around them (section 4.1.1): x [B,C,T,H,W] -> x_s of that shape.

    Each frame's maps are averaged over channels and filtered with the 49 functions of the 7x7 DCT-II. The coefficients
    are moved away from zero (equation 6), scaled (7), and self-attention over the places of a frame makes one map of
    them, whose sigmoid is the gate (8).

    What the paper leaves open, and is ours: the DCT sees the mean over channels; E[f] is one number for each filter,
    the mean over the clips of one call in training (a worker's share of a batch, or a part of it with `accumulate`),
    and in evaluation the running mean of these, so that an answer depends on no other clip; the distance from it is
    that of a whole clip; the deviation in equation 7 is that of each filter within a clip; attention has one head.
    alpha of equation 6 starts at 1, beta at 0 (the distance is in the tens), and of equation 7 alpha and gamma at 1,
    beta at 0.
    """

    filters: Tensor
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = _FILTER**2
        self.momentum = 0.1  # of the running mean, under the name that BatchNorm's has: see `sharpness.ascended`
        self.register_buffer("filters", dct_filters(_FILTER)[:, None], persistent=False)
        self.register_buffer("centre", torch.zeros(filters))
        self.sign_weight = nn.Parameter(torch.ones(()))
        self.distance_weight = nn.Parameter(torch.zeros(()))
        self.steepness = nn.Parameter(torch.ones(()))
        self.scale = nn.Parameter(torch.ones(filters))
        self.shift = nn.Parameter(torch.zeros(filters))
        self.qkv = nn.Linear(filters, 3 * filters)
        self.proj = nn.Linear(filters, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.attention(maps).sigmoid() + maps

    def attention(self, maps: Tensor) -> Tensor:
        """f_att of equation 8: [B,1,T,H,W]."""
        clips, _, frames, height, width = maps.shape
        means = maps.mean(dim=1).flatten(0, 1)[:, None]
        found = functional.conv2d(means, self.filters, padding=_FILTER // 2).float()
        found = found.unflatten(0, (clips, frames)).permute(0, 1, 3, 4, 2)  # [B,T,H,W,49]
        tokens = self._fitted(self._perturbed(found)).reshape(clips * frames, height * width, -1)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(attended).view(clips, 1, frames, height, width)

    def _perturbed(self, found: Tensor) -> Tensor:
        """Equation 6."""
        mean = self.centre
        if self.training:
            mean = found.mean(dim=(0, 1, 2, 3))
            with torch.no_grad():
                self.centre.lerp_(mean, self.momentum)
        distance = torch.linalg.vector_norm(found - mean, dim=(1, 2, 3, 4), keepdim=True)
        return found + found.sign() * (self.sign_weight * _PERTURBATION + self.distance_weight * distance)

    def _fitted(self, moved: Tensor) -> Tensor:
        """Equation 7."""
        deviation = (moved.var(dim=(1, 2, 3), correction=0, keepdim=True) + _STABLE).sqrt()
        return torch.tanh(self.steepness * moved / deviation) * self.scale + self.shift


class TemporalBranch(nn.Module):
    """Attention to frames (section 4.1.2): x [B,C,T,H,W] -> x_t of that shape.

    A frame is described by the mean and the largest of its activations, over channels and space; by how far its mean is
    from the clip's (the "Wasserstein" term, an L2 distance as the paper says) and from the frame before (0 for the
    first). Equation 9 makes a T x T map of these, self-attention over the frames a gate for each (10).

    As in the released code gamma and delta are T x T, gamma starting at 1 and delta at 0, alpha and beta are numbers
    that start at 0.5, attention has one head and no bias, and its mean over t' is a frame's gate.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.beta = nn.Parameter(torch.tensor(0.5))
        self.gamma = nn.Parameter(torch.ones(frames, frames))
        self.delta = nn.Parameter(torch.zeros(frames, frames))
        self.qkv = nn.Linear(frames, 3 * frames, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        gate = self.attention(maps).sigmoid()
        return maps * gate[:, None, :, None, None] + maps

    def attention(self, maps: Tensor) -> Tensor:
        """TA, before its sigmoid in equation 10: [B,T]."""
        query, key, value = self.qkv(self.gate(maps)).chunk(3, dim=-1)
        return functional.scaled_dot_product_attention(query, key, value).mean(dim=2)

    def gate(self, maps: Tensor) -> Tensor:
        """Equation 9: [B,T,T], in (0, 1)."""
        # Frames differ in the third digit: in bfloat16 there would be nothing left of it.
        mean, largest = maps.mean(dim=(1, 3, 4), dtype=torch.float32), maps.amax(dim=(1, 3, 4)).float()
        drift = (mean - mean.mean(dim=1, keepdim=True)).abs()
        change = functional.pad(mean.diff(dim=1).abs(), (1, 0))
        level = self.alpha * mean + self.beta * largest
        level, drift, change = (one[:, :, None] for one in (level, drift, change))
        return (self.gamma * level + self.delta * drift - change).sigmoid()


class Fusion(nn.Module):
    """lambda_t x_t + lambda_s x_s with weights of each clip that add up to 1 (equations 11 and 12).

    Each comes from the global average of its branch through a linear layer and a sigmoid; dividing both by their sum is
    the constraint.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.time = nn.Linear(channels, 1)
        self.space = nn.Linear(channels, 1)

    def forward(self, over_time: Tensor, over_space: Tensor) -> Tensor:
        weights = self.weights(over_time, over_space)[..., None, None, None, None]
        return weights[:, 0] * over_time + weights[:, 1] * over_space

    def weights(self, over_time: Tensor, over_space: Tensor) -> Tensor:
        """(lambda_t, lambda_s) of each clip: [B,2]."""
        means = ((self.time, over_time), (self.space, over_space))
        both = torch.cat([layer(maps.mean(dim=(2, 3, 4))).sigmoid() for layer, maps in means], dim=1)
        return both / both.sum(dim=1, keepdim=True)
