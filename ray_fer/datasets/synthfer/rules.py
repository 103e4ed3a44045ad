"""What a face does for an expression, and how the four groups differ in it: the planted truth of SynthFER.

The prototypes are the usual EMFACS combinations. On top of them every group has *display rules* of two kinds, dosed
by one `strength` s in 0..1:

* s from 0 to 0.5 brings in **style**: AU gains, asymmetry, timing and a resting accent, at amplitude 2 s. At 0 the
  groups differ in nothing.
* s from 0.5 to 1 brings in **meaning**, at r = 2 s - 1: six expressions form two triples, and a group shows
  ``(1 - r) P_i + r P_(i+k)`` for the i-th of a triple, where k is the group's rotation of it. At 1 every one of these
  patterns means different expressions in different groups. Style fades with 1 - r, or it would tell the group.

A model that does not know the group cannot do better than `agnostic_ceiling_uar`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES, index_of

PROTOTYPES: dict[str, dict[str, float]] = {
    "Angry": {"AU04": 1.0, "AU05": 0.3, "AU07": 0.8, "AU23": 0.9, "AU24": 0.9},
    "Disgust": {"AU09": 1.0, "AU10": 0.9, "AU15": 0.4, "AU17": 0.7},
    "Fear": {"AU01": 0.9, "AU02": 0.5, "AU04": 0.6, "AU05": 0.9, "AU20": 1.0, "AU25": 0.5},
    "Happy": {"AU06": 0.8, "AU12": 1.0, "AU25": 0.4},
    "Neutral": {},
    "Sad": {"AU01": 0.9, "AU04": 0.7, "AU15": 1.0, "AU17": 0.6},
    "Surprise": {"AU01": 0.9, "AU02": 0.9, "AU05": 0.7, "AU25": 0.8, "AU26": 1.0},
}
"""Peak intensities (0..1) of each expression, before any group's rules."""

TRIPLES: tuple[tuple[str, str, str], ...] = (("Angry", "Happy", "Fear"), ("Disgust", "Surprise", "Sad"))
"""Expressions that trade their patterns at strength 1; within a triple no two patterns resemble each other."""

_UPPER = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU43")


@dataclass(frozen=True)
class DisplayRules:
    """One group's rules at full strength.

    Gains multiply AUs (`gains` wins over `upper` and `lower`). `asymmetry` is (left - right) / (left + right) of all
    movement. `delay` in seconds and `rise` as a factor change the onset. `accent` holds AUs that are always there.
    `rotation` has one number of steps per triple.
    """

    upper: float = 1.0
    lower: float = 1.0
    gains: Mapping[str, float] | None = None
    asymmetry: float = 0.0
    delay: float = 0.0
    rise: float = 1.0
    accent: Mapping[str, float] | None = None
    rotation: tuple[int, int] = (0, 0)

    def gain_vector(self) -> np.ndarray:
        """Gain of each AU, float32 [20]."""
        own = self.gains or {}
        return np.array([own.get(au, self.upper if au in _UPPER else self.lower) for au in AU_NAMES], np.float32)

    def accent_vector(self) -> np.ndarray:
        """Resting intensity of each AU, float32 [20]."""
        return np.array([(self.accent or {}).get(au, 0.0) for au in AU_NAMES], np.float32)


DISPLAY_RULES: dict[str, DisplayRules] = {
    "A": DisplayRules(gains={"AU06": 1.25, "AU09": 1.2}, asymmetry=0.0, rotation=(0, 0)),
    "B": DisplayRules(
        upper=1.2, lower=0.75, gains={"AU04": 1.35}, asymmetry=0.2, delay=0.3, rise=0.6,
        accent={"AU02": 0.12}, rotation=(1, 2),
    ),
    "C": DisplayRules(
        upper=0.7, lower=1.2, gains={"AU12": 1.3, "AU25": 1.35}, asymmetry=-0.2, delay=-0.2, rise=1.6,
        accent={"AU14": 0.2}, rotation=(2, 1),
    ),
    "D": DisplayRules(
        upper=0.85, lower=0.85, gains={"AU02": 1.3, "AU15": 1.25}, asymmetry=0.1, delay=0.6, rise=1.2,
        accent={"AU17": 0.15, "AU43": 0.1}, rotation=(0, 1),
    ),
}  # fmt: skip
"""The groups' rules. They were made up and stand for nobody."""


