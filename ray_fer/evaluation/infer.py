"""Let a bundle answer clips of a store, over the Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.batches import read_clips
from ray_fer.evaluation.inputs import check_inputs
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.labels import index_of
from ray_fer.models import reads
from ray_fer.preprocessing.store_index import ClipIndex

BATCH = 16
"""Clips that a model answers at once."""


def predict_clips(
    bundle: str | Path, clips: ClipIndex, tell_culture: bool = False, gpus: float = 0.0, here: bool = False
) -> Predictions:
    """Answers for `clips`, in their order, on the current Ray; every CPU, or GPU share of `gpus`, has one model.

    `here` answers in this process alone, which is sooner done for some hundred clips of a small model. With
    `tell_culture` the model is told the clips' culture labels; otherwise it answers as for unknown ones. Raises
    ValueError when there is no clip, one has a label that the model does not know or another number of frames, or the
    store lacks what it reads.
    """
    bundle = Path(bundle).resolve()
    config = load_bundle(bundle).config
    if not len(clips):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    for name in sorted(set(map(str, clips.column("label")))):
        index_of(name, config.classes, f"label in {clips.store}")
    check_inputs(clips.store, reads(config.model, config.model_config_))
    items = [
        json.dumps([shard, rows[start : start + BATCH]])
        for shard, rows in clips.by_shard()
        for start in range(0, len(rows), BATCH)
    ]
    if here:
        answer = _Answers(str(bundle), clips.store, tell_culture)
        parts = [answer({"item": [item]}) for item in items]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in ("probabilities", "features")}
    else:
        columns = _answered(items, str(bundle), clips.store, tell_culture, gpus)
    return Predictions(
        f"{config.name} {config.version}", config.classes, clips.table.select(list(COLUMNS)).combine_chunks(),
        columns["probabilities"].astype(np.float32), columns["features"].astype(np.float32),
    )  # fmt: skip


def _answered(items: list[str], bundle: str, store: str, tell_culture: bool, gpus: float) -> dict[str, np.ndarray]:
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Answers, fn_constructor_args=(bundle, store, tell_culture), batch_size=1, num_gpus=gpus,
        compute=actor_pool(len(items), gpus),
    )  # fmt: skip
    dataset.context.execution_options.preserve_order = True
    rows = dataset.take_all()
    return {name: np.stack([row[name] for row in rows]) for name in ("probabilities", "features")}


class _Answers:
    """One actor's model."""

    def __init__(self, bundle: str, store: str, tell_culture: bool) -> None:
        self._device = model_device()
        self._bundle = load_bundle(bundle)
        self._model = self._bundle.model.to(self._device)
        self._store = store
        self._tell_culture = tell_culture

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        shard, rows = json.loads(batch["item"][0])
        clips = read_clips(self._store, shard, rows, self._bundle.config)
        output = self._model(clips.batch(self._bundle.config, self._device, self._tell_culture))
        return {
            "probabilities": output.logits.float().softmax(dim=1).cpu().numpy(),
            "features": output.features.float().cpu().numpy(),
        }


def actor_pool(items: int, gpus: float) -> ray.data.ActorPoolStrategy:
    """As many actors as the cluster has CPUs, or shares of `gpus` GPUs, for; no more than there are items."""
    resources = ray.cluster_resources()
    most = resources.get("GPU", 0.0) / gpus if gpus else resources.get("CPU", 1.0)
    return ray.data.ActorPoolStrategy(size=max(1, min(items, int(most))))


def model_device() -> torch.device:
    """Where the model of this process belongs: on the GPU that Ray gave it, else on one thread of a CPU."""
    if ray.is_initialized() and ray.get_gpu_ids():
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")
