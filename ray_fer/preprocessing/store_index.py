"""Which clips a store holds, and where: the small columns of all shards, to choose clips from and read them later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.preprocessing.shards import shard_name, shard_numbers
from ray_fer.preprocessing.store import open_dataset
from ray_fer.storage import Location

COLUMNS = ("clip_id", "dataset", "path", "label", "culture", "subject_id", "split", "fold")


@dataclass(frozen=True)
class ClipIndex:
    """Some clips of a store, in its order: `table` has `COLUMNS`, and `shard` and `row`, where each clip lies."""

    store: str
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> list[Any]:
        """One column's values, by clip."""
        return self.table.column(name).to_pylist()

    def where(self, keep: Callable[[dict[str, Any]], bool] | np.ndarray) -> ClipIndex:
        """Clips for whose row `keep` is true, or those that a bool mask or places [.] name."""
        if callable(keep):
            keep = np.array([keep(row) for row in self.table.to_pylist()], bool)
        places = np.flatnonzero(keep) if keep.dtype == bool else keep
        return ClipIndex(self.store, self.table.take(pa.array(places, pa.int64())))

    def split(self, name: str) -> ClipIndex:
        """Clips of one split. Raises ValueError that lists the splits when there are none."""
        found = self.where(lambda row: row["split"] == name)
        if not len(found):
            there = ", ".join(sorted({str(one) for one in self.column("split")}))
            raise ValueError(f"{self.store}: no usable clip in split {name!r}; there are {there}")
        return found

    def by_shard(self) -> list[tuple[int, list[int]]]:
        """(shard, rows in it) in the order of the clips; clips of one shard that follow each other are together."""
        groups: list[tuple[int, list[int]]] = []
        for shard, row in zip(self.column("shard"), self.column("row"), strict=True):
            if not groups or groups[-1][0] != shard:
                groups.append((shard, []))
            groups[-1][1].append(row)
        return groups


def read_index(store: Location) -> ClipIndex:
    """All clips of a store. Raises FileNotFoundError or ValueError as `open_dataset`."""
    open_dataset(store, "clips", "ray-fer preprocess")
    store = storage.absolute(store)
    folder = storage.join(store, "clips")
    tables = []
    for number in shard_numbers(folder):
        table = _read(folder, number, COLUMNS)
        table = table.append_column("shard", pa.array([number] * table.num_rows, pa.int64()))
        tables.append(table.append_column("row", pa.array(np.arange(table.num_rows))))
    return ClipIndex(store, pa.concat_tables(tables).replace_schema_metadata(None))


def read_rows(store: Location, shard: int, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some rows of one shard, with the columns asked for."""
    table = _read(storage.join(store, "clips"), shard, columns)
    return table.take(pa.array(list(rows), pa.int64())).combine_chunks()


def _read(folder: str, number: int, columns: Sequence[str]) -> pa.Table:
    filesystem, path = storage.resolve(storage.join(folder, shard_name(number)))
    return pq.read_table(path, columns=list(columns), filesystem=filesystem, partitioning=None)
