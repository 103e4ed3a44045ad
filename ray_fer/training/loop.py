"""The training loop that runs on every Ray Train worker, for every model.

Every worker computes its share of every batch. Gradients are averaged so that each clip of the whole batch counts the
same, however many workers there are and however small the last batch is.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import Checkpoint, CheckpointUploadMode
from torch import Tensor, nn

from ray_fer.training.clip_batches import Chances, clip_batch
from ray_fer.training.data import ClipReader, Reading
from ray_fer.training.fresh import fresh_model
from ray_fer.training.loader import Prefetcher
from ray_fer.training.losses import focal_loss
from ray_fer.training.mailbox import Outbox
from ray_fer.training.optim import Rates, build_optimizer
from ray_fer.training.order import epoch_order, share, step_seed, steps_per_epoch
from ray_fer.training.recipe import Recipe
from ray_fer.training.sharpness import step_gradient
from ray_fer.training.state import TrainingError, TrainState
from ray_fer.training.validation import answers, autocast, gathered, validation_metrics

_AHEAD = 3
_VALIDATION_BATCH = 16


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Train on Ray Train's current worker group; goes on from the run's last checkpoint.

    `config`: recipe, model_arguments, classes, cultures, labels (class index of every training clip), alpha, mailbox,
    and in Ray Train's local mode, which looks after neither data nor checkpoints, the clips: `tables` of "train" and
    "val". Returns `reason` ("finished", "early stopping" or "converged") and `error`: what the user has to change. An
    error that would come again is not raised, since Ray would start the workers again.
    """
    worker = _Worker(config)
    try:
        return {"reason": worker.run(), "error": None}
    except TrainingError as error:
        return {"reason": "error", "error": str(error)}
    finally:
        worker.outbox.close()


@dataclass(frozen=True)
class _Part:
    """This worker's share of a batch, as the loader prepared it."""

    columns: dict[str, Tensor]
    chances: Chances | None
    mine: int
    """Clips that count: 0 where the batch is too small to have one for each worker, and one is computed for nothing."""
    whole: int
    """Clips of the whole batch."""


@dataclass(frozen=True)
class _Taken:
    """A step that was taken: its record, and its loss summed over the batch once all workers have added theirs."""

    record: dict[str, Any]
    loss: Tensor
    summed: dist.Work | None


