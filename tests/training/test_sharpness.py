"""Sharpness-aware minimisation against its closed form on a quadratic."""

from __future__ import annotations

import torch
from torch import nn

from ray_fer.training.sharpness import ascended

RHO = 0.05


class Quadratic(nn.Module):
    """w' A w / 2, whose gradient is A w."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        self.curvature = torch.tensor([[3.0, 1.0], [1.0, 2.0]])

    def forward(self) -> torch.Tensor:
        return self.weight @ self.curvature @ self.weight / 2


def test_the_gradient_is_that_at_the_worst_weights_nearby() -> None:
    model = Quadratic()
    start = model.weight.detach().clone()
    model().backward()
    with ascended(model, RHO):
        assert torch.isclose((model.weight.detach() - start).norm(), torch.tensor(RHO))
        model().backward()
    first = model.curvature @ start
    torch.testing.assert_close(model.weight.grad, model.curvature @ (start + RHO * first / first.norm()))
    torch.testing.assert_close(model.weight.detach(), start, atol=0, rtol=0)


def test_a_gradient_of_zero_moves_nothing() -> None:
    model = Quadratic()
    model.weight.data.zero_()
    model().backward()
    with ascended(model, RHO):
        assert (model.weight == 0).all()


def test_running_statistics_are_those_of_the_first_pass() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).train()
    clips = torch.randn(8, 3)
    model(clips).square().sum().backward()
    seen = model[1].running_mean.clone()
    with ascended(model, RHO):
        model(clips).square().sum().backward()
    torch.testing.assert_close(model[1].running_mean, seen, atol=0, rtol=0)
    assert model[1].momentum == 0.1
