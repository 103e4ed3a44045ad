"""Optimisers and schedules against torch's own."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from ray_fer.training.optim import Rates, build_optimizer
from ray_fer.training.recipe import OptimizerConfig, ParameterGroup, Recipe, ScheduleConfig


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def rates(recipe: Recipe, steps: int, per_epoch: int, figures: list[float] | None = None) -> list[float]:
    """The rate at each step; `figures` are what validation gives, epoch by epoch."""
    optimizer = build_optimizer(model(), recipe.optimizer)
    schedule = Rates(optimizer, recipe, per_epoch)
    seen = []
    for step in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        if figures is not None and (step + 1) % per_epoch == 0:
            schedule.validated(figures[step // per_epoch])
    return seen


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({"name": "x", "epochs": 10, "optimizer": {"lr": 0.5}, **changes})


def theirs(schedule: type, per_epoch: int, steps: int, **arguments: float) -> list[float]:
    optimizer = torch.optim.SGD(model().parameters(), 0.5)
    scheduler = schedule(optimizer, **arguments)
    seen = []
    for step in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if per_epoch == 0 or (step + 1) % per_epoch == 0:
            scheduler.step()
    return seen


def test_cosine_is_torch_s() -> None:
    expected = theirs(torch.optim.lr_scheduler.CosineAnnealingLR, 0, 40, T_max=40, eta_min=0.1)
    found = rates(recipe(schedule={"name": "cosine", "min_lr": 0.1}), 40, 4)
    assert found == pytest.approx(expected)


def test_exponential_is_torch_s_per_epoch() -> None:
    expected = theirs(torch.optim.lr_scheduler.ExponentialLR, 4, 40, gamma=0.9)
    assert rates(recipe(schedule={"name": "exponential", "gamma": 0.9}), 40, 4) == pytest.approx(expected)


def test_milestones_are_torch_s_per_epoch() -> None:
    expected = theirs(torch.optim.lr_scheduler.MultiStepLR, 4, 40, milestones=[3, 7], gamma=0.1)  # type: ignore[arg-type]
    found = rates(recipe(schedule={"name": "milestones", "milestones": [3, 7], "gamma": 0.1}), 40, 4)
    assert found == pytest.approx(expected)


def test_a_rise_comes_before_the_cosine() -> None:
    found = rates(recipe(schedule={"name": "cosine", "warmup": 0.2}), 40, 4)
    assert found[:8] == pytest.approx([0.5 * (step + 1) / 9 for step in range(8)])
    assert found[8] == 0.5
    assert found[24] == pytest.approx(0.25), "half-way down in the middle of what is left"
    assert all(a > b for a, b in pairwise(found[8:]))


def test_plateau_falls_when_validation_stalls() -> None:
    schedule = {"name": "plateau", "factor": 0.2, "patience": 1, "min_lr": 0.05}
    figures = [0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    by_epoch = rates(recipe(schedule=schedule), 16, 2, figures)[::2]
    assert by_epoch == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize("name", ["constant", "cosine", "exponential", "plateau"])
def test_a_schedule_goes_on_where_it_was(name: str) -> None:
    made = recipe(schedule={"name": name, "patience": 0, "factor": 0.5})
    figures = [0.5, 0.4, 0.3, 0.2, 0.1]
    whole = rates(made, 20, 4, figures)
    first, second = (build_optimizer(model(), made.optimizer) for _ in range(2))
    before, after = Rates(first, made, 4), Rates(second, made, 4)
    for step in range(12):
        first.step()
        before.step()
        if step % 4 == 3:
            before.validated(figures[step // 4])
    second.load_state_dict(first.state_dict())
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    rest = []
    for step in range(12, 20):
        rest.append(second.param_groups[0]["lr"])
        second.step()
        after.step()
        if step % 4 == 3:
            after.validated(figures[step // 4])
    assert rest == pytest.approx(whole[12:])


def test_groups_have_rates_of_their_own_and_zero_freezes() -> None:
    net = model()
    config = OptimizerConfig(
        lr=0.1, weight_decay=0.3,
        groups=[ParameterGroup(match=r"^0\.", lr_scale=0), ParameterGroup(match=r"bias|^1\.", weight_decay=0.0)],
    )  # fmt: skip
    optimizer = build_optimizer(net, config)
    assert not any(one.requires_grad for one in net[0].parameters())
    found = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in optimizer.param_groups}
    assert found == {(0.1, 0.3): 1, (0.1, 0.0): 3}


@pytest.mark.parametrize(
    ("match", "reason"), [("backbone", "no parameter's name matches 'backbone'"), ("(", "no regular expression")]
)
def test_groups_that_cannot_be_meant(match: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_optimizer(model(), OptimizerConfig(groups=[ParameterGroup(match=match)]))


def test_everything_frozen_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze every parameter"):
        build_optimizer(model(), OptimizerConfig(groups=[ParameterGroup(match=".", lr_scale=0)]))


@pytest.mark.parametrize("name", ["adamw", "adam", "adamax", "sgd"])
def test_optimisers_are_torch_s(name: str) -> None:
    optimizer = build_optimizer(model(), OptimizerConfig(name=name, lr=0.2))  # type: ignore[arg-type]
    assert type(optimizer).__name__.lower() == name
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_warm_up_and_plateau_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="no warm-up"):
        ScheduleConfig(name="plateau", warmup=0.1)
