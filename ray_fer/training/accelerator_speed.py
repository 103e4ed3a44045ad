"""How much of an accelerator training uses: systems at their papers' sizes, each beside what it is compared with.

CA-FER stands beside transformers' ViViT with the same work, HDF beside its X3D alone, OUS on pixels beside OUS on
cached features. All train on the same clips with the same optimiser and precision. The clips are SynthFER, rendered on
the device before anything is measured, so that the step itself counts and nothing else: transform, forward and backward
pass (twice for HDF, whose loss weights need the gradient first), clipping, optimiser. Model FLOPs utilisation (MFU) is
what the model's operations, as torch counts them, make of the rate at which the same device multiplies large matrices
in the same precision, measured in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ray_fer.datasets.synthfer import SynthOptions, iter_batches, plan
from ray_fer.models import Model, create
from ray_fer.models.batch import ClipBatch, ModelOutput
from ray_fer.models.describe import placeholders
from ray_fer.models.transform import TransformConfig, normalise
from ray_fer.training.losses import focal_loss
from ray_fer.training.optim import build_optimizer
from ray_fer.training.recipe import OptimizerConfig, Recipe
from ray_fer.training.sharpness import step_gradient
from ray_fer.training.speed import synchronise

_WARM_UP = 5
_AT_ONCE = 8
_PRECISION = torch.bfloat16


@dataclass(frozen=True)
class Way:
    """A model to be measured: what it is, how it is made, and whether it reads what its frozen part made of clips."""

    name: str
    make: Callable[[], Model]
    cached: bool = False


def ways(recipe: Recipe) -> list[Way]:
    """What is measured for a recipe of a paper's size, and what that is compared with. ValueError for other recipes."""

    def of(**config: Any) -> Callable[[], Model]:
        return lambda: create(recipe.model, **placeholders(recipe.model) | recipe.model_config_ | config)

    if recipe.name == "cafer":
        return [
            Way("ray_fer, CA-FER with ViViT-B FE", of()),
            Way("transformers, ViViT-B", lambda: TransformersViViT(recipe.transform)),
        ]
    if recipe.name == "hdf":
        return [Way("HDF", of()), Way("its X3D-M alone", of(dam="none", dsm=False))]
    if recipe.name == "ous":
        return [Way("OUS, cached features", of(), cached=True), Way("OUS, pixels", of())]
    raise ValueError(f"nothing is known to compare {recipe.name} with on a GPU; give cafer, hdf or ous")


@dataclass(frozen=True)
class StepSpeed:
    """Of one model on one device; memory is the most that was allocated while it trained."""

    way: str
    clips_per_second: float
    seconds_per_step: float
    gflop_per_clip: float
    """All forward and backward passes of a step."""
    mfu: float
    memory_gb: float | None
    """None on a CPU, whose memory torch does not count."""


