"""What one SynthFER clip is to be: the recipe that planning writes and rendering reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ray_fer.datasets.synthfer.geometry import FRAME
from ray_fer.datasets.synthfer.identities import Subject
from ray_fer.datasets.synthfer.micro_rules import MICRO_GROUPS, micro_display
from ray_fer.datasets.synthfer.rules import Display, display
from ray_fer.labels import SYNTHETIC_CULTURES

PRESETS = ("balanced", "gccfer", "micro", "scene")

FPS = 10
SECONDS = 5.0
"""GCC-FER's clips last five seconds; so do these."""

MICRO_FPS = 200
SCENE_SIZE = (384, 216)
"""Width and height of a frame of preset `scene`."""

MICRO_LABELS = {
    "Happy": "Positive", "Surprise": "Surprise",
    "Angry": "Negative", "Disgust": "Negative", "Fear": "Negative", "Sad": "Negative",
}  # fmt: skip
"""Label of a micro-expression by its emotion; a clip of this preset is never Neutral."""

POLARITIES = ("positive", "neutral", "negative")
"""What a scene suggests."""


def groups_of(preset: str) -> tuple[str, ...]:
    """The groups that the people of a preset belong to."""
    return MICRO_GROUPS if preset == "micro" else SYNTHETIC_CULTURES


def rules_of(preset: str) -> Callable[[str, str, float], Display]:
    """How a group shows an expression at a strength."""
    return micro_display if preset == "micro" else display


@dataclass(frozen=True)
class ClipSpec:
    """One clip: who, which expressions (several in turn make a labelled stream), and the seed of all its chances.

    `polarity` is that of the scene around the face (preset `scene` only); `occlusion` is the probability that
    something hides a part of the face.
    """

    clip_id: str
    subject: Subject
    culture: str
    expressions: tuple[str, ...]
    seed: int
    preset: str = "balanced"
    strength: float = 0.5
    fps: int = FPS
    seconds: float = SECONDS
    polarity: str | None = None
    occlusion: float = 0.0

    @property
    def label(self) -> str | None:
        """Class name of the clip; None for a stream of several expressions."""
        if len(self.expressions) != 1:
            return None
        (expression,) = self.expressions
        return MICRO_LABELS[expression] if self.preset == "micro" else expression

    @property
    def part_frames(self) -> int:
        """Frames of one expression."""
        return round(self.fps * self.seconds)

    @property
    def frames(self) -> int:
        """Frames of the whole clip."""
        return self.part_frames * len(self.expressions)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return SCENE_SIZE if self.preset == "scene" else (FRAME, FRAME)
