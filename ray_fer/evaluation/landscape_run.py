"""Compute a loss landscape: the loss at w + alpha d + beta e, for trained weights w and two random directions d and e.

The directions are *filter-normalised* (Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, section
4): each filter of a direction has the norm of the same filter of w. Without that a network of large weights looks flat,
although normalisation layers and ReLU make their scale mean nothing.

The paper leaves open what a filter is where there is no convolution; as in the authors' code
(github.com/tomgoldstein/loss-landscape) it is what lies behind one index of a parameter's first dimension, and
parameters of one dimension do not move: biases, and scales and shifts of normalisation layers. Running statistics of
batch normalisation stay as trained, as they do there: the model runs in eval mode, and they do not follow the weights.
Frozen parameters do not move either, of which neither says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from torch import Tensor, nn
from torch.nn import functional

from ray_fer.bundle import BundleConfig, load_bundle
from ray_fer.evaluation.batches import StoredClips, joined, read_clips
from ray_fer.evaluation.infer import BATCH, actor_pool, model_device
from ray_fer.evaluation.inputs import check_inputs
from ray_fer.evaluation.landscape import Landscape, LandscapeOptions
from ray_fer.labels import index_of
from ray_fer.models import reads
from ray_fer.models.batch import ClipBatch
from ray_fer.models.card import Model
from ray_fer.preprocessing.store_index import ClipIndex

Direction = dict[str, Tensor]
"""What is added to parameters, by their names."""


def loss_landscape(
    bundle: str | Path,
    clips: ClipIndex,
    options: LandscapeOptions,
    tell_culture: bool = False,
    gpus: float = 0.0,
    here: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Landscape:
    """The landscape of a bundle's model on `stratified` clips of `clips`, computed on the current Ray.

    Every CPU, or GPU share of `gpus`, has one model and takes one point of the grid after the other; `here` computes
    all of them in this process, without Ray. `progress` is told how many points are done, and of how many. Raises
    ValueError for a model without weights to move, when there is no clip, when one has another number of frames or a
    label that the model does not know, or when the store lacks what the model reads.
    """
    bundle = Path(bundle).resolve()
    loaded = load_bundle(bundle)
    config = loaded.config
    movable(loaded.model)  # raises here, and not in an actor
    chosen = stratified(clips, options.clips)
    if not len(chosen):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    labels = [index_of(str(name), config.classes, f"label in {clips.store}") for name in chosen.column("label")]
    check_inputs(chosen.store, reads(config.model, config.model_config_))
    read = joined([read_clips(chosen.store, shard, rows, config) for shard, rows in chosen.by_shard()])
    places = [(row, column) for row in range(options.points) for column in range(options.points)]
    given = (str(bundle), labels, options, tell_culture)
    losses = np.full((options.points, options.points), np.nan)
    found = _here(places, read, *given) if here else _spread(places, gpus, ray.put(read), *given)
    for done, (row, column, loss) in enumerate(found, start=1):
        losses[row, column] = loss
        progress(done, len(places))
    name = f"{config.name} {config.version}".strip()
    return Landscape(name, options, losses, list(map(str, chosen.column("clip_id"))), tell_culture)


def stratified(clips: ClipIndex, count: int) -> ClipIndex:
    """`count` of the clips, or all where there are fewer; the same ones whatever the order of the store.

    They are evenly spaced in a list that is sorted by class, dataset and id: each class has its share, rounded.
    """
    keys = list(zip(*(map(str, clips.column(name)) for name in ("label", "dataset", "clip_id")), strict=True))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    if count < len(order):
        order = order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
    return clips.where(np.sort(order))


def movable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that move, by name: they require a gradient and have two dimensions or more.

    Raises ValueError when there is none.
    """
    found = {name: one for name, one in model.named_parameters() if one.requires_grad and one.ndim > 1}
    if not found:
        raise ValueError(f"{type(model).__name__} has no weights that training moves, and so no loss landscape")
    return found


def filter_normalised(model: nn.Module, generator: torch.Generator) -> Direction:
    """A random direction: normal noise for each `movable` parameter, each filter scaled to the norm of the model's.

    Filters of zeros stay. It is drawn on the CPU, so that a model has the same direction on every device.
    """
    direction = {}
    for name, weight in movable(model).items():
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
        direction[name] = noise * (_norms(weight.detach()) / _norms(noise))
    return direction


