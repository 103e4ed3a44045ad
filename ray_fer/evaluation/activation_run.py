"""Compute activation maps: Grad-CAM of every clip for its true class, on the current Ray or in this process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ray.data
import torch
from torch import nn

from ray_fer.bundle import BundleConfig, load_bundle
from ray_fer.evaluation.activation_maps import ActivationMaps, GroupMap, asymmetry, placed, region_shares
from ray_fer.evaluation.attention import GRAD_CAM, ROLLOUT, grad_cam, looked_into, method, stretched
from ray_fer.evaluation.batches import read_clips
from ray_fer.evaluation.infer import BATCH, actor_pool, model_device
from ray_fer.evaluation.inputs import COLUMNS, check_inputs
from ray_fer.labels import UNKNOWN_CULTURE, index_of
from ray_fer.models import reads
from ray_fer.models.transform import TransformConfig
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.video.faces import ALIGNED_SIZE, LANDMARKS, aligned_landmarks
from ray_fer.video.images import decode_image

_LEAVE_OUT = "leave out --activation-maps"


def activation_maps(
    bundle: str | Path,
    clips: ClipIndex,
    tell_culture: bool = False,
    gpus: float = 0.0,
    here: bool = False,
    faces: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ActivationMaps:
    """The maps of a bundle's model on `clips`, computed on the current Ray; every CPU, or GPU share, has one model.

    `here` computes all of them in this process, without Ray; without `faces` no mean face is kept. `progress` is told
    how many clips are done, and of how many. Raises ValueError for a model that Grad-CAM cannot look into, when there
    is no clip, one has a label that the model does not know or another number of frames, or the store lacks what the
    model reads.
    """
    bundle = Path(bundle).resolve()
    loaded = load_bundle(bundle)
    config = loaded.config
    trunk = check_looked_into(loaded.model)
    if not len(clips):
        raise ValueError(f"{clips.store}: no usable clip was chosen")
    for name in sorted(set(map(str, clips.column("label")))):
        index_of(name, config.classes, f"label in {clips.store}")
    check_inputs(clips.store, reads(config.model, config.model_config_))
    given = (str(bundle), clips.store, tell_culture, faces)
    shards = clips.by_shard()
    # One clip first: what cannot be done is said here, and not by an actor.
    height, width = _Looks(*given).look(shards[0][0], shards[0][1][:1])["map"].shape[1:]
    items = [
        json.dumps([shard, rows[start : start + BATCH]])
        for shard, rows in shards
        for start in range(0, len(rows), BATCH)
    ]
    cells: dict[tuple[str, str], _Sums] = {}
    for done, one in enumerate(_here(items, *given) if here else _spread(items, gpus, *given), start=1):
        cells.setdefault((str(one["label"]), str(one["culture"])), _Sums()).add(one)
        progress(done, len(clips))
    geometry = _geometry(config)
    wide = round(geometry.side * ALIGNED_SIZE) * geometry.zoom
    order = sorted(cells, key=lambda key: (config.classes.index(key[0]), key[1] == UNKNOWN_CULTURE, key[1]))
    maps = [cells[key].group_map(*key, geometry) for key in order]
    name = f"{config.name} {config.version}".strip()
    return ActivationMaps(name, trunk, (wide / height, wide / width), maps, tell_culture)


def check_looked_into(model: nn.Module) -> str:
    """Which trunk of a model Grad-CAM looks into. Raises ValueError when there is none that it can."""
    how, name = method(model), type(model).__name__
    if how == ROLLOUT:
        raise ValueError(
            f"{name} looks with a ViViT, of which there is no map for each class: {_LEAVE_OUT}; its attention rollout "
            "is in the report without"
        )
    if how != GRAD_CAM:
        raise ValueError(f"{name} has no convolutions, into which Grad-CAM looks: {_LEAVE_OUT}")
    return looked_into(model)[0]


def _geometry(config: BundleConfig) -> TransformConfig:
    """What of the aligned crop the trunk sees: flow and apex are never cut."""
    transform = config.preprocessing
    return transform if "frames" in reads(config.model, config.model_config_) else transform.whole


class _Looks:
    """One process's model."""

    def __init__(self, bundle: str, store: str, tell_culture: bool, faces: bool) -> None:
        self._device = model_device()
        loaded = load_bundle(bundle)
        self._model, self._config = loaded.model.to(self._device), loaded.config
        self._store, self._tell_culture, self._faces = store, tell_culture, faces
        self._moving = "frames" in reads(self._config.model, self._config.model_config_)

    def __call__(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        return self.look(*json.loads(batch["item"][0]))

    def look(self, shard: int, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Of each clip: `label`, `culture`, `map` [h,w] (mean over time), `flat`, `landmarks` [478,2] in the crop, its
        own `asymmetry` (NaN for none), and where wanted `face`, uint8 [224,224].
        """
        picture = ["frames"] if self._moving else ["onset", COLUMNS["apex"]]
        columns = ["label", "culture", "landmarks", "frame_index", *picture]
        stored = read_rows(self._store, shard, rows, columns).to_pylist()
        batch = read_clips(self._store, shard, rows, self._config).batch(self._config, self._device, self._tell_culture)
        truth = [self._config.classes.index(one["label"]) for one in stored]
        try:
            maps = grad_cam(self._model, batch, torch.tensor(truth, device=self._device))
        except ValueError as error:
            raise ValueError(f"{error}: {_LEAVE_OUT}") from error
        maps = stretched(maps).mean(dim=1).cpu()
        on_crop, seen = placed(maps, _geometry(self._config))
        landmarks = [self._landmarks(one) for one in stored]
        own = [asymmetry(heat, places, seen) for heat, places in zip(on_crop.numpy(), landmarks, strict=True)]
        found = {
            "label": np.array([one["label"] for one in stored]),
            "culture": np.array([one["culture"] for one in stored]),
            "map": maps.numpy(),
            "flat": ~maps.flatten(1).any(dim=1).numpy(),
            "landmarks": np.stack(landmarks),
            "asymmetry": np.array([math.nan if one is None else one for one in own]),
        }
        return found | ({"face": np.stack([self._face(one) for one in stored])} if self._faces else {})

    def _landmarks(self, stored: dict[str, Any]) -> np.ndarray:
        """Mean places float32 [478,2] in the crop.

        A store keeps landmarks in pixels of the whole picture. Each frame was cropped by its own, so that they say
        exactly where they lie in its crop. Flow and apex were cropped by those of the onset, which are not kept: those
        of the sampled frame that is nearest to it stand for them, which puts its eyes where those of the onset are.
        """
        frames = np.asarray(stored["landmarks"], np.float32).reshape(-1, LANDMARKS, 3)
        if not self._moving:
            frames = frames[[int(np.abs(np.asarray(stored["frame_index"]) - stored["onset"]).argmin())]]
        return np.mean([aligned_landmarks(one) for one in frames], axis=0)

    def _face(self, stored: dict[str, Any]) -> np.ndarray:
        image = stored["frames"][len(stored["frames"]) // 2] if self._moving else stored[COLUMNS["apex"]]
        return cv2.resize(cv2.cvtColor(decode_image(image), cv2.COLOR_RGB2GRAY), (ALIGNED_SIZE, ALIGNED_SIZE))


@dataclass
class _Sums:
    """The clips of one class and group so far."""

    count: int = 0
    flat: int = 0
    total: Any = 0.0
    """float64 [h,w]: cutting and enlarging a map is linear, and is done once, of the mean."""
    landmarks: Any = 0.0
    face: Any = None
    own: list[float] = field(default_factory=list)

    def add(self, clip: dict[str, Any]) -> None:
        self.flat += bool(clip["flat"])
        self.count += not clip["flat"]
        self.total = self.total + clip["map"].astype(np.float64)
        self.landmarks = self.landmarks + clip["landmarks"].astype(np.float64)
        if "face" in clip:
            self.face = clip["face"] + (0.0 if self.face is None else self.face)
        if not math.isnan(clip["asymmetry"]):
            self.own.append(float(clip["asymmetry"]))

    def group_map(self, expression: str, group: str, geometry: TransformConfig) -> GroupMap:
        clips = self.count + self.flat
        landmarks, face = self.landmarks / clips, None if self.face is None else self.face / clips
        mean, seen = placed(torch.from_numpy(self.total / max(self.count, 1))[None], geometry)
        heat = mean[0].numpy()
        regions, face_share = region_shares(heat, landmarks, seen)
        spread = float(np.std(self.own, ddof=1)) if len(self.own) > 1 else None
        return GroupMap(
            expression, group, self.count, self.flat, heat, landmarks, face, face_share,
            asymmetry(heat, landmarks, seen), spread, regions,
        )  # fmt: skip


def _here(items: Sequence[str], *given: Any) -> Iterator[dict[str, Any]]:
    looks = _Looks(*given)
    for item in items:
        found = looks({"item": [item]})
        for place in range(len(found["label"])):
            yield {name: values[place] for name, values in found.items()}


def _spread(items: Sequence[str], gpus: float, *given: Any) -> Iterator[dict[str, Any]]:
    """In the order of the items, so that sums do not depend on who was first."""
    dataset = ray.data.from_items(list(items), override_num_blocks=len(items)).map_batches(
        _Looks, fn_constructor_args=given, batch_size=1, num_gpus=gpus, compute=actor_pool(len(items), gpus)
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    yield from dataset.iter_rows()
