"""Clip store -> AU table: per-frame AU intensities and the 80-d statistics of every clip, over shards.

Columns: `clip_id, label, culture, subject_id, split, au` (T x 20, flattened), `au_stats` (80), `extractor`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import ray.data

from ray_fer.action_units.blendshapes import EXTRACTOR, aus_from_blendshapes
from ray_fer.action_units.profiles import Priors, culture_priors
from ray_fer.action_units.statistics import au_statistics
from ray_fer.labels import AU_NAMES, UNKNOWN_CULTURE
from ray_fer.preprocessing.clips import read_store
from ray_fer.video.faces import BLENDSHAPES

_KEYS = ["clip_id", "label", "culture", "subject_id", "split"]

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _KEYS),
        pa.field("au", pa.list_(pa.float32())),
        pa.field("au_stats", pa.list_(pa.float32())),
        pa.field("extractor", pa.string()),
    ]
)


def _from_blendshapes(batch: pa.Table) -> pa.Table:
    rows = []
    for row in batch.to_pylist():
        au = aus_from_blendshapes(np.asarray(row["blendshapes"], np.float32).reshape(-1, BLENDSHAPES))
        stats = au_statistics(au, np.asarray(row["face_found"], bool))
        rows.append({k: row[k] for k in _KEYS} | {"au": au.ravel(), "au_stats": stats, "extractor": EXTRACTOR})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


EXTRACTORS: dict[str, tuple[list[str], Callable[[pa.Table], pa.Table]]] = {
    "blendshapes": (["blendshapes", "face_found"], _from_blendshapes),
}
"""Extractor name -> (columns of the clip store that it reads, batch function)."""


def extract_aus(store: str | Path, output: str | Path, extractor: str = "blendshapes", overwrite: bool = False) -> Path:
    """Write the AU table of a clip store to folder `output` on the current Ray cluster.

    Raises ValueError for an unknown extractor, FileExistsError when `output` exists and `overwrite` is not set.
    """
    if extractor not in EXTRACTORS:
        raise ValueError(f"unknown extractor {extractor!r}; expected one of {', '.join(EXTRACTORS)}")
    output = Path(output).resolve()
    if output.exists():
        if not overwrite:
            raise FileExistsError(f"{output} exists; choose another folder or pass --overwrite")
        shutil.rmtree(output)
    columns, function = EXTRACTORS[extractor]
    table = read_store(store, [*_KEYS, *columns])
    ray.data.from_arrow(table).map_batches(function, batch_format="pyarrow", batch_size=256).write_parquet(
        str(output), compression="zstd"
    )
    return output


def compute_priors(au_table: str | Path, cultures: list[str] | None = None, split: str | None = "train") -> Priors:
    """Culture priors of an AU table; from the training split only, so that test clips shape no model.

    Raises FileNotFoundError when the table is missing, ValueError when a culture has no clip with a face.
    """
    if not Path(au_table).is_dir():
        raise FileNotFoundError(f"{au_table}: no such AU table; make one with `ray-fer aus`")
    dataset = pads.dataset(str(au_table), format="parquet")
    wanted = pads.field("culture") != UNKNOWN_CULTURE
    if split is not None:
        wanted &= pads.field("split") == split
    table = dataset.to_table(columns=["culture", "au_stats", "extractor"], filter=wanted)
    if not table.num_rows:
        raise ValueError(f"{au_table}: no clip with a culture label in split {split!r}")
    owners = table.column("culture").to_pylist()
    stats = np.array(table.column("au_stats").to_pylist(), np.float32).reshape(-1, 4 * len(AU_NAMES))
    names = cultures or sorted(set(owners))
    extractors = set(table.column("extractor").to_pylist())
    if len(extractors) > 1:
        raise ValueError(f"{au_table} mixes extractors ({', '.join(sorted(extractors))}); use one per table")
    return culture_priors(stats, owners, names, extractors.pop())
