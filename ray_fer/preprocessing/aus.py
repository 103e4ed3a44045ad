"""Clip store -> AU table: per-frame AU intensities and the 80-d statistics of every clip, over shards.

Columns: `clip_id, label, culture, subject_id, split, au` (T x 20, flattened, NaN where nothing was measured),
`au_stats` (80), `extractor` and `active`, the intensity from which an AU counted as active in the frequencies. One
shard of the table belongs to one shard of the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.action_units.extractor import ActionUnitExtractor, create_extractor
from ray_fer.action_units.profiles import Priors, culture_priors
from ray_fer.action_units.statistics import au_statistics
from ray_fer.labels import AU_NAMES, UNKNOWN_CULTURE
from ray_fer.preprocessing.journal import Processor
from ray_fer.preprocessing.runner import Pool, Progress, Session, cluster_pool, one_by_one
from ray_fer.preprocessing.shards import Failure, Row, Shard, path_stamps, read_written, shard_name, shard_numbers
from ray_fer.preprocessing.store import Description, Summary, build_store, open_dataset
from ray_fer.storage import Location

_KEYS = ["clip_id", "label", "culture", "subject_id", "split"]

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _KEYS),
        pa.field("au", pa.list_(pa.float32())),
        pa.field("au_stats", pa.list_(pa.float32())),
        pa.field("extractor", pa.string()),
        pa.field("active", pa.float32()),
    ]
)


@dataclass(frozen=True)
class AuWork:
    """Work of a shard of clips."""

    clips: str
    extractor: str
    options: dict[str, Any]
    active: float | None

    @contextmanager
    def open(self) -> Iterator[Processor]:
        """Load the extractor's model."""
        extractor = create_extractor(self.extractor, **self.options)
        try:
            yield AuProcessor(self.clips, extractor, self.active)
        finally:
            extractor.close()


class AuProcessor:
    """Rows that name clips of a shard in, rows of the AU table out."""

    schema = SCHEMA

    def __init__(self, clips: str, extractor: ActionUnitExtractor, active: float | None) -> None:
        self._clips = clips
        self._extractor = extractor
        self._active = extractor.active if active is None else active

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        wanted = list(rows)
        if not wanted:
            return
        clips = self._read(wanted)
        try:
            yield from [self._row(clip, au) for clip, au in zip(clips, self._extractor.extract(clips), strict=True)]
        except Exception:  # some clip of the batch: find out which
            yield from one_by_one(clips, lambda clip: self._row(clip, self._extractor.extract([clip])[0]))

    def _read(self, rows: Sequence[Row]) -> list[Row]:
        columns = list(dict.fromkeys([*_KEYS, "path", "face_found", *self._extractor.columns]))
        filesystem, path = storage.resolve(storage.join(self._clips, shard_name(rows[0]["shard"])))
        table = pq.read_table(path, columns=columns, filesystem=filesystem, partitioning=None)
        names = pa.array([row["clip_id"] for row in rows])
        clips = table.filter(pc.is_in(table["clip_id"], names)).to_pylist()
        return [clip | {"path": storage.plain(clip["path"])} for clip in clips]

    def _row(self, clip: Row, au: np.ndarray) -> Row:
        found = np.asarray(clip["face_found"], bool)
        return {name: clip[name] for name in _KEYS} | {
            "au": au.ravel(),
            "au_stats": au_statistics(au, found, self._active),
            "extractor": self._extractor.name,
            "active": self._active,
        }


def extract_aus(
    store: Location,
    output: Location,
    extractor: str = "blendshape",
    options: dict[str, Any] | None = None,
    active: float | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> Summary:
    """Write the AU table of a clip store to folder or URL `output` on the Ray that `session` gives: the current one.

    `options` are the extractor's; an AU counts as active from intensity `active` (default: the extractor's). Raises
    ValueError for an unknown extractor or an unfinished store, and FileExistsError as `preprocess` does.
    """
    options = options or {}
    open_dataset(store, "clips", "ray-fer preprocess")
    store = storage.absolute(store)
    shards = clip_shards(store, repr((extractor, active, sorted(options.items()), path_stamps(options))))
    work = AuWork(storage.join(store, "clips"), extractor, options, active)
    description = Description("aus", 0, len(shards), store, {"extractor": extractor, "active": active, **options})
    return build_store(
        output, description, shards, work, partial(pool_for, extractor), resume, overwrite, retry_failed,
        progress, session,
    )  # fmt: skip


def pool_for(extractor: str) -> Pool | None:
    """Actors for an extractor with a network; None for the others."""
    return cluster_pool() if extractor == "pyfeat" else None


def clip_shards(store: str, made_from: str) -> list[Shard]:
    """One shard of the table for each of the store, which is redone when other clips come out of that."""
    folder = storage.join(store, "clips")
    shards = []
    for number in shard_numbers(folder):
        filesystem, path = storage.resolve(storage.join(folder, shard_name(number)))
        names = pq.read_table(path, columns=["clip_id", "path"], filesystem=filesystem, partitioning=None)
        written = read_written(folder, number)
        if written is None:
            raise ValueError(f"{store}: {shard_name(number)} is damaged; make it again with `ray-fer preprocess`")
        rows = names.to_pylist()  # what came out of the clips, which another try may change
        content = repr((made_from, written.fingerprint, rows, written.failures))
        digest = hashlib.sha256(content.encode()).hexdigest()
        shards.append(Shard(number, [row | {"shard": number} for row in rows], digest))
    return shards


def compute_priors(
    au_table: Location,
    cultures: list[str] | None = None,
    split: str | None = "train",
    unit: str = "clip",
    correction: str = "holm",
) -> Priors:
    """Culture priors of an AU table; from the training split only, so that test clips shape no model.

    `unit` and `correction` are those of `culture_priors`. Raises FileNotFoundError when the table is missing,
    ValueError when a culture has no clip with a face.
    """
    dataset = open_dataset(au_table, "aus", "ray-fer aus")
    wanted = pads.field("culture") != UNKNOWN_CULTURE
    if split is not None:
        wanted &= pads.field("split") == split
    columns = ["culture", "subject_id", "au_stats", "extractor", "active"]
    table = dataset.to_table(columns=columns, filter=wanted)
    if not table.num_rows:
        raise ValueError(f"{au_table}: no clip with a culture label in split {split!r}")
    owners = table.column("culture").to_pylist()
    stats = np.array(table.column("au_stats").to_pylist(), np.float32).reshape(-1, 4 * len(AU_NAMES))
    return culture_priors(
        stats, owners, cultures or sorted(set(owners)), str(table.column("extractor")[0]),
        subjects=table.column("subject_id").to_pylist(), unit=unit, correction=correction,
        active=round(float(table.column("active")[0].as_py()), 6),
    )  # fmt: skip
