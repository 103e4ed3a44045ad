"""Sizes that the datasets' authors published: a copy of another size has lost clips, or is another release."""

from __future__ import annotations

from collections import Counter

from ray_fer.datasets.reading import Reading

PUBLISHED: dict[tuple[str, str], tuple[str, dict[str | None, int]]] = {
    ("ferv39k", ""): ("split", {"train": 31_088, "test": 7_847}),
    ("mafw", ""): ("dataset", {"mafw": 9_172}),
    ("afew", "former-dfer"): ("split", {"train": 773, "val": 381}),
    ("fer2013", "csv"): ("split", {"train": 28_709, "val": 3_589, "test": 3_589}),
    ("sfew", ""): ("split", {"train": 891, "val": 431}),
    ("casme2", "ethnicmer"): ("label", {"Negative": 100, "Positive": 32, "Surprise": 25}),
    ("casme2", "megc"): ("label", {"Negative": 88, "Positive": 32, "Surprise": 25}),
    ("samm", ""): ("label", {"Negative": 92, "Positive": 26, "Surprise": 15}),
    ("eila", "released"): ("split", {"train": 4_852, "val": 1_362, "test": 815}),
    ("gccfer", ""): (
        "culture",
        {"African": 6_951, "Caucasian": 5_801, "East Asian": 4_556, "South Asian": 6_626},
    ),
}
"""(dataset, variant or "" for all) -> column, and clips by its values. DFEW's fold sizes are checked on its lists.

EiLA's are counted after frames without a face were discarded and, for test, people without demographics; so a reading
has more."""


def note_sizes(reading: Reading) -> None:
    """Say in the report how the sizes compare with the published ones."""
    found = PUBLISHED.get((reading.dataset, reading.variant)) or PUBLISHED.get((reading.dataset, ""))
    if found is None or (reading.dataset == "samm" and reading.variant == "emotions"):
        return
    column, sizes = found
    counts = Counter(getattr(clip, column) for clip in reading.clips)
    for value, published in sizes.items():
        if counts[value] == published:
            reading.report.note(f"{value}: {published:,} clips, as published")
        elif reading.dataset == "eila":  # counted after faces were searched for: see PUBLISHED
            reading.report.note(f"{value}: {counts[value]:,} rows; published are {published:,} faces")
        else:
            reading.report.differences.append(f"{value}: {counts[value]:,} clips; published are {published:,}")
