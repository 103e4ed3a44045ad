"""From "so many clips of this preset" to one recipe per clip: expressions, groups, subjects and splits in balance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ray_fer.datasets.synthfer.identities import Subject, make_subjects
from ray_fer.datasets.synthfer.photos import SPLITS, folder_splits, load_photos, packaged_splits
from ray_fer.datasets.synthfer.rules import check_strength
from ray_fer.datasets.synthfer.specs import (
    FPS,
    MICRO_FPS,
    MICRO_LABELS,
    POLARITIES,
    PRESETS,
    SECONDS,
    ClipSpec,
    groups_of,
)
from ray_fer.labels import EXPRESSIONS, SYNTHETIC_CULTURES, index_of

GCCFER_COUNTS: tuple[tuple[int, ...], ...] = (
    (1041, 299, 597, 1206, 986, 881, 791),
    (747, 257, 481, 890, 630, 908, 643),
    (844, 285, 303, 1288, 2326, 1109, 471),
    (828, 437, 255, 2040, 1977, 1163, 251),
)
"""Table II of the CA-FER paper: one row per group in the table's order, one column per expression.

Groups A to D take over the sizes of the rows and nothing else.
"""

_POLARITY = {"Happy": "positive", "Neutral": "neutral", "Surprise": "neutral"}  # the others are negative


@dataclass(frozen=True)
class SynthOptions:
    """What to plan. Raises ValueError for values that cannot work.

    `strength` doses the groups' display rules (see `rules`), `occlusion` is the share of clips with a part of the
    face hidden, `scene_agreement` the share of scenes whose polarity is that of the label, `faces` a folder of
    photographs to use instead of the packaged ones.
    """

    preset: str = "balanced"
    seed: int = 42
    strength: float = 0.5
    occlusion: float = 0.0
    scene_agreement: float = 0.9
    faces: Path | None = None

    def __post_init__(self) -> None:
        index_of(self.preset, PRESETS, "preset")
        check_strength(self.strength)
        for name, share in (("occlusion", self.occlusion), ("scene agreement", self.scene_agreement)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} {share:g} is not a share between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative; give 0 or more")

    def as_json(self) -> dict[str, object]:
        """Plain values, for ``truth.json``."""
        return asdict(self) | {"faces": None if self.faces is None else str(self.faces)}

    def photos(self) -> dict[str, tuple[str, ...]]:
        """Names of the photographs of each split."""
        return packaged_splits() if self.faces is None else folder_splits(self.faces)[0]


def split_counts(clips: int, val_share: float, test_share: float) -> dict[str, int]:
    """Clips of each split. Raises ValueError when `clips` is below one or the shares leave nothing to train on."""
    if clips < 1:
        raise ValueError(f"cannot make {clips} clips; ask for at least 1")
    if not (val_share >= 0 and test_share >= 0 and val_share + test_share < 1):  # so written, NaN is refused too
        raise ValueError(f"shares of {val_share:g} for val and {test_share:g} for test leave nothing for training")
    shares = np.array([1 - val_share - test_share, val_share, test_share])
    counts = dict(zip(SPLITS, apportion(shares, clips).tolist(), strict=True))
    if counts["train"] < 1:
        raise ValueError(f"shares of {val_share:g} and {test_share:g} of {clips} clips leave nothing for training")
    return counts


def plan(counts: Mapping[str, int], options: SynthOptions | None = None) -> list[ClipSpec]:
    """Recipes of so many clips per split ("train", "val", "test"), those of each split in random order.

    Every subject belongs to one split and one group, and shows all expressions in turn. Raises ValueError for an
    unknown split or when no clip is asked for.
    """
    options = options or SynthOptions()
    for split in counts:
        index_of(split, SPLITS, "split")
    if sum(counts.values()) < 1 or min(counts.values()) < 0:
        raise ValueError(f"cannot make {min(counts.values(), default=0)} clips; ask for at least 1")
    return [spec for split in SPLITS if counts.get(split) for spec in _plan_split(counts[split], split, options)]


def plan_streams(streams: int, seed: int) -> list[ClipSpec]:
    """Labelled streams: a held-out subject shows all seven expressions, five seconds each, shuffled."""
    rng = np.random.default_rng([seed, 7])
    subjects = make_subjects("test", 4 * streams, load_photos(packaged_splits()["test"]), seed)
    specs = []
    for number in range(streams):
        group = (number + number // 4) % 4
        expressions = tuple(rng.permutation(EXPRESSIONS).tolist())
        specs.append(
            ClipSpec(
                f"synth-{number + 1}", subjects[4 * number + group], SYNTHETIC_CULTURES[group], expressions,
                int(rng.integers(2**31)),
            )
        )  # fmt: skip
    return specs


def apportion(weights: np.ndarray, total: int) -> np.ndarray:
    """Split `total` in proportion to `weights` into whole numbers of the same shape, by largest remainder."""
    exact = weights / weights.sum() * total
    shares = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - shares), axis=None, kind="stable")
    shares.flat[order[: total - int(shares.sum())]] += 1
    return shares


def subjects_for(split: str, clips: int, options: SynthOptions) -> list[Subject]:
    """The subjects of one split: of n groups, those of group g at positions g, g+n, g+2n and so on.

    About seven clips for each and at least four in every group; of micro-expressions eight clips for each, and more
    once there are as many subjects as in CASME II and SAMM (54: EthnicMER, Table I).
    """
    groups = len(groups_of(options.preset))
    per_group = np.clip(-(-clips // 28), 4, 24) if options.preset != "micro" else np.clip(round(clips / 16), 1, 27)
    return make_subjects(split, groups * int(per_group), load_photos(options.photos()[split]), options.seed, groups)


def _plan_split(clips: int, split: str, options: SynthOptions) -> list[ClipSpec]:
    rng = np.random.default_rng([options.seed, SPLITS.index(split)])
    subjects = subjects_for(split, clips, options)
    groups = groups_of(options.preset)
    faces = len(subjects) // len(groups)  # one subject of each group has the same photographs
    cells = _cells(clips, options.preset, rng)
    specs = []
    for number, expression in enumerate(EXPRESSIONS):
        # Each expression goes round all faces, over the groups, so that none is tied to a photograph; the start moves
        # on, so that all subjects have alike many clips.
        face = round(number * faces / len(EXPRESSIONS))
        for group, count in enumerate(cells[:, number].tolist()):
            for _ in range(count):
                subject = subjects[len(groups) * (face % faces) + group]
                specs.append(_spec(subject, groups[group], expression, options, rng))
                face += 1
    order = rng.permutation(len(specs))
    return [replace(specs[at], clip_id=f"synth_{split}_{number:05d}") for number, at in enumerate(order)]


def _cells(clips: int, preset: str, rng: np.random.Generator) -> np.ndarray:
    """Clips of each group and expression, int [groups,7]."""
    if preset == "gccfer":
        return apportion(np.array(GCCFER_COUNTS), clips)
    allowed = [number for number, e in enumerate(EXPRESSIONS) if preset != "micro" or e in MICRO_LABELS]
    groups = len(groups_of(preset))
    expressions, order = rng.permutation(allowed), rng.permutation(groups)
    cells = np.zeros((groups, len(EXPRESSIONS)), int)
    turn = math.lcm(len(expressions), groups)
    for number in range(clips % (groups * len(expressions))):  # diagonals: no row or column gets two more than another
        cells[order[(number + number // turn) % groups], expressions[number % len(expressions)]] += 1
    cells[:, allowed] += clips // (groups * len(expressions))
    return cells


def _spec(subject: Subject, culture: str, expression: str, options: SynthOptions, rng: np.random.Generator) -> ClipSpec:
    micro = options.preset == "micro"
    seconds = round(float(rng.uniform(0.3, 0.8)), 3) if micro else SECONDS
    polarity = None
    if options.preset == "scene":
        polarity = _POLARITY.get(expression, "negative")
        if rng.random() >= options.scene_agreement:
            polarity = str(rng.choice([other for other in POLARITIES if other != polarity]))
    return ClipSpec(
        "", subject, culture, (expression,), int(rng.integers(2**31)), options.preset, options.strength,
        MICRO_FPS if micro else FPS, seconds, polarity, options.occlusion,
    )  # fmt: skip