@dataclass(frozen=True)
class Display:
    """How one group shows one expression at one strength, before the chance of a single clip.

    `pattern` float32 [20] peak AUs of the expression, `accent` float32 [20] AUs at rest, `asymmetry` in -1..1 as in
    `DisplayRules`, `delay` in seconds, `rise` as a factor.
    """

    pattern: np.ndarray
    accent: np.ndarray
    asymmetry: float
    delay: float
    rise: float


def check_strength(strength: float) -> None:
    """Raises ValueError when `strength` is not in 0..1."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength:g} is not between 0 (groups alike) and 1 (groups mean different things)")


def prototype(expression: str) -> np.ndarray:
    """Peak AUs float32 [20] of an expression before any group's rules; raises ValueError for an unknown one."""
    index_of(expression, EXPRESSIONS, "expression")
    pattern = PROTOTYPES[expression]
    return np.array([pattern.get(au, 0.0) for au in AU_NAMES], np.float32)


def display(expression: str, culture: str, strength: float) -> Display:
    """How `culture` shows `expression` at `strength`. Raises ValueError for unknown names or a strength beyond 0..1."""
    index_of(culture, SYNTHETIC_CULTURES, "SynthFER culture")
    check_strength(strength)
    rules = DISPLAY_RULES[culture]
    style, meaning = min(2 * strength, 1.0), max(2 * strength - 1, 0.0)
    borrowed = shown_as(expression, culture)
    pattern = (1 - meaning) * prototype(expression) + meaning * prototype(borrowed)
    style *= 1 - meaning
    return Display(
        pattern * rules.gain_vector() ** np.float32(style), rules.accent_vector() * np.float32(style),
        rules.asymmetry * style, rules.delay * style, rules.rise**style,
    )  # fmt: skip


def shown_as(expression: str, culture: str) -> str:
    """The expression whose prototype `culture` shows for `expression` at strength 1."""
    for triple, steps in zip(TRIPLES, DISPLAY_RULES[culture].rotation, strict=True):
        if expression in triple:
            return triple[(triple.index(expression) + steps) % len(triple)]
    return expression


@dataclass(frozen=True)
class Cell:
    """Clips that a model without the group can tell apart by nothing but chance: `context` is what else they show."""

    label: str
    expression: str
    culture: str
    context: str | None = None


def agnostic_ceiling_uar(
    counts: Mapping[Cell, int], strength: float, shown_by: Callable[[str, str, float], Display] = display
) -> float:
    """Highest unweighted average recall that a model can reach without knowing the group, in 0..1.

    `shown_by` are the rules: (expression, group, strength) to what is shown.

    A look (pattern and context) that several cells share is best given to the label whose recall gains most:
    UAR = 1/L sum over looks of max over l of the share of l's clips that look so. Below strength 1 all patterns still
    differ, and 1.0 is an upper bound that the chance of single clips may not let reach.
    """
    totals: dict[str, int] = {}
    for cell, count in counts.items():
        totals[cell.label] = totals.get(cell.label, 0) + count
    shares: dict[tuple[object, ...], dict[str, Fraction]] = {}
    for cell, count in counts.items():
        if count == 0:
            continue
        shown = shown_by(cell.expression, cell.culture, strength)
        look = (
            *shown.pattern.round(6).tolist(), *shown.accent.round(6).tolist(), shown.asymmetry, shown.delay,
            cell.context,
        )  # fmt: skip
        alike = shares.setdefault(look, {})
        alike[cell.label] = alike.get(cell.label, Fraction(0)) + Fraction(count, totals[cell.label])
    return float(sum(max(alike.values()) for alike in shares.values()) / sum(1 for total in totals.values() if total))
