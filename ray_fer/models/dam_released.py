"""DAM as HDF's released code has it (QIcita/HDF_DFER, models/DAM.py), which is not what the paper's equations say.

It cannot run as released: its DCT module is missing, of which only the attributes' names are known. Here are the parts
that could be read, with the paper's filters. They differ from those of `ray_fer.models.dam` in this:

- The temporal branch pools the channels of a frame into T bins. What is called a difference in time is that of
  neighbouring bins, and the "Wasserstein" distance is that of a frame's bins from their own mean.
- The frequency branch sees the mean over time, so that one map gates all frames, and sums over channels instead of
  averaging. Its first perturbation is a learned number for each filter. The map is a 7x7 convolution's, and the
  deviation that scales it is taken over the filters of a place.
- The branches are fused with two learned numbers, for all clips alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.models.dct import dct_filters

_FILTER = 7
_REGULARISATION = 0.05
_STABLE = 1e-5


class ReleasedTemporalBranch(nn.Module):
    """x [B,C,T,H,W] -> x_t of that shape; see the module."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.beta = nn.Parameter(torch.tensor(0.5))
        self.gamma = nn.Parameter(torch.ones(frames, frames))
        self.delta = nn.Parameter(torch.zeros(frames, frames))
        self.embed = nn.Linear(frames, frames, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        frames_first = maps.transpose(1, 2)  # [B,T,C,H,W], of which C is pooled into bins
        mean = functional.adaptive_avg_pool3d(frames_first, (self.frames, 1, 1)).flatten(2)
        largest = functional.adaptive_max_pool3d(frames_first, (self.frames, 1, 1)).flatten(2)
        distance = torch.linalg.vector_norm(mean - mean.mean(dim=2, keepdim=True), dim=2, keepdim=True)
        difference = functional.pad(mean.diff(dim=2).abs(), (1, 0))
        level = self.alpha * mean + self.beta * largest
        gate = (self.gamma * level + self.delta * distance - difference).sigmoid()
        tokens = self.embed(gate)
        attended = functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(dim=2)
        return maps * attended.sigmoid()[:, None, :, None, None] + maps


class ReleasedFrequencyBranch(nn.Module):
    """x [B,C,T,H,W] -> x_s of that shape; see the module."""

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = _FILTER**2
        self.register_buffer("filters", dct_filters(_FILTER)[:, None], persistent=False)
        self.noise = nn.Parameter(0.1 * torch.randn(filters, 1, 1))
        self.noise_weight = nn.Parameter(torch.ones(()))
        self.distance_weight = nn.Parameter(torch.zeros(()))
        self.steepness = nn.Parameter(torch.tensor(0.5))
        self.scale = nn.Parameter(torch.ones(filters, 1, 1))
        self.shift = nn.Parameter(torch.zeros(filters, 1, 1))
        self.map = nn.Conv2d(filters, 1, _FILTER, padding=_FILTER // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        found = functional.conv2d(maps.mean(dim=2).sum(dim=1, keepdim=True), self.filters, padding=_FILTER // 2)
        distance = torch.linalg.vector_norm(
            found - found.mean(dim=(1, 2, 3), keepdim=True), dim=(1, 2, 3), keepdim=True
        )
        sign = found.sign()
        moved = found + self.noise_weight * self.noise * sign
        moved = moved + _REGULARISATION * self.distance_weight * distance * sign
        mixed = (found + moved) / 4  # (0.5 F + 0.5 F_adv) / 2
        deviation = (mixed.var(dim=1, correction=0, keepdim=True) + _STABLE).sqrt()
        fitted = torch.tanh(self.steepness * mixed / deviation) * self.scale + self.shift
        gate = self.map(fitted).sigmoid()[:, :, None]  # [B,1,1,H,W]
        return maps * gate + maps


class ReleasedFusion(nn.Module):
    """(a x_t + b x_s) / 2 with learned numbers that start at a = 0.8 and b = 0.3."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.8, 0.3]))

    def forward(self, over_time: Tensor, over_space: Tensor) -> Tensor:
        return (self.weights[0] * over_time + self.weights[1] * over_space) / 2
