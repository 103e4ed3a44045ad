"""AU intensities of every frame of a clip: onset, apex and release of its expressions, and what a face does anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_fer.datasets.synthfer.geometry import smoothstep
from ray_fer.datasets.synthfer.rules import Display
from ray_fer.datasets.synthfer.specs import ClipSpec, rules_of
from ray_fer.labels import AU_NAMES

MAX_AU = 1.3
"""No side of a face moves further than this; beyond it the photograph would tear."""

_BLINK = AU_NAMES.index("AU43")


@dataclass(frozen=True)
class Part:
    """One expression of a clip. Frames count from the clip's first: first movement, maximum, last movement.

    All three are None for Neutral, which moves nothing; `offset` is None when the expression is held to the end.
    """

    expression: str
    onset: int | None
    apex: int | None
    offset: int | None
    peak: np.ndarray
    """float32 [20], mean of both sides at the apex of the expression, without accent, blinks and idle movement."""


@dataclass(frozen=True)
class Trajectory:
    """AU intensities (0..1, up to MAX_AU for strong displays) of the left and the right side, float32 [N,20] each."""

    left: np.ndarray
    right: np.ndarray
    parts: tuple[Part, ...]

    @property
    def mean(self) -> np.ndarray:
        """Mean of both sides, float32 [N,20]."""
        return (self.left + self.right) / 2


def trajectory(spec: ClipSpec) -> Trajectory:
    """The planted AUs of one clip; the same spec gives the same numbers."""
    rng = np.random.default_rng([spec.seed, 1])
    shown_by = rules_of(spec.preset)
    draw = _draw_micro if spec.preset == "micro" else _draw_macro
    lefts, rights, parts = [], [], []
    for position, expression in enumerate(spec.expressions):
        shown = shown_by(expression, spec.culture, spec.strength)
        peak, curve, rest = draw(spec, shown, rng)
        # Kept below the limit of either side, so that what is written down is what is drawn.
        peak = np.minimum(peak, np.maximum(MAX_AU / (1 + abs(shown.asymmetry)) - shown.accent, 0))
        moved = peak * curve[:, None] + shown.accent
        lefts.append(moved * (1 + shown.asymmetry) + rest)
        rights.append(moved * (1 - shown.asymmetry) + rest)
        parts.append(_part(expression, position * spec.part_frames, peak, curve))
    left, right = (np.clip(np.concatenate(sides), 0, MAX_AU).astype(np.float32) for sides in (lefts, rights))
    return Trajectory(left, right, tuple(parts))


def _part(expression: str, start: int, peak: np.ndarray, curve: np.ndarray) -> Part:
    moving = np.flatnonzero(curve > 1e-3)
    if not peak.any() or not len(moving):
        return Part(expression, None, None, None, peak)
    first, last = int(moving[0]), int(moving[-1])
    offset = None if last == len(curve) - 1 else start + last
    return Part(expression, start + first, start + int(np.argmax(curve)), offset, peak)


def _draw_macro(spec: ClipSpec, shown: Display, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Peak AUs [20], share of the peak [N], and idle AUs [N,20]: neutral, smooth onset, hold, sometimes a release."""
    times = np.arange(spec.part_frames) / spec.fps
    peak = shown.pattern * rng.uniform(0.75, 1.15) * rng.uniform(0.8, 1.2, len(AU_NAMES))
    onset = rng.uniform(0.5, 1.2) + shown.delay
    rise = rng.uniform(0.35, 0.8) * shown.rise
    curve = smoothstep((times - onset) / rise)
    # Held faces tire a little, which also makes the apex one frame and not a plateau.
    curve *= 1 - 0.08 * smoothstep((times - onset - rise) / spec.seconds)
    if rng.random() < 0.4:
        curve *= 1 - smoothstep((times - rng.uniform(3.2, 4.2)) / rng.uniform(0.4, 0.7))
    idle = np.zeros((spec.part_frames, len(AU_NAMES)))
    for _ in range(rng.poisson(1.0)):
        at = int(rng.integers(0, spec.part_frames))
        idle[at : at + max(1, round(0.2 * spec.fps)), _BLINK] = rng.uniform(0.7, 1.0)
    for au in rng.choice(len(AU_NAMES) - 1, 3, replace=False):
        wave = np.sin(2 * np.pi * (rng.uniform(0.05, 0.3) * times + rng.random()))
        idle[:, au] += rng.uniform(0, 0.12) * np.clip(wave, 0, None)
    return peak.astype(np.float32), curve, idle


def _draw_micro(spec: ClipSpec, shown: Display, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_draw_macro`, but weak and quick: up and down again within the clip, a margin of stillness at both ends."""
    count = spec.part_frames
    peak = shown.pattern * rng.uniform(0.15, 0.4) * rng.uniform(0.85, 1.15, len(AU_NAMES))
    margin = 0.12 * count
    first, last = margin * rng.uniform(0.6, 1.2), count - 1 - margin * rng.uniform(0.6, 1.2)
    share = np.clip(rng.uniform(0.3, 0.5) * (1 + 0.3 * (shown.rise - 1)) + 0.15 * shown.delay, 0.2, 0.7)
    apex = first + (last - first) * share
    frames = np.arange(count)
    curve = smoothstep((frames - first) / (apex - first)) * smoothstep((last - frames) / (last - apex))
    idle = np.zeros((count, len(AU_NAMES)))
    return peak.astype(np.float32), curve, idle