def _norms(filters: Tensor) -> Tensor:
    """L2 norm of each filter of [N,...], with as many dimensions of size 1."""
    return torch.linalg.vector_norm(filters, dim=tuple(range(1, filters.ndim)), keepdim=True)


@contextmanager
def moved(model: nn.Module, steps: Sequence[tuple[float, Direction]]) -> Iterator[None]:
    """Within it every step times its direction is added to the parameters; afterwards they are bit for bit what they
    were.
    """
    # In place: an LSTM on a GPU holds its weights a second time, and does not notice tensors that are exchanged.
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for _, direction in steps for name in direction}
    try:
        with torch.no_grad():
            for step, direction in steps:
                for name, values in direction.items():
                    parameters[name].add_(values, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)


@torch.inference_mode()
def cross_entropy(model: nn.Module, batches: Sequence[Callable[[], ClipBatch]], labels: Sequence[int]) -> float:
    """Mean cross-entropy in nats over all clips, without the loss terms of the model's own.

    Each batch is made when its turn comes; `labels` are the class indices of their clips, one batch after the other.
    Logits that overflowed make it inf or NaN.
    """
    total, start = 0.0, 0
    for make in batches:
        logits = model(make()).logits.double()
        target = torch.tensor(labels[start : start + len(logits)], device=logits.device)
        total += float(functional.cross_entropy(logits, target, reduction="sum"))
        start += len(logits)
    return total / start


class _Surface:
    """The model of one process, and its loss at points of the grid."""

    def __init__(
        self, clips: StoredClips, bundle: str, labels: Sequence[int], options: LandscapeOptions, tell_culture: bool
    ) -> None:
        device = model_device()
        loaded = load_bundle(bundle)
        self._model = loaded.model.to(device)
        self._labels, self._steps = labels, options.steps.tolist()
        generator = torch.Generator().manual_seed(options.seed)
        self._directions = [filter_normalised(self._model, generator) for _ in range(2)]
        parts = [clips.rows(start, start + BATCH) for start in range(0, len(clips), BATCH)]
        self._batches = [_kept(self._model, part, loaded.config, device, tell_culture) for part in parts]

    def loss(self, row: int, column: int) -> float:
        steps = (self._steps[row], self._steps[column])
        with moved(self._model, list(zip(steps, self._directions, strict=True))):
            return cross_entropy(self._model, self._batches, self._labels)


@torch.inference_mode()
def _kept(
    model: nn.Module, clips: StoredClips, config: BundleConfig, device: torch.device, tell_culture: bool
) -> Callable[[], ClipBatch]:
    """What makes the batch of these clips: out of what frozen weights say of them, where there are any, as that is the
    same on the whole grid; else out of their pixels, which take four times as much memory once they are standardised.
    """
    batch = clips.batch(config, device, tell_culture)
    cached = model.frozen(batch) if isinstance(model, Model) else {}
    if not cached:
        return lambda: clips.batch(config, device, tell_culture)
    small = ClipBatch(batch.frames.new_empty(len(batch), 0), culture=batch.culture, cached=cached)
    return lambda: small


def _here(places: Sequence[tuple[int, int]], clips: StoredClips, *given: Any) -> Iterator[tuple[int, int, float]]:
    surface = _Surface(clips, *given)
    for row, column in places:
        yield row, column, surface.loss(row, column)


def _spread(
    places: Sequence[tuple[int, int]], gpus: float, clips: ray.ObjectRef, *given: Any
) -> Iterator[tuple[int, int, float]]:
    """In the order in which they are done. The clips are in the object store: all actors of a node share them."""
    items = [{"row": row, "column": column} for row, column in places]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Actor, fn_constructor_args=([clips], *given), num_gpus=gpus, compute=actor_pool(len(items), gpus)
    )
    dataset.context.enable_progress_bars = False
    for found in dataset.iter_rows():
        yield found["row"], found["column"], found["loss"]


class _Actor:
    def __init__(self, clips: list[ray.ObjectRef], *given: Any) -> None:
        self._surface = _Surface(ray.get(clips[0]), *given)

    def __call__(self, place: dict[str, Any]) -> dict[str, Any]:
        return place | {"loss": self._surface.loss(place["row"], place["column"])}
