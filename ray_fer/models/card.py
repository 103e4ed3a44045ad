"""What is known of a model beside its code: its paper, how faithful it is, its input, presets and published figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ray_fer.models.batch import ClipBatch, InputName, ModelOutput


@dataclass(frozen=True)
class Input:
    """What a model reads: `frames` of `size` x `size` pixels."""

    frames: int
    size: int


@dataclass(frozen=True)
class Published:
    """Figures that somebody printed for one configuration of a model or of its backbone."""

    what: str
    """Such as "ViViT-B/16x2 FE, Kinetics-400"."""
    source: str
    """Where they are printed."""
    input: Input
    parameters: float | None = None
    """Millions."""
    gmacs: float | None = None
    """1e9 multiply-adds of one clip, which papers print as GFLOPs."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the model for which they were printed."""
    build: Callable[[], nn.Module] | None = None
    """What they were printed for where that is not the model itself; takes a `ClipBatch`."""
    reason: str = ""
    """Why ours differ, where they do by more than 2 %."""


@dataclass(frozen=True)
class Card:
    """Beside every model's class, as `card`."""

    title: str
    """The name that tables give it."""
    paper: str
    """Authors, title, venue and year."""
    status: Literal["faithful", "reconstructed"]
    """faithful: as its paper and code say. reconstructed: parts of it are published nowhere, and are ours."""
    input: Input
    tiny: Mapping[str, Any]
    """Arguments of the preset "tiny": the same architecture, small enough to be trained on a CPU in seconds."""
    tiny_input: Input
    published: tuple[Published, ...] = ()
    weights: tuple[str, ...] = ()
    """Public weights that `load_pretrained` reads from a local file: what they are, and where they come from."""


class Model(nn.Module):
    """What every model is: `create(name)` makes it, one training loop trains it."""

    card: ClassVar[Card]

    def forward(self, batch: ClipBatch) -> ModelOutput:
        """Logits and features of each clip."""
        raise NotImplementedError

    def balance(self, losses: dict[str, Tensor]) -> Tensor:
        """The objective: scalar losses by name -> scalar. "classification" is the training loop's, the others are those
        of `ModelOutput`; their sum, unless a model weights them otherwise.
        """
        return reduce(torch.add, losses.values())

    @property
    def measures(self) -> bool:
        """Whether `balance` depends on its own gradient, which training then computes twice for each batch: before it
        has told the norm with `measured`, and after.
        """
        return False

    def measured(self, gradient_norm: Tensor | None) -> None:
        """Told the L2 norm of the batch's gradient, before it is clipped, and None when the next batch begins.

        It is a whole batch's, over all workers: the same scalar on each of them.
        """

    def frozen(self, batch: ClipBatch) -> dict[str, Tensor]:
        """What depends on a clip's pixels and on frozen weights alone: float32 [B,...] by name, to be kept on disk.

        Given back as `ClipBatch.cached` it takes the place of pixels. Empty for models that freeze nothing.
        """
        return {}

    def frozen_weights(self) -> dict[str, Tensor]:
        """What `frozen` depends on beside pixels: with other weights, what it gave is of no use."""
        return {}

    def trunks(self) -> dict[str, nn.Module]:
        """The networks that look at a clip, by name: one, unless streams of their own are brought together late.

        The first is the one that sees the motion. What shows where a model looked shows it of that one.
        """
        return {"whole": self}

    @classmethod
    def reads(cls, config: Mapping[str, Any]) -> tuple[InputName, ...]:
        """What a model of these arguments needs of a clip."""
        return ("frames",)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Public weights under this model's names and in its shapes, without what it has no place for.

        `state` is a checkpoint's own. Raises ValueError for weights of something else.
        """
        raise ValueError(f"no public weights of {self.card.title} are known")
