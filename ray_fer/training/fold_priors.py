"""AU profiles of the training clips of one fold: the clips that it tests must shape no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ray_fer.action_units.profiles import Priors, culture_priors
from ray_fer.labels import AU_NAMES
from ray_fer.preprocessing.store import open_dataset
from ray_fer.preprocessing.store_index import ClipIndex


@dataclass(frozen=True)
class AuStats:
    """The clip statistics of an AU table, by clip."""

    table: str
    extractor: str
    active: float
    place: dict[str, int]
    stats: np.ndarray
    """float32 [N,80]"""

    @classmethod
    def read(cls, table: str) -> AuStats:
        """Raises FileNotFoundError or ValueError as `open_dataset`."""
        read = open_dataset(table, "aus", "ray-fer aus").to_table(
            columns=["clip_id", "au_stats", "extractor", "active"]
        )  # fmt: skip
        if not read.num_rows:
            raise ValueError(f"{table}: an empty AU table; make it of the clip store with `ray-fer aus`")
        stats = np.array(read.column("au_stats").to_pylist(), np.float32).reshape(-1, 4 * len(AU_NAMES))
        names = read.column("clip_id").to_pylist()
        active = round(float(read.column("active")[0].as_py()), 6)
        return cls(table, str(read.column("extractor")[0]), active, {name: i for i, name in enumerate(names)}, stats)

    def priors(self, clips: ClipIndex, cultures: list[str], what: str) -> Priors:
        """AU profiles of these clips and no others.

        Raises ValueError when the table lacks some of them, or a culture has no clip with a face among them.
        """
        names = clips.column("clip_id")
        lacking = sum(name not in self.place for name in names)
        if lacking:
            raise ValueError(
                f"{self.table}: {lacking} of the {len(names)} training clips of {what} are not in this AU table; make "
                f"it of {clips.store} with `ray-fer aus`"
            )
        owners = [str(name) for name in clips.column("culture")]
        try:
            return culture_priors(
                self.stats[[self.place[name] for name in names]], owners, cultures, self.extractor, active=self.active
            )
        except ValueError as error:
            raise ValueError(f"training clips of {what}: {error}") from error
