"""Optimisers and schedules of a recipe, from torch's own."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ray_fer.training.recipe import OptimizerConfig, Recipe, ScheduleConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimiser over all parameters that need a gradient, in `parameter_groups`, with their errors."""
    used = parameter_groups(model, config)
    if config.name == "sgd":
        return torch.optim.SGD(used, config.lr, momentum=config.momentum)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
    return kinds[config.name](used, config.lr, betas=config.betas)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """The recipe's groups of parameters, as torch's optimisers take them.

    A group with `lr_scale` 0 is frozen: its parameters need no gradient afterwards, so call this before the model is
    wrapped for several workers. Raises ValueError for a group that matches nothing, or is no regular expression.
    """
    groups: list[dict[str, Any]] = [{"params": [], "lr": config.lr, "weight_decay": config.weight_decay}]
    for wanted in config.groups:
        decay = config.weight_decay if wanted.weight_decay is None else wanted.weight_decay
        groups.append({"params": [], "lr": config.lr * wanted.lr_scale, "weight_decay": decay})
    for name, parameter in model.named_parameters():
        number = next((place for place, one in enumerate(config.groups, 1) if _matches(one.match, name)), 0)
        parameter.requires_grad_(parameter.requires_grad and groups[number]["lr"] > 0)
        groups[number]["params"].append(parameter)
    for wanted, group in zip(config.groups, groups[1:], strict=True):
        if not group["params"]:
            raise ValueError(f"optimizer.groups: no parameter's name matches {wanted.match!r}")
    used = [group for group in groups if any(one.requires_grad for one in group["params"])]
    if not used:
        raise ValueError("optimizer.groups freeze every parameter of the model")
    return used


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error as error:
        raise ValueError(f"optimizer.groups: {pattern!r} is no regular expression: {error}") from None


def rate_factor(schedule: ScheduleConfig, step: int, total: int, per_epoch: int, lowest: float = 0.0) -> float:
    """Factor of the rate at optimiser step `step` (0-based) of `total`; `lowest` is min_lr as a share of the rate."""
    rise = schedule.warmup * total
    if step < rise:
        return (step + 1) / (rise + 1)
    if schedule.name == "cosine":
        share = min(1.0, (step - rise) / max(1.0, total - rise))
        return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * share))
    if schedule.name == "exponential":
        return max(lowest, schedule.gamma ** (step // per_epoch))
    if schedule.name == "milestones":
        passed = sum(step // per_epoch >= epoch for epoch in schedule.milestones)
        return float(max(lowest, schedule.gamma**passed))
    return 1.0


class Rates:
    """Sets an optimiser's rates, step by step and epoch by epoch, as a recipe says."""

    def __init__(self, optimizer: Optimizer, recipe: Recipe, steps_per_epoch: int) -> None:
        schedule, total = recipe.schedule, recipe.epochs * steps_per_epoch
        self._plateau: ReduceLROnPlateau | None = None
        self._by_step: LambdaLR | None = None
        if schedule.name == "plateau":
            self._plateau = ReduceLROnPlateau(
                optimizer, recipe.monitor_mode, schedule.factor, schedule.patience, min_lr=schedule.min_lr
            )
        else:
            lowest = min(1.0, schedule.min_lr / recipe.optimizer.lr)
            self._by_step = LambdaLR(
                optimizer, lambda step: rate_factor(schedule, step, total, steps_per_epoch, lowest)
            )

    def step(self) -> None:
        """After each step of the optimiser."""
        if self._by_step is not None:
            self._by_step.step()

    def validated(self, value: float) -> None:
        """After each validation, with what is monitored."""
        if self._plateau is not None:
            self._plateau.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Numbers only, for a checkpoint."""
        state = self._scheduler().state_dict()
        return {name: value for name, value in state.items() if name != "lr_lambdas"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the run that gave the state; the optimiser's rates are its own state."""
        self._scheduler().load_state_dict({"lr_lambdas": [None], **state} if self._by_step else state)

    def _scheduler(self) -> Any:
        return self._by_step if self._plateau is None else self._plateau
