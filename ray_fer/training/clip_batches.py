"""What a reader gives, as a model takes it: augmented and standardised, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_fer.evaluation.inputs import COLUMNS, standardised
from ray_fer.models.batch import ClipBatch, InputName
from ray_fer.models.transform import Augment, Drawn, TransformConfig, draw
from ray_fer.training.cached import CACHED


@dataclass(frozen=True)
class Chances:
    """What chance decided for N clips, for each input by itself."""

    of: dict[InputName, Drawn]

    @classmethod
    def drawn(
        cls,
        count: int,
        transform: TransformConfig,
        augment: Augment,
        inputs: Sequence[InputName],
        generator: torch.Generator,
    ) -> Chances:
        """For `count` clips of which `inputs` are read."""
        read = [name for name in COLUMNS if name in inputs]
        seen = {name: transform if name == "frames" else transform.whole for name in read}
        return cls({name: draw(count, seen[name], augment, generator) for name in read})

    def rows(self, rows: Tensor) -> Chances:
        """The clips at these places."""
        return Chances({name: one.rows(rows) for name, one in self.of.items()})


def clip_batch(columns: dict[str, Tensor], transform: TransformConfig, chances: Chances | None = None) -> ClipBatch:
    """Columns of a `ClipReader` as a batch; pixels as they are without `chances`."""
    cached = {
        name.removeprefix(f"{CACHED}."): one for name, one in columns.items() if name.startswith(f"{CACHED}.")
    }  # fmt: skip
    drawn = {} if chances is None else chances.of
    inputs = {
        name: standardised(name, columns[name], transform, drawn.get(name)) for name in COLUMNS if name in columns
    }
    label = columns["label"]
    return ClipBatch.of(inputs, len(label), culture=columns["culture"], label=label, cached=cached or None)
