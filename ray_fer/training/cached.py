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
from ray_fer.preprocessing.aus import clip_shards
from ray_fer.preprocessing.runner import finished_shards
from ray_fer.preprocessing.shards import Shard, shard_name
from ray_fer.preprocessing.store import open_dataset, read_description
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.storage import Location
from ray_fer.training.recipe import Recipe

CACHED = "cached"
KIND, MAKE = "features", "ray-fer cache-features"
SCHEMA = pa.schema([pa.field("clip_id", pa.string()), pa.field(CACHED, pa.binary())])


def read_cached(cache: Location, shard: int, clip_ids: Sequence[str]) -> list[bytes]:
    """The features of some clips of one shard of their store, in order; `check_cache` has seen that they are there."""
    filesystem, path = storage.resolve(storage.join(cache, KIND, shard_name(shard)))
    table = pq.read_table(path, filesystem=filesystem, partitioning=None)
    rows = {name: row for row, name in enumerate(table.column("clip_id").to_pylist())}
    return [table.column(CACHED)[rows[name]].as_py() for name in clip_ids]


def feature_shards(store: str, made_from: dict[str, Any]) -> list[Shard]:
    """The shards of a table of features of a clip store, `made_with` these."""
    return clip_shards(store, json.dumps(made_from, sort_keys=True))


def check_cache(recipe: Recipe, model: Model, clips: ClipIndex) -> None:
    """Raise ValueError or FileNotFoundError when the recipe's cache is missing, or of another model or other clips."""
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
    used = set(clips.column("shard"))
    shards = [one for one in feature_shards(clips.store, now) if one.number in used]
    there = finished_shards(storage.join(recipe.cached, KIND), shards)
    if len(there) < len(shards):
        raise ValueError(
            f"{recipe.cached} was made of other clips than those of {clips.store}, or they were preprocessed again "
            f"since; make it again with `{MAKE} ... --overwrite`"
        )
    wanted = set(clips.column("clip_id"))
    failed = [failure for one in there.values() for failure in one.failures if failure.clip_id in wanted]
    if failed:
        raise ValueError(
            f"{recipe.cached} lacks {len(failed)} of the clips, the first is {failed[0].clip_id} ({failed[0].reason}); "
            f"try them again with `{MAKE} ... --retry-failed`"
        )


def made_with(recipe: Recipe, model: Model) -> dict[str, Any]:
    """What features depend on, beside the clips. Raises ValueError for a model that freezes nothing."""
    weights = model.frozen_weights()
    if not weights:
        raise ValueError(f"recipe {recipe.name}: {model.card.title} freezes nothing here, so nothing can be cached")
    return {
        "model": recipe.model, "inputs": list(recipe.reads), "precision": recipe.precision,
        "transform": json.loads(recipe.transform.model_dump_json()), "weights": digest(weights),
    }  # fmt: skip


def digest(weights: dict[str, Tensor]) -> str:
    """Changes with any number of any tensor."""
    seen = hashlib.sha256()
    for name in sorted(weights):
        seen.update(name.encode())
        seen.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]
