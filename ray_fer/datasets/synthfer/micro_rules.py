"""What the two groups of preset `micro` show for an expression: planted after what EthnicMER's authors saw.

In their activation maps (Khor et al. 2025, Figs 3 and 4) one group smiles on one side of the face and shows surprise in
its lower half, the other smiles on both sides and shows surprise in the upper half. That alone does not hinder a model
that knows no groups: every look still means one thing. So two looks are given two meanings. At strength 1

* a one-sided smile is group B's happiness, and group A's mask over anger and disgust;
* brows and lids raised alone are group A's surprise, and group B's fear.

Below 1, patterns and asymmetry lie between these and the prototypes, in proportion; at 0 the groups are alike. Within a
group no look ever means two things. Nothing in the motion tells the group, but the face does: people of the two groups
are painted in different colours of equal brightness.
"""

from __future__ import annotations

import numpy as np

from ray_fer.datasets.synthfer.rules import Display, check_strength, prototype
from ray_fer.labels import AU_NAMES, SYNTHETIC_CULTURES, index_of

MICRO_GROUPS = SYNTHETIC_CULTURES[:2]

PAINT: dict[str, tuple[float, float, float]] = {"A": (-72.0, 43.2, -33.6), "B": (72.0, -43.2, 33.6)}
"""Green and pink: added to red, green and blue (0..255) of a group's faces. Grey values stay (ITU-R BT.601)."""

_BROWS_AND_LIDS = np.isin(AU_NAMES, ("AU01", "AU02", "AU05"))
_MASKED = ("Angry", "Disgust")


def micro_display(expression: str, culture: str, strength: float) -> Display:
    """How `culture`, A or B, shows a micro-expression; asymmetry is above 0 where the person's left moves more.

    Raises ValueError for unknown names or a strength beyond 0..1.
    """
    index_of(culture, MICRO_GROUPS, "group of SynthFER's micro-expressions")
    check_strength(strength)
    pattern, asymmetry = prototype(expression), 0.0
    full = pattern
    if culture == "A" and expression in _MASKED:
        full, asymmetry = prototype("Happy"), strength
    elif culture == "B" and expression == "Happy":
        asymmetry = strength
    elif culture == "B" and expression == "Surprise":
        full = np.where(_BROWS_AND_LIDS, 0, pattern)
    elif expression in ("Surprise", "Fear") and (culture == "A") == (expression == "Surprise"):
        full = np.where(_BROWS_AND_LIDS, prototype("Surprise"), 0)
    shown = ((1 - strength) * pattern + strength * full).astype(np.float32)
    return Display(shown, np.zeros(len(AU_NAMES), np.float32), asymmetry, delay=0.0, rise=1.0)
