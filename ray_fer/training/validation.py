"""How well a model in training answers the validation clips: every worker its share, the figures the same on all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.training.clip_batches import clip_batch
from ray_fer.training.losses import focal_loss
from ray_fer.training.recipe import Recipe


@dataclass(frozen=True)
class Answers:
    """To some clips: true and predicted classes int64 [N], and the sum of their losses."""

    truth: np.ndarray
    predicted: np.ndarray
    loss: float


@torch.inference_mode()
def answers(model: nn.Module, parts: Iterable[dict[str, Tensor]], recipe: Recipe, device: torch.device) -> Answers:
    """What `model`, which is put into evaluation mode, says of batches from a reader."""
    model.eval()
    truth, predicted, loss = [], [], 0.0
    for columns in parts:
        label = columns["label"]
        batch = clip_batch({name: tensor.to(device) for name, tensor in columns.items()}, recipe.transform)
        target, batch.label = batch.label, None
        batch.culture = batch.culture if recipe.tell_culture else None
        assert target is not None
        with autocast(recipe, device):
            logits = model(batch).logits
            mean = focal_loss(logits, target, recipe.loss.gamma, recipe.loss.smoothing)
        truth.append(label.numpy())
        predicted.append(logits.argmax(dim=1).cpu().numpy())
        loss += float(mean) * len(label)
    nothing = [np.empty(0, np.int64)]
    return Answers(np.concatenate(truth or nothing), np.concatenate(predicted or nothing), loss)


def validation_metrics(parts: Sequence[Answers], classes: list[str]) -> dict[str, Any]:
    """UAR, WAR, macro F1 and mean loss of all workers' answers."""
    truth, predicted = (np.concatenate([getattr(part, name) for part in parts]) for name in ("truth", "predicted"))
    metrics = classification_metrics(truth, predicted, classes)
    loss = sum(part.loss for part in parts) / len(truth)
    return {name: metrics[name] for name in ("uar", "war", "macro_f1")} | {"loss": loss}


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """The precision in which the recipe's model computes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def gathered(mine: Any, world: int) -> Iterator[Any]:
    """What every worker has, by rank."""
    if world == 1:
        return iter([mine])
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, mine)
    return iter(everyone)
