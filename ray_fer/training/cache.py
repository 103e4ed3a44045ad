"""Run the frozen part of a model over a clip store once, for training to read (see `cached`), over shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from safetensors.torch import save

from ray_fer import storage
from ray_fer.evaluation.infer import model_device
from ray_fer.evaluation.inputs import COLUMNS, prepared
from ray_fer.models import Model
from ray_fer.preprocessing.journal import Processor
from ray_fer.preprocessing.runner import Progress, Session, cluster_pool, one_by_one
from ray_fer.preprocessing.shards import Failure, Row
from ray_fer.preprocessing.store import Description, Summary, build_store
from ray_fer.preprocessing.store_index import read_index, read_rows
from ray_fer.storage import Location
from ray_fer.training.bundles import model_arguments
from ray_fer.training.cached import CACHED, KIND, SCHEMA, feature_shards, made_with
from ray_fer.training.clip_batches import clip_batch
from ray_fer.training.data import Reading, check_clips
from ray_fer.training.fit import TrainingClips
from ray_fer.training.fresh import fresh_model
from ray_fer.training.parts import classes_of, cultures_of
from ray_fer.training.recipe import Recipe
from ray_fer.training.validation import autocast

_CLIPS = 8
"""That the model sees at once."""


@dataclass(frozen=True)
class FeatureWork:
    """Work of a shard of clips."""

    store: str
    recipe: Recipe
    arguments: dict[str, Any]

    @contextmanager
    def open(self) -> Iterator[Processor]:
        """Load the model."""
        model = fresh_model(self.recipe, self.arguments).eval()
        device = model_device()
        yield FeatureProcessor(self.store, self.recipe, model.to(device), device)


class FeatureProcessor:
    """Rows that name clips of a shard in, rows of the table of features out."""

    schema = SCHEMA

    def __init__(self, store: str, recipe: Recipe, model: Model, device: torch.device) -> None:
        self._store = store
        self._recipe = recipe
        self._model = model
        self._device = device
        self._reading = Reading.of(recipe.model_copy(update={"cached": None}), [], [])

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        wanted = list(rows)
        for start in range(0, len(wanted), _CLIPS):
            part = wanted[start : start + _CLIPS]
            try:
                yield from self._features(part)
            except Exception:  # some clip of the batch: find out which
                yield from one_by_one(part, lambda row: self._features([row])[0])

    @torch.inference_mode()
    def _features(self, rows: Sequence[Row]) -> list[Row]:
        reading = self._reading
        places = [row["row"] for row in rows]
        table = read_rows(self._store, rows[0]["shard"], places, ["clip_id", *reading.columns])
        columns: dict[str, torch.Tensor] = {
            name: torch.stack([prepared(name, one.as_py(), reading.transform) for one in table.column(COLUMNS[name])])
            for name in reading.inputs
        }
        columns |= {name: torch.zeros(len(rows), dtype=torch.long) for name in ("label", "culture")}
        moved = {name: one.to(self._device) for name, one in columns.items()}
        with autocast(self._recipe, self._device):
            found = self._model.frozen(clip_batch(moved, self._recipe.transform))
        found = {name: one.float().cpu() for name, one in found.items()}
        return [
            {"clip_id": name, CACHED: save({key: one[place].clone() for key, one in found.items()})}
            for place, name in enumerate(table.column("clip_id").to_pylist())
        ]


def cache_features(
    store: Location,
    output: Location,
    recipe: Recipe,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> Summary:
    """Write what the frozen part of the recipe's model makes of every clip of a store, on the Ray that `session` gives.

    With GPUs on the cluster each has one model (`gpus_per_worker` of the recipe shares one), else every CPU. Raises
    ValueError for a model that freezes nothing or clips that it cannot read, FileExistsError as `preprocess` does.
    """
    index = read_index(store)
    clips = TrainingClips(index, index, classes_of(index), cultures_of(index))
    check_clips(index, Reading.of(recipe, clips.classes, clips.cultures))
    arguments = model_arguments(recipe, clips, None)
    made_from = made_with(recipe, fresh_model(recipe, arguments))
    shards = feature_shards(index.store, made_from)
    for shard in shards:
        for place, row in enumerate(shard.rows):
            row["row"] = place
    work = FeatureWork(index.store, recipe, arguments)
    description = Description(KIND, 0, len(shards), index.store, made_from)
    pool = partial(cluster_pool, recipe.gpus_per_worker or 1.0)
    return build_store(
        storage.absolute(output), description, shards, work, pool, resume, overwrite, retry_failed, progress, session
    )
