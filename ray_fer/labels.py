"""The vocabulary of every other module: expression classes, culture groups and Action Unit names.

Labels travel through the project as **names**, never as integers, because the releases of one dataset
disagree on integers. An index exists only inside a tensor, and is an index into one of these tuples
(or into the class list that a bundle carries).
"""

from __future__ import annotations

EXPRESSIONS: tuple[str, ...] = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
"""The seven basic expressions, in the order of GCC-FER's Table II."""

COMPOUND_EXPRESSIONS: tuple[str, ...] = (*EXPRESSIONS, "Anxiety", "Contempt", "Disappointment", "Helplessness")
"""The eleven single expressions of MAFW; Contempt is also a class of FER+."""

MICRO_EXPRESSIONS: tuple[str, ...] = ("Negative", "Positive", "Surprise")
"""The three classes of composite micro-expression protocols (MEGC 2019, EthnicMER's Table III)."""

MICRO_EMOTIONS: tuple[str, ...] = (
    "Anger", "Contempt", "Disgust", "Fear", "Happiness", "Others", "Repression", "Sadness", "Surprise",
)  # fmt: skip
"""What the coders of CASME II and SAMM wrote down, before any three-class map."""

CULTURES: tuple[str, ...] = ("African", "Caucasian", "East Asian", "South Asian")
"""GCC-FER's four culture groups."""

SYNTHETIC_CULTURES: tuple[str, ...] = ("A", "B", "C", "D")
"""SynthFER's culture groups. They stand for nobody: their display rules are invented and planted."""

UNKNOWN_CULTURE = "Unknown"
"""Stands for a missing culture label; its index is -1 and models answer it with the global prior."""

UNKNOWN_CULTURE_INDEX = -1

AU_NAMES: tuple[str, ...] = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU11", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU24", "AU25", "AU26", "AU28", "AU43",
)  # fmt: skip
"""The twenty Action Units in py-feat's column order (N_a = 20 in the CA-FER paper, equation 1)."""

AU_STATISTICS: tuple[str, ...] = ("mean", "std", "max", "frequency")
"""The four statistics of equation 2; an 80-d vector is statistic-major: 20 means, 20 deviations, ..."""


def au_stat_names() -> list[str]:
    """Names of the 80 columns of `au_stats`, e.g. ``mean_AU01``."""
    return [f"{statistic}_{au}" for statistic in AU_STATISTICS for au in AU_NAMES]


def index_of(name: str, names: tuple[str, ...] | list[str], what: str = "label") -> int:
    """Position of `name` in `names`; raises ValueError that lists what is accepted."""
    try:
        return list(names).index(name)
    except ValueError:
        raise ValueError(f"unknown {what} {name!r}; expected one of {', '.join(names)}") from None


def culture_index(name: str | None, names: tuple[str, ...] | list[str]) -> int:
    """Index of a culture name, -1 when it is None or `UNKNOWN_CULTURE`."""
    if name is None or name == UNKNOWN_CULTURE:
        return UNKNOWN_CULTURE_INDEX
    return index_of(name, names, "culture")
