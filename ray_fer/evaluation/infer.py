"""Let a bundle answer clips of a store, over the Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.predictions import COLUMNS, Predictions
from ray_fer.labels import culture_index, index_of
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import normalise, prepare
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.video.images import decode_image

_BATCH = 16


def predict_clips(
    bundle: str | Path, clips: ClipIndex, tell_culture: bool = False, gpus: float = 0.0, here: bool = False
) -> Predictions:
    """Answers for `clips`, in their order, on the current Ray; every CPU, or GPU share of `gpus`, has one model.

    `here` answers in this process alone, which is sooner done for some hundred clips of a small model. With
    `tell_culture` the model is told the clips' culture labels; otherwise it answers as for unknown ones. Raises
    ValueError when there is no clip, one has a label that the model does not know or another number of frames.
    """
    bundle = Path(bundle).resolve()
    config = load_bundle(bundle).config
    if not len(clips):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    for name in sorted(set(map(str, clips.column("label")))):
        index_of(name, config.classes, f"label in {clips.store}")
    items = [
        json.dumps([shard, rows[start : start + _BATCH]])
        for shard, rows in clips.by_shard()
        for start in range(0, len(rows), _BATCH)
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
    resources = ray.cluster_resources()
    most = resources.get("GPU", 0.0) / gpus if gpus else resources.get("CPU", 1.0)
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Answers, fn_constructor_args=(bundle, store, tell_culture), batch_size=1, num_gpus=gpus,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(len(items), int(most)))),
    )  # fmt: skip
    dataset.context.execution_options.preserve_order = True
    rows = dataset.take_all()
    return {name: np.stack([row[name] for row in rows]) for name in ("probabilities", "features")}


class _Answers:
    """One actor's model."""

    def __init__(self, bundle: str, store: str, tell_culture: bool) -> None:
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._bundle = load_bundle(bundle)
        self._model = self._bundle.model.to(self._device)
        self._store = store
        self._tell_culture = tell_culture
        if self._device.type == "cpu":
            torch.set_num_threads(1)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        shard, rows = json.loads(batch["item"][0])
        config = self._bundle.config
        table = read_rows(self._store, shard, rows, ["frames", "culture"])
        clips = [
            prepare(torch.from_numpy(np.stack([decode_image(data) for data in clip.as_py()])), config.preprocessing)
            for clip in table.column("frames")
        ]
        if any(len(clip) != config.preprocessing.frames for clip in clips):
            raise ValueError(
                f"{self._store} holds other than {config.preprocessing.frames} frames per clip, which the model reads; "
                "preprocess again"
            )
        frames = normalise(torch.stack(clips).to(self._device), config.preprocessing)
        culture = None
        if self._tell_culture:
            names = table.column("culture").to_pylist()
            culture = torch.tensor([culture_index(name, config.cultures) for name in names], device=self._device)
        output = self._model(ClipBatch(frames=frames, culture=culture))
        return {
            "probabilities": output.logits.float().softmax(dim=1).cpu().numpy(),
            "features": output.features.float().cpu().numpy(),
        }
