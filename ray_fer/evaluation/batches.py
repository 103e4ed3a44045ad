"""From rows of a clip store to what a model takes: shared by all that let a bundle answer stored clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ray_fer.bundle import BundleConfig
from ray_fer.labels import culture_index
from ray_fer.models import reads_scene
from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import TransformConfig, normalise, prepare
from ray_fer.preprocessing.store_index import read_rows
from ray_fer.video.images import decode_image


@dataclass(frozen=True)
class StoredClips:
    """N clips, cut and resized for one bundle but not yet standardised: a quarter of a `ClipBatch`'s memory.

    Pixels are an array, and no tensor, because all processes of a node share an array in Ray's object store.
    """

    canvases: np.ndarray
    """uint8 [N,T,3,canvas,canvas]: what `prepare` makes of the aligned crops."""
    cultures: list[str | None]
    scenes: np.ndarray | None = None
    """uint8 [N,T,3,size,size]: the same of whole frames, for models that read them."""

    def __len__(self) -> int:
        return len(self.canvases)

    def rows(self, start: int, stop: int) -> StoredClips:
        """The clips from `start` up to `stop`; their pixels are not copied."""
        scenes = None if self.scenes is None else self.scenes[start:stop]
        return StoredClips(self.canvases[start:stop], self.cultures[start:stop], scenes)

    def batch(self, config: BundleConfig, device: torch.device, tell_culture: bool) -> ClipBatch:
        """All of them as the model's input; cultures only with `tell_culture`.

        Raises ValueError for a culture that the model does not know.
        """
        pixels = torch.tensor(self.canvases, device=device)  # a copy: arrays in the object store cannot be written to
        scene = None
        if self.scenes is not None:
            scene = normalise(torch.tensor(self.scenes, device=device), config.preprocessing.scene)
        culture = None
        if tell_culture:
            culture = torch.tensor([culture_index(name, config.cultures) for name in self.cultures], device=device)
        return ClipBatch(normalise(pixels, config.preprocessing), culture=culture, scene=scene)


def read_clips(store: str, shard: int, rows: Sequence[int], config: BundleConfig) -> StoredClips:
    """Some clips of one shard, in the order of `rows`.

    Raises ValueError when they have another number of frames than the bundle reads.
    """
    scene = reads_scene(config.model, config.model_config_)
    table = read_rows(store, shard, rows, ["frames", "culture", *(["scene"] if scene else [])])
    canvases = [prepared(clip.as_py(), config.preprocessing) for clip in table.column("frames")]
    if any(len(clip) != config.preprocessing.frames for clip in canvases):
        raise ValueError(
            f"{store} holds other than {config.preprocessing.frames} frames per clip, which the model reads; "
            "preprocess again"
        )
    scenes = None
    if scene:
        whole = [prepared(clip.as_py(), config.preprocessing.scene) for clip in table.column("scene")]
        scenes = torch.stack(whole).numpy()
    return StoredClips(torch.stack(canvases).numpy(), table.column("culture").to_pylist(), scenes)


def joined(parts: Sequence[StoredClips]) -> StoredClips:
    """The clips of all parts, of which there is at least one, in their order."""
    scenes = [one.scenes for one in parts if one.scenes is not None]
    return StoredClips(
        np.concatenate([one.canvases for one in parts]), [name for one in parts for name in one.cultures],
        np.concatenate(scenes) if scenes else None,
    )  # fmt: skip


def prepared(jpegs: Sequence[bytes], transform: TransformConfig) -> torch.Tensor:
    """The T images of a stored clip -> uint8 [T,3,canvas,canvas]."""
    return prepare(torch.from_numpy(np.stack([decode_image(data) for data in jpegs])), transform)
