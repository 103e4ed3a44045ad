"""Checkpoints: what is saved comes back, and a full disk is told in words that help."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from ray_fer.training import state as state_module
from ray_fer.training.optim import Rates, build_optimizer
from ray_fer.training.recipe import Recipe
from ray_fer.training.state import Position, TrainingError, TrainState, is_disk_full


def state(seed: int, ema: float | None = None) -> TrainState:
    torch.manual_seed(seed)
    recipe = Recipe(name="x", ema=ema)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = build_optimizer(model, recipe.optimizer)
    return TrainState(model, optimizer, Rates(optimizer, recipe, 4), recipe)


def train(one: TrainState, steps: int) -> None:
    chance = torch.Generator().manual_seed(one.position.step)
    for _ in range(steps):
        one.model(torch.randn(8, 3, generator=chance)).square().sum().backward()
        one.optimizer.step()
        one.optimizer.zero_grad()
        one.stepped()
        one.position.step += 1


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_loaded_checkpoint_goes_on_as_the_run_that_saved_it(tmp_path: Path, ema: float | None) -> None:
    first, second = state(0, ema), state(1, ema)
    train(first, 5)
    first.position.validated(0.4, "max", 1)
    first.save(tmp_path)
    second.load(tmp_path)
    assert second.position == first.position
    for one in (first, second):
        train(one, 5)
    for name, value in first.used.state_dict().items():
        torch.testing.assert_close(second.used.state_dict()[name], value, rtol=0, atol=0)
    for name, value in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, rtol=0, atol=0)


def test_averaged_weights_are_the_ones_that_are_used(tmp_path: Path) -> None:
    one = state(0, ema=0.5)
    before = one.model[0].weight.detach().clone()
    train(one, 1)
    train(one, 1)
    assert one.used is not one.model
    assert not torch.equal(one.used[0].weight, one.model[0].weight)  # type: ignore[index]
    assert not torch.equal(one.used[0].weight, before)  # type: ignore[index]


def test_improvement_is_counted_in_epochs() -> None:
    at = Position()
    for value, best, since in [(0.3, 0.3, 0), (0.2, 0.3, 3), (0.3, 0.3, 6), (0.31, 0.31, 0)]:
        at.validated(value, "max", 3)
        assert (at.best, at.epochs_since_best) == (best, since)
    at = Position()
    at.validated(0.3, "min", 1)
    at.validated(0.2, "min", 1)
    assert at.best == 0.2


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_an_error_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(state_module, "save_file", full)
    with pytest.raises(TrainingError, match=r"no space left .* TMPDIR .* --resume"):
        state(0).save(tmp_path)


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    assert not is_disk_full(ValueError("shapes differ"))
    upload = RuntimeError("upload failed")
    upload.__cause__ = OSError(errno.EDQUOT, "quota")
    assert is_disk_full(upload)
