"""Sharpness-aware minimisation (SAM; Foret et al., ICLR 2021): the gradient at the worst weights nearby."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def ascended(model: nn.Module, rho: float) -> Iterator[None]:
    """Within it, the weights w are w + rho g / ||g||_2, g being their gradients before; these are forgotten.

    With `rho` 0 they stay, and the gradient of the same weights is computed a second time.

    What is computed within it is the gradient of a step (Foret et al., equation 2), and is there afterwards, with the
    weights as they were. Running statistics of batch normalisation are those of the first pass alone, as in the
    authors' code: w is what is used later.
    """
    moved = [one for one in model.parameters() if one.grad is not None]
    norm = nn.utils.get_total_norm(one.grad for one in moved)
    before = [one.detach().clone() for one in moved]
    with torch.no_grad():
        for weight in moved:
            weight += weight.grad * (rho / (norm + 1e-12))
            weight.grad = None
    normalisations = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    momenta = [one.momentum for one in normalisations]
    for one in normalisations:
        one.momentum = 0.0
    try:
        yield
    finally:
        for one, momentum in zip(normalisations, momenta, strict=True):
            one.momentum = momentum
        _restore(moved, before)


@torch.no_grad()
def _restore(weights: list[nn.Parameter], before: list[Tensor]) -> None:
    for weight, value in zip(weights, before, strict=True):
        weight.copy_(value)