def matmul_peak(device: torch.device, side: int = 8192, seconds: float = 3.0) -> float:
    """FLOP/s of bf16 products of two `side` x `side` matrices: the most that a model could reach here."""
    one, other = (torch.randn(side, side, device=device, dtype=_PRECISION) for _ in range(2))
    torch.mm(one, other)
    synchronise(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            torch.mm(one, other)
        synchronise(device)
        count += 4
    return 2 * side**3 * count / (time.perf_counter() - started)


def rendered_clips(count: int, transform: TransformConfig, device: torch.device) -> ClipBatch:
    """SynthFER on the device: `frames` uint8 [N,T,3,canvas,canvas] (the middle of each), with labels and groups."""
    specs = plan({"train": count}, SynthOptions())
    parts = list(iter_batches(specs, _AT_ONCE, device, transform.frames))
    edge = (parts[0][0].shape[-1] - transform.canvas) // 2
    inner = slice(edge, edge + transform.canvas)
    return ClipBatch(
        torch.cat([frames[..., inner, inner] for frames, _, _, _ in parts]),
        culture=torch.cat([cultures for _, _, _, cultures in parts]),
        label=torch.cat([labels for _, _, labels, _ in parts]),
    )


def step_speed(
    way: str,
    model: Model,
    clips: ClipBatch,
    transform: TransformConfig,
    batch: int,
    steps: int,
    peak: float,
    compiled: bool = False,
    cached: bool = False,
) -> StepSpeed:
    """Train `model` for so many steps of `batch` clips that are drawn at random; `peak` is `matmul_peak`'s.

    With `cached` it reads what its frozen part makes of the clips, which is done before.
    """
    device = clips.frames.device
    model = model.to(device).train()
    if cached:
        clips = with_features(model, clips, transform)
    gflop = flop_per_clip(model, clips, transform) / 1e9
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-5))
    forward: Callable[[ClipBatch], ModelOutput] = torch.compile(model) if compiled else model
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> None:
        rows = torch.randint(len(clips), (batch,), device=device)
        _gradient(model, forward, clips, rows, transform)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(_WARM_UP):
        step()
    synchronise(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    seconds = time.perf_counter() - started
    rate = steps * batch / seconds
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return StepSpeed(way, rate, seconds / steps, gflop, gflop * 1e9 * rate / peak, memory)


def flop_per_clip(model: Model, clips: ClipBatch, transform: TransformConfig) -> float:
    """Operations of one clip in a step, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter:
        _gradient(model, model, clips, torch.zeros(1, dtype=torch.long, device=clips.frames.device), transform)
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


@torch.no_grad()
def with_features(model: Model, clips: ClipBatch, transform: TransformConfig) -> ClipBatch:
    """The clips, with what the frozen part of the model makes of them."""
    parts = []
    for rows in torch.arange(len(clips), device=clips.frames.device).split(_AT_ONCE):
        with torch.autocast(clips.frames.device.type, _PRECISION):
            parts.append(model.frozen(_batch(clips, rows, transform)))
    return replace(clips, cached={name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _batch(clips: ClipBatch, rows: torch.Tensor, transform: TransformConfig) -> ClipBatch:
    """Some of the clips, standardised. Their faces stand for their scenes: what is seen costs the same."""
    assert clips.label is not None
    assert clips.culture is not None
    label, culture = clips.label[rows], clips.culture[rows]
    if clips.cached is not None:
        known = {name: one[rows] for name, one in clips.cached.items()}
        return ClipBatch(clips.frames.new_empty(len(rows), 0), culture=culture, label=label, cached=known)
    frames = normalise(clips.frames[rows], transform)
    return ClipBatch(frames, culture=culture, label=label, scene=frames)


def _gradient(
    model: Model,
    forward: Callable[[ClipBatch], ModelOutput],
    clips: ClipBatch,
    rows: torch.Tensor,
    transform: TransformConfig,
) -> None:
    """That of a step, as training computes it."""

    def once() -> None:
        batch = _batch(clips, rows, transform)
        assert batch.label is not None
        with torch.autocast(clips.frames.device.type, _PRECISION):
            output = forward(batch)
            loss = model.balance({"classification": focal_loss(output.logits, batch.label), **output.losses})
        loss.backward()

    step_gradient(model, None, once)


class TransformersViViT(Model):
    """transformers' ViViT-B (joint space-time attention, Model 1 of the paper) as our loop calls models.

    `config` are arguments of `VivitConfig` besides the input and the number of classes.
    """

    def __init__(self, transform: TransformConfig, classes: int = 7, **config: Any) -> None:
        from transformers import VivitConfig, VivitForVideoClassification

        super().__init__()
        self.model = VivitForVideoClassification(
            VivitConfig(image_size=transform.size, num_frames=transform.frames, num_labels=classes, **config)
        )

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Logits alone; `features` are the same, since it returns nothing else."""
        logits = self.model(pixel_values=batch.frames).logits
        return ModelOutput(logits, logits)
