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
    weights = [one for one in model.parameters() if one.grad is not None]
    moved = _ascended(weights, rho) if rho else []
    for one in weights:
        one.grad = None
    normalisations = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    momenta = [one.momentum for one in normalisations]
    for one in normalisations:
        one.momentum = 0.0
    try:
        yield
    finally:
        for one, momentum in zip(normalisations, momenta, strict=True):
            one.momentum = momentum
        with torch.no_grad():
            for weight, value in moved:
                weight.copy_(value)


@torch.no_grad()
def _ascended(weights: list[nn.Parameter], rho: float) -> list[tuple[nn.Parameter, Tensor]]:
    """Move the weights; returns each with what it was."""
    norm = nn.utils.get_total_norm(one.grad for one in weights)
    before = [(one, one.detach().clone()) for one in weights]
    for one in weights:
        one += one.grad * (rho / (norm + 1e-12))
    return before
