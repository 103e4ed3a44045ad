"""Datasets: readers of every release, splits, mixtures, curation, and the synthetic SynthFER."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray_fer.datasets.reading import Reading


def read(name: str, root: str | Path, **options: Any) -> Reading:
    """Read a dataset as it was released: `ray_fer.datasets.read("dfew", "/data/DFEW").clips`.

    `ray_fer.datasets.readers.READERS` lists the names and `ReadOptions` the options. Raises DatasetError.
    """
    # Imported late, so that who needs only the manifest does not load every reader.
    from ray_fer.datasets.readers import read as read_dataset

    return read_dataset(name, root, **options)
