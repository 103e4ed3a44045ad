"""What a reader gives, as a model takes it: augmented and standardised, on the model's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ray_fer.models.batch import ClipBatch
from ray_fer.models.transform import Augment, Drawn, TransformConfig, draw, normalise
from ray_fer.training.cached import CACHED


@dataclass(frozen=True)
class Chances:
    """What chance decided for the faces of N clips, and by itself for their scenes."""

    frames: Drawn
    scene: Drawn | None

    @classmethod
    def drawn(
        cls, count: int, transform: TransformConfig, augment: Augment, scene: bool, generator: torch.Generator
    ) -> Chances:
        """For `count` clips, with or without scenes."""
        return cls(
            draw(count, transform, augment, generator),
            draw(count, transform.scene, augment, generator) if scene else None,
        )

    def rows(self, rows: Tensor) -> Chances:
        """The clips at these places."""
        return Chances(self.frames.rows(rows), None if self.scene is None else self.scene.rows(rows))


def clip_batch(columns: dict[str, Tensor], transform: TransformConfig, chances: Chances | None = None) -> ClipBatch:
    """Columns of a `ClipReader` as a batch; pixels as they are without `chances`."""
    cached = {
        name.removeprefix(f"{CACHED}."): one for name, one in columns.items() if name.startswith(f"{CACHED}.")
    }  # fmt: skip
    frames, scene = columns.get("frames"), columns.get("scene")
    if frames is None:
        frames = columns["label"].new_empty(len(columns["label"]), 0, dtype=torch.float32)
    else:
        frames = normalise(frames, transform, None if chances is None else chances.frames)
    if scene is not None:
        scene = normalise(scene, transform.scene, None if chances is None else chances.scene)
    return ClipBatch(
        frames, culture=columns["culture"], label=columns["label"], scene=scene, cached=cached or None
    )  # fmt: skip
