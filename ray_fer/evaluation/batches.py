"""From rows of a clip store to what a model takes: shared by all that let a bundle answer stored clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ray_fer.bundle import BundleConfig
from ray_fer.evaluation.inputs import COLUMNS, prepared, standardised
from ray_fer.labels import culture_index
from ray_fer.models import reads
from ray_fer.models.batch import ClipBatch, InputName
from ray_fer.preprocessing.store_index import read_rows


@dataclass(frozen=True)
class StoredClips:
    """N clips, cut and resized for one bundle but not yet standardised: a quarter of a `ClipBatch`'s memory.

    Pixels are arrays, and no tensors, because all processes of a node share an array in Ray's object store.
    """

    inputs: dict[InputName, np.ndarray]
    """What `prepared` makes of each column that the model reads, [N,...]."""
    cultures: list[str | None]

    def __len__(self) -> int:
        return len(self.cultures)

    def rows(self, start: int, stop: int) -> StoredClips:
        """The clips from `start` up to `stop`; their pixels are not copied."""
        inputs = {name: one[start:stop] for name, one in self.inputs.items()}
        return StoredClips(inputs, self.cultures[start:stop])

    def batch(self, config: BundleConfig, device: torch.device, tell_culture: bool) -> ClipBatch:
        """All of them as the model's input; cultures only with `tell_culture`.

        Raises ValueError for a culture that the model does not know.
        """
        seen = {
            # A copy: arrays in the object store cannot be written to.
            name: standardised(name, torch.tensor(kept, device=device), config.preprocessing)
            for name, kept in self.inputs.items()
        }
        culture = None
        if tell_culture:
            culture = torch.tensor([culture_index(name, config.cultures) for name in self.cultures], device=device)
        return ClipBatch.of(seen, len(self), culture=culture)


def read_clips(store: str, shard: int, rows: Sequence[int], config: BundleConfig) -> StoredClips:
    """Some clips of one shard, in the order of `rows`.

    Raises ValueError when they have another number of frames than the bundle reads.
    """
    names = reads(config.model, config.model_config_)
    table = read_rows(store, shard, rows, [*(COLUMNS[name] for name in names), "culture"])
    inputs = {}
    for name in names:
        kept = [prepared(name, clip.as_py(), config.preprocessing) for clip in table.column(COLUMNS[name])]
        if name == "frames" and any(len(clip) != config.preprocessing.frames for clip in kept):
            raise ValueError(
                f"{store} holds other than {config.preprocessing.frames} frames per clip, which the model reads; "
                "preprocess again"
            )
        inputs[name] = torch.stack(kept).numpy()
    return StoredClips(inputs, table.column("culture").to_pylist())


def joined(parts: Sequence[StoredClips]) -> StoredClips:
    """The clips of all parts, of which there is at least one, in their order."""
    inputs = {name: np.concatenate([one.inputs[name] for one in parts]) for name in parts[0].inputs}
    return StoredClips(inputs, [name for one in parts for name in one.cultures])
