"""The gradient of a step that looks at another gradient first: sharpness-aware minimisation, and losses weighted by it.

SAM (Foret et al., ICLR 2021) takes the gradient at the worst weights nearby.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from ray_fer.models.card import Model

_Told = TypeVar("_Told")


def step_gradient(model: Model, rho: float | None, gradient: Callable[[], _Told]) -> _Told:
    """Leave in the weights the gradient of a step; `gradient` computes a batch's, and says what is returned.

    It is computed again, with the same weights, for a model that `measures` its norm, and for SAM with those that
    `rho` away are worst. With both, SAM's way up is the gradient of the objective before its norm was known, as
    `Model.measured` has it, and the step that of the objective after.
    """
    model.measured(None)
    told = gradient()
    if model.measures:
        weights = [one for one in model.parameters() if one.grad is not None]
        model.measured(nn.utils.get_total_norm(one.grad for one in weights))
        rho = rho or 0.0
    if rho is not None:
        with ascended(model, rho):
            gradient()
    return told


@contextmanager
def ascended(model: nn.Module, rho: float) -> Iterator[None]:
    """Within it, the weights w are w + rho g / ||g||_2, g being their gradients before; these are forgotten.

    With `rho` 0 they stay, and the gradient of the same weights is computed a second time.

    What is computed within it is the gradient of a step (Foret et al., equation 2), and is there afterwards, with the
    weights as they were. Running statistics (of modules with a `momentum`, as batch normalisation has) are those of
    the first pass alone, as in the authors' code: w is what is used later.
    """
    weights = [one for one in model.parameters() if one.grad is not None]
    moved = _ascended(weights, rho) if rho else []
    for one in weights:
        one.grad = None
    running = [one for one in model.modules() if hasattr(one, "momentum")]
    momenta = [one.momentum for one in running]
    for one in running:
        one.momentum = 0.0
    try:
        yield
    finally:
        for one, momentum in zip(running, momenta, strict=True):
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
