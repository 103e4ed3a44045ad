"""Sharpness-aware minimisation against its closed form on a quadratic."""

from __future__ import annotations

import torch
from torch import nn

from ray_fer.models import ClipBatch, create
from ray_fer.training.sharpness import ascended, step_gradient

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


def test_no_buffer_of_hdf_moves_in_the_second_pass() -> None:
    torch.manual_seed(0)
    model = create("hdf", "tiny").train()
    batch = ClipBatch(torch.randn(4, 4, 3, 32, 32), label=torch.tensor([0, 1, 0, 1]))
    passes: list[dict[str, torch.Tensor]] = []

    def gradient() -> None:
        output = model(batch)
        loss = nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 0, 1]))
        model.balance({"classification": loss, **output.losses}).backward()
        passes.append({name: one.clone() for name, one in model.named_buffers() if "num_batches" not in name})

    before = {name: one.clone() for name, one in model.named_buffers()}
    step_gradient(model, RHO, gradient)
    assert len(passes) == 2
    moved = [name for name, one in passes[0].items() if not torch.equal(one, before[name])]
    assert any("running_mean" in name for name in moved)
    assert "dam.frequency.centre" in moved
    for name in moved:
        assert "balancer" in name or torch.equal(passes[0][name], passes[1][name]), name
