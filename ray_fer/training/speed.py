"""How fast the training loop is, beside a bare PyTorch loop on the same model, batches and clips.

* **bare**: what a researcher writes first, at its best: all clips decoded in memory, one process per core, no
  gradients exchanged, nothing logged; the model's own transform is part of both.
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
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.models import create
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import normalise, prepare
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.training.data import decoded, label_indices
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


def bare(recipe: Recipe, clips: TrainingClips, arguments: dict[str, Any], steps: int = 30) -> TrainSpeed:
    """The bare loop in as many processes at once as the recipe has workers, each with its share of the batch."""
    workers = recipe.worker_range[1]
    batch = max(1, recipe.batch_size // workers)
    with tempfile.TemporaryDirectory(prefix="ray-fer-bench-") as folder:
        file = Path(folder) / "clips.pt"
        torch.save(_in_memory(clips.train, recipe, clips.classes), file)
        context = mp.get_context("spawn")
        start = context.Barrier(workers)
        with context.Pool(workers, _share_barrier, (start,)) as pool:
            jobs = [(recipe, arguments, str(file), batch, steps, number) for number in range(workers)]
            seconds = pool.map(_bare, jobs, chunksize=1)
    slowest = max(seconds)
    return TrainSpeed("bare", workers, workers * batch * steps / slowest, 0.0, slowest / steps)


def step_overhead(recipe: Recipe, clips: TrainingClips, workers: Sequence[int]) -> list[TrainSpeed]:
    """Steps of a model that costs nothing, on the current Ray (a cluster of several nodes, to mean something)."""
    found = []
    for count in workers:
        tiny = overridden(
            recipe, [f"workers={count}", "transform.canvas=16", "transform.size=16", "transform.zoom=1", "epochs=6"]
        ).model_copy(update={"model_config_": _TINY})
        found.append(ours(tiny, clips, {**_TINY, "classes": len(clips.classes)}, "empty model"))
    return found


def flops_per_clip(recipe: Recipe, arguments: dict[str, Any]) -> float:
    """Floating-point operations of one clip's forward and backward pass, as torch counts them."""
    model = create(recipe.model, **arguments)
    size, frames = recipe.transform.size, recipe.transform.frames
    batch = ClipBatch(torch.zeros(1, frames, 3, size, size), torch.zeros(1, dtype=torch.long))
    with FlopCounterMode(display=False) as counter:
        model(batch).logits.sum().backward()
    return float(counter.get_total_flops())


def _in_memory(index: ClipIndex, recipe: Recipe, classes: list[str]) -> dict[str, torch.Tensor]:
    frames = [
        prepare(decoded(clip.as_py()), recipe.transform)
        for shard, rows in index.by_shard()
        for clip in read_rows(index.store, shard, rows, ["frames"]).column("frames")
    ]
    return {"frames": torch.stack(frames), "label": torch.from_numpy(label_indices(index, classes))}


_barrier: Any = None


def _share_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _bare(job: tuple[Recipe, dict[str, Any], str, int, int, int]) -> float:
    recipe, arguments, file, batch, steps, number = job
    device = torch.device("cuda", number) if recipe.gpus_per_worker else torch.device("cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    data = torch.load(file, weights_only=True)
    model = create(recipe.model, **arguments).to(device).train()
    optimizer = build_optimizer(model, recipe.optimizer)
    chance = torch.Generator().manual_seed(number)
    started = 0.0
    for step in range(_WARM_UP + steps):
        if step == _WARM_UP:
            _synchronised(device)
            _barrier.wait()
            started = time.perf_counter()
        rows = torch.randint(len(data["label"]), (batch,), generator=chance)
        frames, label = data["frames"][rows].to(device), data["label"][rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            output = model(ClipBatch(normalise(frames, recipe.transform), torch.full_like(label, -1)))
            loss = focal_loss(output.logits, label, recipe.loss.gamma, recipe.loss.smoothing)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    _synchronised(device)
    return time.perf_counter() - started


def _synchronised(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
