"""How fast the training loop is, beside a bare PyTorch loop on the same model, batches and clips.

* **bare loops**: what a researcher writes first, at its best: all clips decoded in memory, nothing logged, kept or
  validated; the model's own transform is part of it as it is of ours. One process that computes on all cores, or a
  process per core with DDP. Both train one model with the recipe's batch, as ours does.
* **no exchange**: a process per core, each with a model of its own. Nothing that trains one model can be faster.
* **ray_fer**: `fit` with as many workers, from a clip store.
* **overhead per step**: seconds per step of a model that computes next to nothing, by number of workers. On nodes of
  a simulated cluster, workers talk to each other as on a real one, through the loopback interface.
"""

from __future__ import annotations

import multiprocessing as mp
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.evaluation.inputs import prepared
from ray_fer.models import create
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import normalise
from ray_fer.preprocessing.store_index import read_rows
from ray_fer.training.data import label_indices
from ray_fer.training.fit import TrainingClips, fit, prepare_run
from ray_fer.training.losses import focal_loss
from ray_fer.training.mailbox import Record
from ray_fer.training.optim import build_optimizer
from ray_fer.training.recipe import Recipe, overridden

_WARM_UP = 3
_TINY = {
    "conditioning": "none",
    "vivit": {
        "size": 16, "patch": 16, "dim": 8, "spatial_depth": 1, "temporal_depth": 1, "heads": 1, "mlp_dim": 8,
    },
}  # fmt: skip


@dataclass(frozen=True)
class TrainSpeed:
    """Clips a second of all workers together, and the share of time in which they waited for clips."""

    way: str
    workers: int
    clips_per_second: float
    waited: float
    seconds_per_step: float


def ours(recipe: Recipe, clips: TrainingClips, arguments: dict[str, Any], way: str = "ray_fer") -> TrainSpeed:
    """Train on the current Ray; the first epoch, in which everything is warmed up, does not count."""
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="ray-fer-bench-") as folder:
        prepare_run(folder, recipe, clips)
        fit(recipe, clips, arguments, folder, records.append)
    steps = [record for record in records if record["event"] == "step" and record["epoch"] > 0]
    seconds = sum(record["seconds"] for record in steps)
    return TrainSpeed(
        way, recipe.worker_range[1], sum(record["clips"] for record in steps) / seconds,
        sum(record["waited"] for record in steps) / seconds, float(np.median([one["seconds"] for one in steps])),
    )  # fmt: skip


@dataclass(frozen=True)
class Bare:
    """A bare loop: over how many processes the batch is divided, and whether they train one model."""

    way: str
    processes: int
    one_model: bool = True

    @property
    def exchange(self) -> bool:
        """Whether gradients are exchanged (DDP)."""
        return self.one_model and self.processes > 1


def bare_loops(workers: int) -> list[Bare]:
    """What `workers` of ours are compared with."""
    if workers == 1:
        return [Bare("bare", 1)]
    return [
        Bare("bare, one process", 1),
        Bare("bare, DDP", workers),
        Bare("no exchange", workers, one_model=False),
    ]


def decode_clips(recipe: Recipe, clips: TrainingClips, file: Path) -> None:
    """Write the training clips as `bare` loads them into memory."""
    index = clips.train
    frames = [
        prepared("frames", clip.as_py(), recipe.transform)
        for shard, rows in index.by_shard()
        for clip in read_rows(index.store, shard, rows, ["frames"]).column("frames")
    ]
    labels = torch.from_numpy(label_indices(index, clips.classes))
    torch.save({"frames": torch.stack(frames), "label": labels}, file)


def bare(recipe: Recipe, clips: Path, arguments: dict[str, Any], loop: Bare, cores: int, steps: int = 30) -> TrainSpeed:
    """Run a bare loop on `cores` CPU cores, or a GPU for each process if the recipe uses them.

    `clips` is the file that `decode_clips` wrote.
    """
    count = loop.processes
    batch = max(1, recipe.batch_size // count)
    context = mp.get_context("spawn")
    start = context.Barrier(count)
    with tempfile.TemporaryDirectory(prefix="ray-fer-bench-") as folder:
        meeting = f"file://{folder}/meeting"
        jobs = [
            _BareJob(recipe, arguments, str(clips), loop, batch, steps, cores, rank, meeting) for rank in range(count)
        ]
        with context.Pool(count, _share_barrier, (start,)) as pool:
            seconds = pool.map(_bare, jobs, chunksize=1)
    slowest = max(seconds)
    return TrainSpeed(loop.way, count, count * batch * steps / slowest, 0.0, slowest / steps)


def step_overhead(recipe: Recipe, clips: TrainingClips, workers: Sequence[int]) -> list[TrainSpeed]:
    """Steps of a model that costs nothing, on the current Ray (a cluster of several nodes, to mean something)."""
    found = []
    for count in workers:
        tiny = overridden(
            recipe, [f"workers={count}", "transform.canvas=16", "transform.size=16", "transform.zoom=1", "epochs=6"]
        ).model_copy(update={"model_config_": _TINY})
        arguments = {**_TINY, "classes": len(clips.classes), "channels": tiny.transform.channels}
        found.append(ours(tiny, clips, arguments, "empty model"))
    return found


def flops_per_clip(recipe: Recipe, arguments: dict[str, Any]) -> float:
    """Floating-point operations of one clip's forward and backward pass, as torch counts them."""
    model = create(recipe.model, **arguments)
    size, frames = recipe.transform.size, recipe.transform.frames
    batch = ClipBatch(torch.zeros(1, frames, recipe.transform.channels, size, size), torch.zeros(1, dtype=torch.long))
    with FlopCounterMode(display=False) as counter:
        model(batch).logits.sum().backward()
    return float(counter.get_total_flops())


_barrier: Any = None


def _share_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


@dataclass(frozen=True)
class _BareJob:
    recipe: Recipe
    arguments: dict[str, Any]
    file: str
    loop: Bare
    batch: int
    steps: int
    cores: int
    rank: int
    meeting: str
    """URL by which the processes find each other."""


def _bare(job: _BareJob) -> float:
    recipe, count = job.recipe, job.loop.processes
    device = torch.device("cuda", job.rank) if recipe.gpus_per_worker else torch.device("cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, job.cores // count))
    data = torch.load(job.file, weights_only=True)
    torch.manual_seed(recipe.seed)
    model: nn.Module = create(recipe.model, **job.arguments).to(device).train()
    optimizer = build_optimizer(model, recipe.optimizer)
    if job.loop.exchange:
        backend = "gloo" if device.type == "cpu" else "nccl"
        dist.init_process_group(backend, job.meeting, rank=job.rank, world_size=count)
        model = nn.parallel.DistributedDataParallel(model, None if device.type == "cpu" else [device])
    chance = torch.Generator().manual_seed(job.rank)
    started = 0.0
    for step in range(_WARM_UP + job.steps):
        if step == _WARM_UP:
            synchronise(device)
            _barrier.wait()
            started = time.perf_counter()
        rows = torch.randint(len(data["label"]), (job.batch,), generator=chance)
        frames, label = data["frames"][rows].to(device), data["label"][rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            output = model(ClipBatch(normalise(frames, recipe.transform), torch.full_like(label, -1)))
            loss = focal_loss(output.logits, label, recipe.loss.gamma, recipe.loss.smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    synchronise(device)
    seconds = time.perf_counter() - started
    if job.loop.exchange:
        dist.destroy_process_group()
    return seconds


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for; a CPU has it done already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
