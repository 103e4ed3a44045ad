"""Clips for training: read once by Ray Data into the object store, then drawn in any order by every worker.

`clip_dataset` makes one block per shard of the clip store: JPEGs as they are stored (some 150 kB a clip), or decoded
and cut for the model's transform (`pixels`), which costs more memory and no time later. A worker gets the dataset from
Ray Train and reads single clips from its blocks, which it maps and does not copy. Blocks that memory cannot hold are
spilled to disk by Ray; those of a node that died are read again. `clip_tables` makes the same blocks in this process,
for training in it: the processes that Ray Data starts cost more than some hundred clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from torch import Tensor

from ray_fer.labels import culture_index, index_of
from ray_fer.models.transform import TransformConfig, prepare
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.video.images import decode_image

_MAPPED_BLOCKS = 64
_THREADS = 2
_PIXELS_SHARE = 0.2  # of the object store's memory that decoded clips may take


def clip_dataset(
    clips: ClipIndex, transform: TransformConfig, classes: list[str], cultures: list[str], pixels: bool
) -> ray.data.Dataset:
    """The clips in Ray's object store, in their order: `frames` (see the module), `label` and `culture` int64.

    Raises ValueError when there is none, one has a label outside `classes`, a culture outside `cultures`, or another
    number of frames.
    """
    check_clips(clips, transform, classes, cultures)
    items = [json.dumps([shard, rows]) for shard, rows in clips.by_shard()]
    read = partial(_read, store=clips.store, transform=transform, classes=classes, cultures=cultures, pixels=pixels)
    # Without a claim to a CPU: when a node dies in the middle of a run, its blocks are read again at once, although
    # training workers hold all CPUs.
    at_once = max(1, min(len(items), int(ray.cluster_resources()["CPU"])))
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        read, batch_size=1, num_cpus=0, compute=ray.data.TaskPoolStrategy(size=at_once)
    )
    dataset.context.execution_options.preserve_order = True
    return dataset.materialize()


def clip_tables(
    clips: ClipIndex, transform: TransformConfig, classes: list[str], cultures: list[str]
) -> list[pa.Table]:
    """The blocks of `clip_dataset`, decoded, in this process. Raises ValueError as it does."""
    check_clips(clips, transform, classes, cultures)
    items = [json.dumps([shard, rows]) for shard, rows in clips.by_shard()]
    read = partial(_read, store=clips.store, transform=transform, classes=classes, cultures=cultures, pixels=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda item: read({"item": [item]}), items))


def check_clips(clips: ClipIndex, transform: TransformConfig, classes: Sequence[str], cultures: Sequence[str]) -> None:
    """Raise ValueError when clips cannot be trained or tested on, before anything is started."""
    if not len(clips):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    for name in sorted(set(map(str, clips.column("label")))):
        index_of(name, list(classes), f"label in {clips.store}")
    for name in sorted({one for one in clips.column("culture") if one is not None}):
        culture_index(name, list(cultures))
    ((shard, rows), *_) = clips.by_shard()
    frames = len(read_rows(clips.store, shard, rows[:1], ["frames"]).column("frames")[0])
    if frames != transform.frames:
        raise ValueError(
            f"{clips.store} holds {frames} frames per clip, the model reads {transform.frames}; preprocess again with "
            f"--frames {transform.frames}"
        )


def pixels_fit(clips: int, transform: TransformConfig) -> bool:
    """Whether decoded clips would take a small part of the cluster's object store."""
    available = ray.cluster_resources().get("object_store_memory", 0.0)
    return clips * transform.frames * 3 * transform.canvas**2 < _PIXELS_SHARE * available


def label_indices(clips: ClipIndex, classes: list[str]) -> np.ndarray:
    """int64 [N]"""
    return np.array([classes.index(name) for name in clips.column("label")], np.int64)


class ClipReader:
    """Any clip by its place, in blocks of `sizes` clips of which `block` gives one by its number."""

    def __init__(self, sizes: Sequence[int], block: Callable[[int], pa.Table], transform: TransformConfig) -> None:
        self._transform = transform
        self._starts = np.cumsum([0, *sizes])
        self._block = block

    @classmethod
    def of_shard(cls, shard: ray.data.DataIterator, transform: TransformConfig) -> ClipReader:
        """A worker's view of `clip_dataset`."""
        blocks = [entry for bundle in shard.materialize().iter_internal_ref_bundles() for entry in bundle.blocks]
        mapped = lru_cache(_MAPPED_BLOCKS)(lambda number: ray.get(blocks[number].ref))
        return cls([entry.metadata.num_rows for entry in blocks], mapped, transform)

    @classmethod
    def of_tables(cls, tables: Sequence[pa.Table], transform: TransformConfig) -> ClipReader:
        """A view of `clip_tables`."""
        return cls([table.num_rows for table in tables], tables.__getitem__, transform)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, places: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """`frames` uint8 [B,T,3,canvas,canvas], `label` and `culture` int64 [B] of the clips at these places."""
        found = [self._one(int(place)) for place in places]
        return {name: torch.stack([one[name] for one in found]) for name in ("frames", "label", "culture")}

    def _one(self, place: int) -> dict[str, Tensor]:
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        row = place - int(self._starts[number])
        block: pa.Table = self._block(number)
        frames = block.column("frames")[row]
        pixels = _stored_pixels(frames, self._transform) if "pixels" in block.schema.names else None
        return {
            "frames": prepare(decoded(frames.as_py()), self._transform) if pixels is None else pixels,
            "label": torch.tensor(block.column("label")[row].as_py()),
            "culture": torch.tensor(block.column("culture")[row].as_py()),
        }


def decoded(jpegs: Sequence[bytes]) -> Tensor:
    """T JPEGs -> uint8 [T,H,W,3]."""
    return torch.from_numpy(np.stack([decode_image(data) for data in jpegs]))


def _read(
    batch: dict[str, Any], store: str, transform: TransformConfig, classes: list[str], cultures: list[str], pixels: bool
) -> pa.Table:
    shard, rows = json.loads(batch["item"][0])
    table = read_rows(store, shard, rows, ["frames", "label", "culture"])
    columns = {
        "label": pa.array([classes.index(name) for name in table.column("label").to_pylist()], pa.int64()),
        "culture": pa.array(
            [culture_index(name, cultures) for name in table.column("culture").to_pylist()], pa.int64()
        ),
    }
    if not pixels:
        return pa.table({"frames": table.column("frames"), **columns})
    ready = [prepare(decoded(one.as_py()), transform).numpy().tobytes() for one in table.column("frames")]
    return pa.table({"frames": pa.array(ready, pa.large_binary()), "pixels": [True] * len(ready), **columns})


def _stored_pixels(frames: pa.Scalar, transform: TransformConfig) -> Tensor:
    flat = np.frombuffer(frames.as_buffer(), np.uint8)
    shape = (transform.frames, 3, transform.canvas, transform.canvas)
    return torch.from_numpy(flat.reshape(shape).copy())  # shared memory is read-only
