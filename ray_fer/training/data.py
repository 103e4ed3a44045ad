"""Clips for training: read once by Ray Data into the object store, then drawn in any order by every worker.

`clip_dataset` makes one block per shard of the clip store: JPEGs as they are stored (some 150 kB a clip), or decoded
and cut for the model's transform (`pixels`), which costs more memory and no time later, or in their place what a frozen
part of the model made of them (see `cache`). A worker gets the dataset from Ray Train and reads single clips from its
blocks, which it maps and does not copy. Blocks that memory cannot hold are spilled to disk by Ray; those of a node that
died are read again. `clip_tables` makes the same blocks in this process, for training in it: the processes that Ray
Data starts cost more than some hundred clips.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from safetensors.torch import load
from torch import Tensor

from ray_fer.evaluation.inputs import COLUMNS, check_inputs, kept_as, prepared
from ray_fer.labels import culture_index, index_of
from ray_fer.models.batch import InputName
from ray_fer.models.transform import TransformConfig
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.training.cached import CACHED, read_cached
from ray_fer.training.recipe import Recipe

_MAPPED_BLOCKS = 64
_THREADS = 2
_PIXELS_SHARE = 0.2  # of the object store's memory that decoded clips may take


@dataclass(frozen=True)
class Reading:
    """What is read of each clip: `classes` and `cultures` name the indices that labels become."""

    transform: TransformConfig
    classes: list[str]
    cultures: list[str]
    inputs: tuple[InputName, ...] = ("frames",)
    """What the model reads; nothing when features are cached."""
    cached: str | None = None
    """Where cached features are, which are read instead of pixels."""

    @classmethod
    def of(cls, recipe: Recipe, classes: list[str], cultures: list[str]) -> Reading:
        """What the recipe's model reads."""
        inputs = recipe.reads if recipe.cached is None else ()
        return cls(recipe.transform, classes, cultures, inputs, recipe.cached)

    @property
    def columns(self) -> list[str]:
        """Where the store keeps the inputs, in their order."""
        return [COLUMNS[name] for name in self.inputs]


def clip_dataset(clips: ClipIndex, reading: Reading, pixels: bool) -> ray.data.Dataset:
    """The clips in Ray's object store, in their order: images (see the module), `label` and `culture` int64.

    Raises ValueError when there is none, or as `check_clips`.
    """
    check_clips(clips, reading)
    items = [json.dumps([shard, rows]) for shard, rows in clips.by_shard()]
    read = partial(_read, store=clips.store, reading=reading, pixels=pixels)
    # Without a claim to a CPU: when a node dies in the middle of a run, its blocks are read again at once, although
    # training workers hold all CPUs.
    at_once = max(1, min(len(items), int(ray.cluster_resources()["CPU"])))
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read, batch_size=1, num_cpus=0, compute=ray.data.TaskPoolStrategy(size=at_once)
    )
    dataset.context.execution_options.preserve_order = True
    return dataset.materialize()


def clip_tables(clips: ClipIndex, reading: Reading) -> list[pa.Table]:
    """The blocks of `clip_dataset`, decoded, in this process. Raises ValueError as it does."""
    check_clips(clips, reading)
    items = [json.dumps([shard, rows]) for shard, rows in clips.by_shard()]
    read = partial(_read, store=clips.store, reading=reading, pixels=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda item: read({"item": [item]}), items))


def check_clips(clips: ClipIndex, reading: Reading) -> None:
    """Raise ValueError when clips cannot be trained or tested on, before anything is started.

    There must be some, with labels and cultures that the model knows, and with what it reads: its number of frames,
    scenes, flow.
    """
    if not len(clips):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    for name in sorted(set(map(str, clips.column("label")))):
        index_of(name, reading.classes, f"label in {clips.store}")
    for name in sorted({one for one in clips.column("culture") if one is not None}):
        culture_index(name, reading.cultures)
    check_inputs(clips.store, reading.inputs)
    if "frames" not in reading.inputs:
        return
    ((shard, rows), *_) = clips.by_shard()
    frames = len(read_rows(clips.store, shard, rows[:1], ["frames"]).column("frames")[0])
    if frames != reading.transform.frames:
        raise ValueError(
            f"{clips.store} holds {frames} frames per clip, the model reads {reading.transform.frames}; preprocess "
            f"again with --frames {reading.transform.frames}"
        )


