"""EthnicMER's prima facie study (III.B and IV.A, Table IV): is one group told better alone than mixed with another?

As many subjects are drawn from one group, from the other, and half of them from each. Within each of the three, every
subject is left out once, and a random forest on features that were not trained for it tells negative expressions from
others. The paper draws once. Here subjects are drawn many times, so that what a draw decides can be seen.

An interval is over draws, of the same people: with 17 subjects, 16 of them are nearly the same every time. It says how
much a draw decides, and not how sure the figures are of other people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

MIXED = "Mixed"
FIGURES = ("Negative", "Non-negative", "Average")
"""F1 of each class, pooled over subjects, and their mean: the columns of Table IV."""
SUBJECTS, TREES, LEVEL = 16, 100, 0.95


@dataclass(frozen=True)
class Material:
    """N clips: `features` float32 [N,D], whether each is `negative` bool [N], its subject and the subject's group."""

    features: np.ndarray
    negative: np.ndarray
    subjects: list[str]
    groups: list[str]

    def members(self) -> dict[str, list[str]]:
        """Subjects of both groups, by name. Raises ValueError for other than two, or a subject of both."""
        owner: dict[str, str] = {}
        for subject, group in zip(self.subjects, self.groups, strict=True):
            if owner.setdefault(subject, group) != group:
                raise ValueError(f"subject {subject} has clips in groups {owner[subject]} and {group}; give it one")
        names = sorted(set(self.groups))
        if len(names) != 2:
            raise ValueError(f"the study compares two groups, and these clips are of {', '.join(names) or 'none'}")
        return {name: sorted(subject for subject, group in owner.items() if group == name) for name in names}


def check_size(material: Material, count: int) -> None:
    """Raise ValueError when `count` subjects cannot be drawn from each group, or cannot be halved."""
    if count < 4 or count % 2:
        raise ValueError(
            f"{count} subjects cannot be halved between two groups and left out one by one; give 4, 6, ..."
        )
    for name, subjects in material.members().items():
        if len(subjects) < count:
            raise ValueError(f"{name} has {len(subjects)} subjects, which is fewer than {count}; draw fewer")


def draw_subjects(material: Material, count: int, seed: int) -> dict[str, list[str]]:
    """The subjects of one draw: `count` of each group by its name, and half of them from each as `MIXED`."""
    rng = np.random.default_rng(seed)
    members = material.members()
    drawn = {name: sorted(rng.choice(subjects, count, replace=False)) for name, subjects in members.items()}
    drawn[MIXED] = sorted(
        one for subjects in members.values() for one in rng.choice(subjects, count // 2, replace=False)
    )
    return drawn


def left_out_figures(material: Material, subjects: Sequence[str], seed: int, trees: int = TREES) -> list[float]:
    """`FIGURES` of a random forest that answers each of the `subjects` after it has seen the others."""
    owners = np.array(material.subjects)
    own = np.isin(owners, list(subjects))
    features, negative, owners = material.features[own], material.negative[own], owners[own]
    predicted = np.zeros(len(negative), bool)
    for subject in subjects:
        test = owners == subject
        forest = RandomForestClassifier(trees, random_state=seed)
        predicted[test] = forest.fit(features[~test], negative[~test]).predict(features[test])
    by_class = [float(f1_score(negative, predicted, pos_label=one, zero_division=0)) for one in (True, False)]
    return [*by_class, float(np.mean(by_class))]


def one_draw(material: Material, count: int, seed: int, trees: int = TREES) -> dict[str, list[float]]:
    """`FIGURES` of one draw, by group and `MIXED`."""
    drawn = draw_subjects(material, count, seed)
    return {name: left_out_figures(material, subjects, seed, trees) for name, subjects in drawn.items()}


def summarised(draws: Sequence[dict[str, list[float]]], level: float = LEVEL) -> dict[str, Any]:
    """Mean and percentile interval of each figure over draws, by row; and how the mixed row stands to the others.

    `below` is the share of draws in which the mixed average is below both groups' own, `difference` the mixed average
    less the mean of theirs.
    """
    rows = {name: np.array([draw[name] for draw in draws]) for name in draws[0]}
    average = {name: values[:, FIGURES.index("Average")] for name, values in rows.items()}
    own = np.stack([values for name, values in average.items() if name != MIXED])
    return {
        "draws": len(draws),
        "rows": {
            name: {figure: _over_draws(values[:, place], level) for place, figure in enumerate(FIGURES)}
            for name, values in rows.items()
        },
        "below": float((average[MIXED] < own.min(axis=0)).mean()),
        "difference": _over_draws(average[MIXED] - own.mean(axis=0), level),
        "level": level,
    }


def _over_draws(values: np.ndarray, level: float) -> dict[str, Any]:
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return {"mean": float(values.mean()), "interval": [float(low), float(high)], "values": values.tolist()}
