"""Ethnic groups: which ones a study distinguishes, and what the estimators' categories mean in them.

Two studies are known by name:

* **gcc-fer** (CA-FER paper, section II.B.1): African, Caucasian, East Asian, South Asian.
* **ethnicmer** (EthnicMER paper, Tables I and II): five categories of FaceXFormer, joined to Asian and Non-Asian.

| category (EthnicMER) | group | subjects (Table I) | clips (Table II) |
|---|---|---|---|
| Caucasian | Non-Asian | 15 | 88 |
| African | Non-Asian | 2 | 4 |
| Asian | Asian | 31 | 183 |
| Indian | Asian | 2 | 5 |
| Others | Asian | 4 | 11 |

"Others" are Asian by the authors' own look at those clips ("manual heuristic assessment"), not by any rule that would
hold elsewhere. The paper's counts do not agree with each other: Table II sums to 291 clips and Table III (the same
clips by emotion) to 290; Table I sums to 54 subjects, while the joint table that was released has 53.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray_fer.labels import CULTURES

ETHNICMER_GROUPS: dict[str, str] = {
    "Caucasian": "Non-Asian",
    "African": "Non-Asian",
    "Asian": "Asian",
    "Indian": "Asian",
    "Others": "Asian",
}
"""EthnicMER's five categories and the group that each was joined to (Tables I and II)."""

ETHNICMER_RACE_CODES: dict[str, str] = {
    "0": "Caucasian", "1": "African", "2": "Asian", "3": "Indian", "4": "Others", "White": "Caucasian",
    "Black": "African",
}  # fmt: skip
"""Column Race of EthnicMER's released sheets (UTKFace's codes), as the five categories."""

DEEPFACE_CATEGORIES = ("asian", "indian", "black", "white", "middle eastern", "latino hispanic")
"""DeepFace's six race names, in the order of its model's outputs."""

FACEXFORMER_CATEGORIES = ("White", "Black", "Indian", "Asian", "Others")
"""FaceXFormer's five race outputs, in order, as its authors give them (appendix of their paper, issue 5).

UTKFace, whose codes EthnicMER's released tables use, has Asian at 2 and Indian at 3: the other way round.
"""


@dataclass(frozen=True)
class GroupScheme:
    """The groups of one study: their names, other names for them, and each estimator's categories in them.

    `estimators` maps an estimator's category to a group, or to None where the study has no group for it: such an
    estimate does not vote.
    """

    name: str
    groups: tuple[str, ...]
    synonyms: Mapping[str, str]
    estimators: Mapping[str, Mapping[str, str | None]]

    def resolve(self, text: str) -> str | None:
        """Group that `text` names, without regard to case, outer spaces, ``_`` and ``-``; None when it names none."""
        names = {_plain(name): name for name in self.groups}
        names |= {_plain(name): group for name, group in self.synonyms.items()}
        return names.get(_plain(text))

    def accepted(self) -> str:
        """The names that `resolve` knows, for messages."""
        return ", ".join([*self.groups, *(name for name in self.synonyms if name not in self.groups)])


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").replace("-", " ").casefold().split())


GCC_FER = GroupScheme(
    "gcc-fer",
    CULTURES,
    {},
    {
        "deepface": {
            "asian": "East Asian",
            "indian": "South Asian",
            "black": "African",
            "white": "Caucasian",
            "middle eastern": None,
            "latino hispanic": None,
        },
        "facexformer": {
            "White": "Caucasian",
            "Black": "African",
            "Indian": "South Asian",
            "Asian": "East Asian",
            "Others": None,
        },
    },
)

ETHNICMER = GroupScheme(
    "ethnicmer",
    ("Asian", "Non-Asian"),
    ETHNICMER_GROUPS,
    {
        # DeepFace was not used in that study; its last two names are no category of it.
        "deepface": {
            "asian": ETHNICMER_GROUPS["Asian"],
            "indian": ETHNICMER_GROUPS["Indian"],
            "black": ETHNICMER_GROUPS["African"],
            "white": ETHNICMER_GROUPS["Caucasian"],
            "middle eastern": None,
            "latino hispanic": None,
        },
        "facexformer": {
            "White": ETHNICMER_GROUPS["Caucasian"],
            "Black": ETHNICMER_GROUPS["African"],
            "Indian": ETHNICMER_GROUPS["Indian"],
            "Asian": ETHNICMER_GROUPS["Asian"],
            "Others": ETHNICMER_GROUPS["Others"],
        },
    },
)

SCHEMES: dict[str, GroupScheme] = {scheme.name: scheme for scheme in (GCC_FER, ETHNICMER)}
