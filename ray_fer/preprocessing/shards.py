"""Shards: the unit of work, of resuming and of files. Which rows go where, and whether a shard is still good.

A shard's file is written once, whole, when all its rows are done. Its schema's metadata say what it was made from
(`fingerprint`) and which rows could not be used (`failures`), so that a folder of shards is its own record of progress.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.storage import Location
from ray_fer.video.frame_folder import frame_files

Row = dict[str, Any]

_MOST_ROWS, _SHARDS_PER_CPU = 64, 8


@dataclass(frozen=True)
class Failure:
    """A row that could not be used, and why."""

    clip_id: str
    path: str
    reason: str


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of the input, and a digest of them and of the files that they name."""

    number: int
    rows: Sequence[Row]
    fingerprint: str

    @property
    def file_name(self) -> str:
        return shard_name(self.number)


def shard_name(number: int) -> str:
    """File name of a shard; names sort as numbers do."""
    return f"shard-{number:06d}.parquet"


def default_shard_rows(rows: int, cpus: float) -> int:
    """Rows per shard, at most 64, that give every CPU eight shards, so that none waits long for the last.

    Rounded up: one shard more than eight per CPU would be worked on while all other CPUs wait.
    """
    return max(1, min(_MOST_ROWS, ceil(rows / (_SHARDS_PER_CPU * max(cpus, 1)))))


def plan_shards(rows: Sequence[Row], shard_rows: int, made_from: str, stamps: Sequence[str]) -> list[Shard]:
    """Cut rows, in their order, into shards of even size: at most `shard_rows`, and none has two more than another.

    `made_from` are the options of the work as text; `stamps` [rows] tell when the files behind a row change.
    """
    if shard_rows < 1:
        raise ValueError(f"shards of {shard_rows} rows; give 1 or more")
    count = -(-len(rows) // shard_rows)
    shards = []
    for number in range(count):
        start, end = number * len(rows) // count, (number + 1) * len(rows) // count
        content = json.dumps([made_from, rows[start:end], list(stamps[start:end])], sort_keys=True)
        shards.append(Shard(number, rows[start:end], hashlib.sha256(content.encode()).hexdigest()))
    return shards


def media_stamps(rows: Sequence[Row]) -> list[str]:
    """For each manifest row a text that changes with its media: size and time of its file.

    A folder of frames counts by its own time of change and its files' names: a frame that is overwritten in its
    place goes unnoticed.
    """
    stamps = storage.stamps({_stamped(row) for row in rows})
    return [stamps[_stamped(row)] + _frame_names(row) for row in rows]


def path_stamps(options: Mapping[str, Any]) -> str:
    """Text that changes when a file or folder that an option names does; options that name none say nothing."""
    paths = [Path(value) for value in options.values() if isinstance(value, str) and Path(value).exists()]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return json.dumps(storage.stamps(files))


def _stamped(row: Row) -> str:
    """What tells of changes: the file or folder; where clips share a folder and are told by patterns, that folder."""
    by_pattern = row["media"] == "frames" and set("*?[|") & set(storage.plain(row["path"]))
    return storage.parent(row["path"]) if by_pattern else str(row["path"])


def _frame_names(row: Row) -> str:
    if row["media"] != "frames" or storage.is_url(row["path"]):
        return ""
    try:
        return json.dumps([file.name for file in frame_files(row["path"])])
    except (OSError, ValueError):
        return "unreadable"


def shard_bytes(table: pa.Table, shard: Shard, failures: Sequence[Failure]) -> memoryview:
    """A shard as a Parquet file (zstd); the same content gives the same bytes."""
    record = {
        "fingerprint": shard.fingerprint,
        "failures": json.dumps([[one.clip_id, one.path, one.reason] for one in failures]),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), **record}), sink,
        compression="zstd", use_dictionary=False,
    )  # fmt: skip
    return memoryview(sink.getvalue())


@dataclass(frozen=True)
class Written:
    """What a finished shard's file says about itself."""

    number: int
    fingerprint: str
    rows: int
    failures: list[Failure]


def read_written(folder: Location, number: int) -> Written | None:
    """The record of a shard, read from its file's footer; None when there is no such file or it is not ours."""
    location = storage.join(folder, shard_name(number))
    if storage.size_of(location) is None:
        return None
    filesystem, path = storage.resolve(location)
    with filesystem.open_input_file(path) as file:
        try:
            footer = pq.read_metadata(file)
            record = footer.schema.to_arrow_schema().metadata or {}
            failures = [Failure(*one) for one in json.loads(record[b"failures"])]
            return Written(number, record[b"fingerprint"].decode(), footer.num_rows, failures)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):  # damaged, or somebody else's
            return None


def shard_numbers(folder: Location) -> list[int]:
    """Numbers of the shards whose files are in a folder, sorted."""
    names = (name.removeprefix("shard-").removesuffix(".parquet") for name in storage.list_files(folder))
    return sorted(int(name) for name in names if name.isdigit())
