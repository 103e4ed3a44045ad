"""Everything that a training run is made of, as it changes: kept in checkpoints, so that it can go on anywhere.

A checkpoint is a folder: `model.safetensors` (the weights that are used: the averaged ones with EMA; without those that
are frozen, which a fresh model has), `training.pt` (optimiser, and the weights in training where they differ; tensors
and numbers only, never code) and `position.json`. Randomness needs no state: it is a function of seed, step and worker
(see `order`).
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ray_fer.models.card import Model
from ray_fer.training.optim import Rates
from ray_fer.training.recipe import Recipe

_WEIGHTS, _TRAINING, _POSITION = "model.safetensors", "training.pt", "position.json"


class TrainingError(ValueError):
    """Training cannot go on as it is; the message says what to change."""


@dataclass
class Position:
    """How far training is: the next batch is `batch` of `epoch` (both from 0), `step` optimiser steps were made."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    """Of this epoch's clips so far."""
    clips: int = 0
    best: float | None = None
    """What is monitored, in the best epoch so far."""
    epochs_since_best: int = 0

    def validated(self, value: float, mode: str, epochs: int) -> None:
        """Take note of a validation `epochs` epochs after the last one."""
        better = self.best is None or (value < self.best if mode == "min" else value > self.best)
        self.best, self.epochs_since_best = (value, 0) if better else (self.best, self.epochs_since_best + epochs)


class TrainState:
    """Model, averaged model, optimiser, rates and position of one worker."""

    def __init__(self, model: Model, optimizer: Optimizer, rates: Rates, recipe: Recipe) -> None:
        self.model = model
        self.optimizer = optimizer
        self.rates = rates
        self.position = Position()
        self.averaged: AveragedModel | None = None
        if recipe.ema is not None:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)

    def stepped(self) -> None:
        """After a step of the optimiser."""
        self.rates.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    @property
    def used(self) -> nn.Module:
        """The model whose weights are validated and kept."""
        return self.model if self.averaged is None else self.averaged.module

    def save(self, folder: Path) -> None:
        """Write a checkpoint. Raises TrainingError when the disk is full."""
        training: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self.averaged is not None:
            training |= {"model": _trained(self.model), "averaged": int(self.averaged.n_averaged)}
        position = {"position": asdict(self.position), "rates": self.rates.state_dict()}
        try:
            save_file(_on_cpu(self.used), str(folder / _WEIGHTS))
            torch.save(training, folder / _TRAINING)
            (folder / _POSITION).write_text(json.dumps(position))
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise TrainingError(
                f"no space left for a checkpoint in {folder}: free some, or set TMPDIR to a larger disk; then go on "
                "with --resume"
            ) from error

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint of the same recipe."""
        training = torch.load(folder / _TRAINING, map_location="cpu", weights_only=True)
        load_weights(self.used, folder)
        if self.averaged is not None:
            self.averaged.n_averaged.fill_(training["averaged"])
            _fill(self.model, training["model"])
        self.optimizer.load_state_dict(training["optimizer"])
        written = json.loads((folder / _POSITION).read_text())
        self.rates.load_state_dict(written["rates"])
        self.position = Position(**written["position"])


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is a full disk or quota; torch and safetensors only say so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(words in str(error) for words in ("No space left", "Disk quota exceeded", "os error 28")):
            return True
        error = error.__cause__ or error.__context__
    return False


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into a fresh model of the same recipe."""
    _fill(model, load_file(str(folder / _WEIGHTS)))


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that training changes. OUS would write 1.6 GB of frozen towers beside 0.4 GB, every epoch."""
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    return {name: one for name, one in model.state_dict().items() if name not in frozen}


def _fill(model: nn.Module, trained: dict[str, torch.Tensor]) -> None:
    if missing := _trained(model).keys() - trained.keys():
        raise ValueError(f"the checkpoint is of another model: it lacks {', '.join(sorted(missing))}")
    model.load_state_dict({**model.state_dict(), **trained})


def _on_cpu(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _trained(model).items()}
