"""The training loop that runs on every Ray Train worker, for every model."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from safetensors.torch import save_file
from torch import nn

from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.models import create
from ray_fer.training.data import to_batch
from ray_fer.training.losses import focal_loss
from ray_fer.training.progress import append
from ray_fer.training.recipe import Recipe


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite."""


def train_worker(config: dict[str, Any]) -> None:
    """Train on this worker's shard.

    `config`: recipe, model_arguments, classes, steps_per_epoch, progress_file, threads.
    """
    recipe = Recipe.model_validate(config["recipe"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if not recipe.use_gpu:
        torch.set_num_threads(config["threads"])
    torch.manual_seed(recipe.seed)  # the same weights everywhere; then each worker draws its own augmentation
    model = ray.train.torch.prepare_model(create(recipe.model, **config["model_arguments"]))
    torch.manual_seed(recipe.seed + 1000 * (rank + 1))
    device = ray.train.torch.get_device()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    total = config["steps_per_epoch"] * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, total, recipe.warmup))
    train, val = ray.train.get_dataset_shard("train"), ray.train.get_dataset_shard("val")
    for epoch in range(recipe.epochs):
        started = time.monotonic()
        model.train()
        losses: list[float] = []
        batches = train.iter_torch_batches(
            batch_size=max(1, recipe.batch_size // world),
            local_shuffle_buffer_size=8 * recipe.batch_size,
            local_shuffle_seed=recipe.seed + epoch,
            drop_last=True,
        )
        for columns in batches:
            batch = to_batch(columns, recipe.transform, recipe.augment).to(device)
            output = model(batch)
            assert batch.label is not None
            loss = focal_loss(output.logits, batch.label, recipe.focal_gamma, recipe.label_smoothing)
            for term in output.losses.values():
                loss = loss + term
            if not torch.isfinite(loss):
                raise NonFiniteLoss(
                    f"loss is {loss.item()} in epoch {epoch + 1}; lower learning_rate ({recipe.learning_rate:g})"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        metrics: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)) if losses else None,
            "clips_per_s": round(len(losses) * recipe.batch_size / (time.monotonic() - started), 1),
        }
        last = epoch + 1 == recipe.epochs
        if rank == 0 and (last or (epoch + 1) % recipe.evaluate_every == 0):
            metrics |= {
                f"val_{k}": v for k, v in evaluate(model, val, recipe, config["classes"]).items() if k != "confusion"
            }
        if rank == 0:
            append(config["progress_file"], metrics)
        _report(model, metrics, save=rank == 0 and last)


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Learning-rate factor: linear rise over the first `warmup` share of steps, then cosine to zero."""
    rise = warmup * total
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, total - rise))))


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: Any, recipe: Recipe, classes: list[str], use_culture: bool = False
) -> dict[str, Any]:
    """Metrics of `model` on a Ray dataset or shard of prepared clips. Culture labels are hidden unless asked for."""
    model.eval()
    device = next(model.parameters()).device
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    truth, predicted = [], []
    for columns in data.iter_torch_batches(batch_size=32):
        batch = to_batch(columns, recipe.transform).to(device)
        truth.append(columns["label"].cpu().numpy())
        batch.label = None
        if not use_culture:
            batch.culture = None
        predicted.append(inner(batch).logits.argmax(dim=1).cpu().numpy())
    return classification_metrics(np.concatenate(truth), np.concatenate(predicted), classes)


def _report(model: nn.Module, metrics: dict[str, Any], save: bool) -> None:
    if not save:
        ray.train.report(metrics)
        return
    inner = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    with tempfile.TemporaryDirectory() as folder:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in inner.state_dict().items()}
        save_file(state, str(Path(folder) / "model.safetensors"))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
