"""Clip store -> Ray dataset of prepared clips, and batches of those -> ClipBatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from ray_fer.labels import culture_index, index_of
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import Augment, TransformConfig, normalise, prepare
from ray_fer.preprocessing.clips import read_store
from ray_fer.video.images import decode_image


def clip_dataset(
    store: str | Path, split: str | None, transform: TransformConfig, classes: list[str], cultures: list[str]
) -> ray.data.Dataset:
    """Prepared clips of one split, kept in Ray's object store: `frames` uint8 [T,3,canvas,canvas], `label`, `culture`.

    JPEGs are decoded once, not once per epoch. Raises ValueError when the split is empty, has a label outside
    `classes`, or was preprocessed with another number of frames.
    """
    table = read_store(store, ["clip_id", "frames", "label", "culture"], split)
    if not table.num_rows:
        raise ValueError(f"{store}: no usable clip in split {split!r}")
    frames = len(table.column("frames")[0])
    if frames != transform.frames:
        raise ValueError(
            f"{store} holds {frames} frames per clip, the model reads {transform.frames}; preprocess again"
        )
    for name in set(table.column("label").to_pylist()):
        index_of(str(name), classes, f"label in {store}")

    def decode(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        clips = [
            prepare(torch.from_numpy(np.stack([decode_image(data) for data in clip])), transform).numpy()
            for clip in batch["frames"]
        ]
        return {
            "frames": np.stack(clips),
            "label": np.array([classes.index(name) for name in batch["label"]], np.int64),
            "culture": np.array([culture_index(name, cultures) for name in batch["culture"]], np.int64),
        }

    blocks = [table.slice(start, 16) for start in range(0, table.num_rows, 16)]
    return ray.data.from_arrow(blocks).map_batches(decode, batch_size=16).materialize()


def to_batch(columns: dict[str, Any], transform: TransformConfig, augment: Augment | None = None) -> ClipBatch:
    """Tensors of `clip_dataset` rows -> the model's input."""
    return ClipBatch(
        frames=normalise(columns["frames"], transform, augment), culture=columns["culture"], label=columns["label"]
    )
