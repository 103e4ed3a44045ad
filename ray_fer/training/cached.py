"""What the frozen part of a model makes of clips, kept on disk: one shard for each of the clip store.

A row has `clip_id` and `cached`: a safetensors file with what `Model.frozen` gave for the clip, by name. The store's
description says of which model, transform and weights it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from ray_fer import storage
from ray_fer.models import Model
from ray_fer.preprocessing.shards import shard_name
from ray_fer.preprocessing.store import open_dataset, read_description
from ray_fer.storage import Location
from ray_fer.training.recipe import Recipe

CACHED = "cached"
KIND, MAKE = "features", "ray-fer cache-features"
SCHEMA = pa.schema([pa.field("clip_id", pa.string()), pa.field(CACHED, pa.binary())])


def read_cached(cache: Location, shard: int, clip_ids: Sequence[str]) -> list[bytes]:
    """The features of some clips of one shard of their store, in order. Raises ValueError for clips without any."""
    filesystem, path = storage.resolve(storage.join(cache, KIND, shard_name(shard)))
    try:
        table = pq.read_table(path, filesystem=filesystem, partitioning=None)
    except FileNotFoundError:
        table = SCHEMA.empty_table()
    rows = {name: row for row, name in enumerate(table.column("clip_id").to_pylist())}
    missing = [name for name in clip_ids if name not in rows]
    if missing:
        raise ValueError(
            f"{cache} has nothing of {len(missing)} clips, the first is {missing[0]}: it was made of other clips; make "
            f"it again with `{MAKE}`"
        )
    return [table.column(CACHED)[rows[name]].as_py() for name in clip_ids]


def check_cache(recipe: Recipe, model: Model) -> None:
    """Raise ValueError or FileNotFoundError when the recipe's cache is not there, or not of this model."""
    if recipe.cached is None:
        return
    open_dataset(recipe.cached, KIND, MAKE)
    found = read_description(recipe.cached)
    assert found is not None
    before, now = found.options, made_with(recipe, model)
    changed = [f"{name} was {before.get(name)} and is {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        raise ValueError(
            f"{recipe.cached} was made with another model ({'; '.join(changed)}); make one for this recipe with "
            f"`{MAKE}`. Without pretrained weights the frozen ones depend on the seed"
        )


def made_with(recipe: Recipe, model: Model) -> dict[str, Any]:
    """What features depend on, beside the clips. Raises ValueError for a model that freezes nothing."""
    weights = model.frozen_weights()
    if not weights:
        raise ValueError(f"recipe {recipe.name}: {model.card.title} freezes nothing here, so nothing can be cached")
    return {
        "model": recipe.model, "scene": recipe.reads_scene, "precision": recipe.precision,
        "transform": json.loads(recipe.transform.model_dump_json()), "weights": digest(weights),
    }  # fmt: skip


def digest(weights: dict[str, Tensor]) -> str:
    """Changes with any number of any tensor."""
    seen = hashlib.sha256()
    for name in sorted(weights):
        seen.update(name.encode())
        seen.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]