class _Worker:
    def __init__(self, config: dict[str, Any]) -> None:
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.recipe = recipe = Recipe.model_validate(config["recipe"])
        self.classes: list[str] = config["classes"]
        self.labels = np.asarray(config["labels"])
        self.device = ray.train.torch.get_device()
        tables: dict[str, list[pa.Table]] | None = config["tables"]
        self.local = tables is not None
        cores = recipe.cpus_per_worker if self.local else (os.cpu_count() or 1) / context.get_local_world_size()
        self.threads = max(1, int(cores))
        if self.device.type == "cpu":
            torch.set_num_threads(self.threads)
        self.alpha = None if config["alpha"] is None else torch.tensor(config["alpha"], device=self.device)
        reading = Reading.of(recipe, self.classes, config["cultures"])
        self.train, self.val = (
            ClipReader.of_shard(ray.train.get_dataset_shard(name), reading)
            if tables is None
            else ClipReader.of_tables(tables[name], reading)
            for name in ("train", "val")
        )
        self.inputs = reading.inputs
        self.steps = steps_per_epoch(len(self.train), recipe.batch_size)
        model = fresh_model(recipe, config["model_arguments"])
        if config["start"] is not None:
            model.load_state_dict(ray.get(config["start"]))
        if recipe.sync_batchnorm and self.world > 1 and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model = model.to(self.device)
        optimizer = build_optimizer(model, recipe.optimizer)
        self.state = TrainState(model, optimizer, Rates(optimizer, recipe, self.steps), recipe)
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                self.state.load(Path(folder))
        # Buffers (running statistics) are the first worker's, as always with DDP; `_validate` gives them to
        # the others, instead of making all workers wait for each other in every forward pass.
        self.forward = ray.train.torch.prepare_model(
            torch.compile(model) if recipe.compile else model,
            parallel_strategy_kwargs={"broadcast_buffers": False, "gradient_as_bucket_view": True},
        )
        self.outbox = Outbox(config["mailbox"] if self.rank == 0 else None)

    def run(self) -> str:
        recipe, at = self.recipe, self.state.position
        self.outbox.put(
            {"event": "start", "step": at.step, "epoch": at.epoch, "steps_per_epoch": self.steps,
             "epochs": recipe.epochs, "workers": self.world}
        )  # fmt: skip
        while at.epoch < recipe.epochs and self._over() is None:
            self._epoch()
        reason = self._over() or "finished"
        self.outbox.put({"event": "end", "step": at.step, "epoch": at.epoch, "reason": reason})
        return reason

    def _over(self) -> str | None:
        """Why training ends before its last epoch."""
        patience = self.recipe.early_stopping
        if patience is not None and self.state.position.epochs_since_best >= patience:
            return "early stopping"
        rate = self.state.optimizer.param_groups[0]["lr"]
        return "converged" if rate < self.recipe.schedule.stop_below else None

    def _epoch(self) -> None:
        recipe, at = self.recipe, self.state.position
        started, clips_before = time.perf_counter(), at.clips
        self.state.model.train()
        order = epoch_order(self.labels, recipe.seed, at.epoch, recipe.sampling == "balanced")
        parts = Prefetcher(
            lambda batch: self._read(order, at.epoch, batch), range(at.batch, self.steps), _AHEAD, self.threads
        )
        behind: _Taken | None = None
        before, waited = started, 0.0
        for part in parts:
            loss, summed = self._step(part)
            at.batch, at.step = at.batch + 1, at.step + 1
            now = time.perf_counter()
            record = {
                "event": "step", "step": at.step, "epoch": at.epoch, "clips": part.whole,
                "lr": self.state.optimizer.param_groups[0]["lr"], "seconds": now - before,
                "waited": parts.waited - waited,
            }  # fmt: skip
            before, waited = now, parts.waited
            # The value is asked for one step later: neither a GPU nor the other workers need be waited for.
            behind = self._noted(behind, _Taken(record, loss, summed))
            if recipe.checkpoint_every and at.batch % recipe.checkpoint_every == 0 and at.batch < self.steps:
                behind = self._noted(behind, None)
                self._report({"epoch": at.epoch, "step": at.step})
        self._noted(behind, None)
        seconds = time.perf_counter() - started
        summary: dict[str, Any] = {
            "event": "epoch", "step": at.step, "epoch": at.epoch + 1, "loss": at.loss_sum / at.clips,
            "clips_per_s": round((at.clips - clips_before) / seconds, 2), "waited": round(parts.waited / seconds, 4),
        }  # fmt: skip
        last = at.epoch + 1 == recipe.epochs
        if last or (at.epoch + 1) % recipe.evaluate_every == 0:
            found = self._validate()
            summary |= {f"val_{name}": value for name, value in found.items()}
            self.state.rates.validated(found[recipe.monitor])
            at.validated(found[recipe.monitor], recipe.monitor_mode, recipe.evaluate_every)
        at.epoch, at.batch, at.loss_sum, at.clips = at.epoch + 1, 0, 0.0, 0
        self.outbox.put(summary)
        self._report({name: value for name, value in summary.items() if name != "event"})

    def _read(self, order: np.ndarray, epoch: int, batch: int) -> _Part:
        """In a thread of the loader."""
        recipe = self.recipe
        places = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
        mine = share(len(places), self.rank, self.world)
        read = mine if len(mine) else np.array([0])
        chances = None
        if recipe.augment is not None:
            chance = torch.Generator().manual_seed(step_seed(recipe.seed, epoch * self.steps + batch))
            drawn = Chances.drawn(len(places), recipe.transform, recipe.augment, self.inputs, chance)
            chances = drawn.rows(torch.from_numpy(read))
        columns = self.train.read(places[read])
        if self.device.type == "cuda":
            columns = {name: tensor.pin_memory() for name, tensor in columns.items()}
        return _Part(columns, chances, len(mine), len(places))

    def _step(self, part: _Part) -> tuple[Tensor, dist.Work | None]:
        """One step of the optimiser; returns the whole batch's summed loss, and what to wait for before it is read.

        The loss is that before a model knew its gradient's norm, and before SAM moved the weights.
        """
        settings, state = self.recipe.optimizer, self.state
        total = step_gradient(state.model, settings.sam, lambda: self._gradient(part))
        if settings.gradient_clip is not None:
            weights = [one for one in state.model.parameters() if one.requires_grad]
            nn.utils.clip_grad_norm_(weights, settings.gradient_clip)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.stepped()
        return total, dist.all_reduce(total, async_op=True) if self.world > 1 else None

    def _gradient(self, part: _Part) -> Tensor:
        """Compute the whole batch's gradient; returns the summed loss of this worker's share."""
        torch.manual_seed(step_seed(self.recipe.seed, self.state.position.step, self.rank))
        total = torch.zeros((), device=self.device)
        count = max(part.mine, 1)
        chunks = [rows for rows in torch.arange(count).tensor_split(self.recipe.accumulate) if len(rows)]
        for number, rows in enumerate(chunks):
            with self._without_sync() if number + 1 < len(chunks) else nullcontext():
                loss = self._loss(part, rows)
                counted = len(rows) if part.mine else 0
                (loss * (counted * self.world / part.whole)).backward()
                total += loss.detach() * counted
        return total

    def _loss(self, part: _Part, rows: Tensor) -> Tensor:
        recipe = self.recipe
        columns = {name: tensor[rows].to(self.device, non_blocking=True) for name, tensor in part.columns.items()}
        batch = clip_batch(columns, recipe.transform, None if part.chances is None else part.chances.rows(rows))
        with autocast(recipe, self.device):
            output = self.forward(batch)
            loss = focal_loss(output.logits, columns["label"], recipe.loss.gamma, recipe.loss.smoothing, self.alpha)
            return self.state.model.balance({"classification": loss, **output.losses})

    def _without_sync(self) -> AbstractContextManager[Any]:
        wrapped = isinstance(self.forward, nn.parallel.DistributedDataParallel)
        return self.forward.no_sync() if wrapped else nullcontext()

    def _noted(self, behind: _Taken | None, ahead: _Taken | None) -> _Taken | None:
        """Write down the step before, now that its loss is known. Raises TrainingError when it is not finite."""
        if behind is not None:
            record, at = behind.record, self.state.position
            if behind.summed is not None:
                behind.summed.wait()
            loss = float(behind.loss) / record["clips"]
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {record['step']} of epoch {record['epoch'] + 1}; lower optimizer.lr "
                    f"({self.recipe.optimizer.lr:g}), add schedule.warmup, or use precision fp32; the last checkpoint "
                    "is unharmed"
                )
            at.loss_sum, at.clips = at.loss_sum + loss * record["clips"], at.clips + record["clips"]
            self.outbox.put(record | {"loss": loss})
        return ahead

    def _validate(self) -> dict[str, Any]:
        """Metrics on the validation clips, the same on all workers."""
        if self.world > 1:
            for buffer in self.state.used.buffers():
                dist.broadcast(buffer, 0)
        mine = share(len(self.val), self.rank, self.world)
        batches = [mine[start : start + _VALIDATION_BATCH] for start in range(0, len(mine), _VALIDATION_BATCH)]
        parts = Prefetcher(self.val.read, batches, _AHEAD, self.threads)
        found = answers(self.state.used, parts, self.recipe, self.device)
        return validation_metrics(list(gathered(found, self.world)), self.classes)

    def _report(self, metrics: dict[str, Any]) -> None:
        """Give Ray the metrics, with a checkpoint from the first worker. Raises TrainingError on all when it fails."""
        if self.local and self.state.position.epoch < self.recipe.epochs:
            return
        checkpoint, failed = None, None
        if self.rank == 0:
            folder = tempfile.mkdtemp(prefix="ray-fer-checkpoint-")
            try:
                self.state.save(Path(folder))
                checkpoint = Checkpoint.from_directory(folder)
            except TrainingError as error:
                failed = str(error)
        failed = next(iter(gathered(failed, self.world)))
        if failed is not None:
            raise TrainingError(failed)
        at = self.state.position
        self.outbox.settle()  # a log that goes on from this checkpoint has no gap, even if the driver dies now
        ray.train.report(
            metrics, checkpoint, checkpoint_dir_name=f"epoch-{at.epoch:04d}-step-{at.step:08d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC, delete_local_checkpoint_after_upload=True,
        )  # fmt: skip