def pixels_fit(clips: int, reading: Reading) -> bool:
    """Whether decoded clips would take a small part of the cluster's object store."""
    available = ray.cluster_resources().get("object_store_memory", 0.0)
    kept = [kept_as(name, reading.transform) for name in reading.inputs]
    each = sum(math.prod(shape) * kind.itemsize for shape, kind in kept)
    return clips * each < _PIXELS_SHARE * available


def label_indices(clips: ClipIndex, classes: list[str]) -> np.ndarray:
    """int64 [N]"""
    return np.array([classes.index(name) for name in clips.column("label")], np.int64)


class ClipReader:
    """Any clip by its place, in blocks of `sizes` clips of which `block` gives one by its number."""

    def __init__(self, sizes: Sequence[int], block: Callable[[int], pa.Table], reading: Reading) -> None:
        self._reading = reading
        self._starts = np.cumsum([0, *sizes])
        self._block = block

    @classmethod
    def of_shard(cls, shard: ray.data.DataIterator, reading: Reading) -> ClipReader:
        """A worker's view of `clip_dataset`."""
        blocks = [entry for bundle in shard.materialize().iter_internal_ref_bundles() for entry in bundle.blocks]
        mapped = lru_cache(_MAPPED_BLOCKS)(lambda number: ray.get(blocks[number].ref))
        return cls([entry.metadata.num_rows for entry in blocks], mapped, reading)

    @classmethod
    def of_tables(cls, tables: Sequence[pa.Table], reading: Reading) -> ClipReader:
        """A view of `clip_tables`."""
        return cls([table.num_rows for table in tables], tables.__getitem__, reading)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, places: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Of the clips at these places: `label` and `culture` int64 [B], and what the reading says of these:

        its inputs as `prepared` gives them, [B,...]; cached features by their names, with "cached." before them.
        """
        found = [self._one(int(place)) for place in places]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _one(self, place: int) -> dict[str, Tensor]:
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        row = place - int(self._starts[number])
        block: pa.Table = self._block(number)
        found = {name: torch.tensor(block.column(name)[row].as_py()) for name in ("label", "culture")}
        for name in self._reading.inputs:
            stored, transform = block.column(name)[row], self._reading.transform
            ready = "pixels" in block.schema.names
            found[name] = _kept(name, stored, transform) if ready else prepared(name, stored.as_py(), transform)
        if self._reading.cached is not None:
            found |= {f"{CACHED}.{name}": one for name, one in load(block.column(CACHED)[row].as_py()).items()}
        return found


def _read(batch: dict[str, Any], store: str, reading: Reading, pixels: bool) -> pa.Table:
    shard, rows = json.loads(batch["item"][0])
    table = read_rows(store, shard, rows, ["clip_id", *reading.columns, "label", "culture"])
    columns: dict[str, pa.Array] = {
        "label": pa.array([reading.classes.index(name) for name in table.column("label").to_pylist()], pa.int64()),
        "culture": pa.array(
            [culture_index(name, reading.cultures) for name in table.column("culture").to_pylist()], pa.int64()
        ),
    }
    if reading.cached is not None:
        names = table.column("clip_id").to_pylist()
        return pa.table({CACHED: pa.array(read_cached(reading.cached, shard, names), pa.large_binary()), **columns})
    if not pixels:
        stored = {str(name): table.column(COLUMNS[name]) for name in reading.inputs}
        return pa.table(stored | columns)
    for name in reading.inputs:
        ready = [
            prepared(name, one.as_py(), reading.transform).numpy().tobytes() for one in table.column(COLUMNS[name])
        ]
        columns[name] = pa.array(ready, pa.large_binary())
    return pa.table({"pixels": [True] * table.num_rows, **columns})


def _kept(name: InputName, stored: pa.Scalar, transform: TransformConfig) -> Tensor:
    shape, kind = kept_as(name, transform)
    flat = np.frombuffer(stored.as_buffer(), kind)
    return torch.from_numpy(flat.reshape(shape).copy())  # shared memory is read-only
