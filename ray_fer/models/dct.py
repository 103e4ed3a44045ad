"""The two-dimensional DCT-II as a bank of filters (Cui et al. 2025, equations 2 and 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def dct_filters(size: int = 7) -> Tensor:
    """float32 [size*size, size, size]: filter u*size+v holds the basis function of vertical frequency u, horizontal v.

    Orthonormal: a patch's inner products with them are its DCT coefficients, and their squares add up to its own.
    """
    places, frequencies = torch.arange(size, dtype=torch.float64), torch.arange(size, dtype=torch.float64)
    waves = torch.cos(torch.pi * (2 * places + 1) * frequencies[:, None] / (2 * size))  # [frequency, place]
    waves *= torch.where(frequencies == 0, 1 / size, 2 / size).sqrt()[:, None]
    return torch.einsum("ui,vj->uvij", waves, waves).flatten(0, 1).float()
