"""Temporal sampling: which frames of a clip or window a model sees."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Strategy = Literal["uniform", "segment", "consecutive"]
Padding = Literal["repeat_last", "repeat_first", "loop", "mirror", "stretch", "error"]


class Sampling(BaseModel):
    """How `frames` frames are chosen from a clip. JSON: stored with every clip store and bundle.

    Strategies, with T = `frames`:

    * ``uniform``: the middle frame of each of T equal parts (CA-FER, section II, "Uniform temporal sampling").
    * ``segment``: T / `per_segment` equal segments, `per_segment` consecutive frames from each. Former-DFER takes
      8 segments of 2 frames, DFER-CLIP 16 of 1. A generator places them at random within their segment, as both train;
      without one they lie in the middle.
    * ``consecutive``: T frames, `stride` apart, from anywhere in the clip (with a generator) or from its middle.

    Tests run without a generator: M3DFEL's released code draws at random for its test frames too, and its users do not
    reach its figures.

    Paddings, for a clip that has fewer frames than the strategy needs. 10% of FERV39k's clips have fewer than 16, so a
    comparison of two models must name the padding as well:

    * ``repeat_last``: the face stays as it ends. The default.
    * ``repeat_first``: the first frame again, after the last. DFER-CLIP did so at first and gave it up (its first pull
      request): the face jumps back to its start. Only for repeating such figures.
    * ``loop``: start again from the first frame: the same jump, and an expression that rises twice.
    * ``mirror``: play backwards, then forwards again: no jump, but the offset of the expression is made up.
    * ``stretch``: every frame about equally often, in order: slow motion, no made-up movement. DFEW's 16-frame release
      is stretched too, by interpolation; a model trained on one of them should not be tested on the other.
    * ``error``: refuse the clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(default=16, ge=1, le=1024)
    strategy: Strategy = "uniform"
    per_segment: int = Field(default=1, ge=1)
    stride: int = Field(default=1, ge=1)
    padding: Padding = "repeat_last"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.frames % self.per_segment:
            raise ValueError(f"{self.frames} frames cannot be cut into segments of {self.per_segment}")
        if self.per_segment > 1 and self.strategy != "segment":
            raise ValueError(f"per_segment belongs to the strategy segment, not to {self.strategy}")
        if self.stride > 1 and self.strategy != "consecutive":
            raise ValueError(f"stride belongs to the strategy consecutive, not to {self.strategy}")
        return self

    def indices(self, available: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Positions int64 [frames] within a clip of `available` frames.

        Ascending, except where the padding goes back. Raises ValueError for an empty clip, and for a short one when
        the padding is ``error``.
        """
        if available < 1:
            raise ValueError(f"cannot sample {self.frames} frames from {available}")
        if self.strategy == "consecutive":
            return self._consecutive(available, rng)
        if available < self.frames:
            return self._padded(np.arange(available))
        if self.strategy == "segment":
            return self._segments(available, rng)
        return uniform_indices(available, self.frames)

    def _segments(self, available: int, rng: np.random.Generator | None) -> np.ndarray:
        segments = self.frames // self.per_segment
        edges = np.arange(segments + 1) * available // segments
        free = np.diff(edges) - self.per_segment
        offsets = free // 2 if rng is None else rng.integers(0, free + 1)
        return ((edges[:-1] + offsets)[:, None] + np.arange(self.per_segment)).ravel().astype(np.int64)

    def _consecutive(self, available: int, rng: np.random.Generator | None) -> np.ndarray:
        free = available - ((self.frames - 1) * self.stride + 1)
        if free < 0:
            return self._padded(np.arange(0, available, self.stride))
        start = free // 2 if rng is None else int(rng.integers(0, free + 1))
        return start + self.stride * np.arange(self.frames)

    def _padded(self, taken: np.ndarray) -> np.ndarray:
        there, places = len(taken), np.arange(self.frames)
        if there == self.frames:
            return taken
        if self.padding == "error":
            raise ValueError(f"{there} frames to take where {self.frames} are needed; choose a padding")
        if self.padding == "loop":
            return taken[places % there]
        if self.padding == "mirror":
            back = places % max(2 * there - 2, 1)
            return taken[np.minimum(back, 2 * there - 2 - back)]
        if self.padding == "stretch":
            return taken[places * there // self.frames]
        filler = 0 if self.padding == "repeat_first" else there - 1
        return taken[np.where(places < there, places, filler)]


def uniform_indices(available: int, wanted: int) -> np.ndarray:
    """Indices int64 [wanted] of frames spread uniformly over `available` frames (CA-FER section II.A).

    The clip is cut into `wanted` equal parts and the middle frame of each is taken, so the choice is
    deterministic and symmetric. A clip shorter than `wanted` is taken whole and its last frame repeated:
    repeating the first one instead shows a model a face that jumps back to its start.

    Raises ValueError when either number is below one.
    """
    if available < 1 or wanted < 1:
        raise ValueError(f"cannot sample {wanted} frames from {available}")
    if available < wanted:
        return np.minimum(np.arange(wanted), available - 1)
    return np.floor((np.arange(wanted) + 0.5) * available / wanted).astype(np.int64)
