"""A folder of shards on disk or in an object store, with its description: `store.json`, shards, `failures.parquet`.

Clip stores keep their shards below ``clips/``, AU tables below ``aus/``: plain Parquet, readable without Ray or this
package (``pyarrow.dataset.dataset("store/clips")``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from ray_fer import storage
from ray_fer.preprocessing.runner import Pool, Progress, Session, Work, finished_shards, run_shards
from ray_fer.preprocessing.shards import Failure, Shard, read_written
from ray_fer.storage import Location

_DESCRIPTION, FAILURES = "store.json", "failures.parquet"
_FAILURE_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("clip_id", "path", "reason")])


@dataclass(frozen=True)
class Description:
    """`store.json`: what kind of shards lie here, how many, and with which options they were made."""

    kind: str
    """Name of the folder of the shards: `clips` or `aus`."""
    shard_rows: int
    shards: int
    source: str
    """What they were made from: a manifest, a clip store, or videos."""
    options: dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What came of a run: rows that are usable, the failures, and how many shards this run had to make."""

    store: str
    usable: int
    failed: list[Failure]
    shards: int
    made: int


def read_description(store: Location) -> Description | None:
    """The description of a store, None where there is none. Raises ValueError when it cannot be read."""
    try:
        text = storage.read_bytes(storage.join(store, _DESCRIPTION))
    except FileNotFoundError:
        return None
    try:
        return Description(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{store}: {_DESCRIPTION} is damaged ({error}); make the store again with --overwrite"
        ) from None


def build_store(
    store: Location,
    description: Description,
    shards: Sequence[Shard],
    work: Work,
    pool: Callable[[], Pool | None] = lambda: None,
    resume: bool = False,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> Summary:
    """Make what is not there yet. A store that is complete and made from the same input costs no work.

    Raises FileExistsError when the folder holds an unfinished store and neither `resume` nor `overwrite` is set, a
    store with other options, or anything else; and whatever `work` raises when it cannot be opened.
    """
    store = storage.absolute(store)
    folder = storage.join(store, description.kind)
    begun = _is_begun(store, description, overwrite)
    finished = {} if overwrite else finished_shards(folder, shards, retry_failed)
    if len(finished) < len(shards):
        if begun and not (resume or retry_failed or overwrite):
            raise FileExistsError(
                f"{store} holds {len(finished)} of {len(shards)} shards of this input; go on with --resume, choose "
                "another folder or pass --overwrite"
            )
        with work.open():  # a model that cannot be loaded says so here, and not from within the cluster
            pass
        if begun and overwrite:
            _clear(store, description.kind)
        storage.delete_file(storage.join(store, FAILURES))  # written last, it says that the store is complete
    storage.write_bytes(storage.join(store, _DESCRIPTION), (json.dumps(vars(description), indent=1) + "\n").encode())
    made = run_shards(folder, shards, finished, work, pool, progress, session)
    summary = _summary(store, folder, shards, made)
    sink = io.BytesIO()
    rows = [vars(failure) for failure in summary.failed]
    pq.write_table(pa.Table.from_pylist(rows, schema=_FAILURE_SCHEMA), sink)
    storage.write_bytes(storage.join(store, FAILURES), sink.getvalue())
    return summary


def _is_begun(store: str, description: Description, overwrite: bool) -> bool:
    """Whether there is a store, of this kind and from this input if it may not be replaced; anything else raises."""
    if not storage.is_folder(store) and storage.size_of(store) is None:
        return False
    try:
        found = read_description(store)
    except storage.StorageError:
        raise
    except ValueError:
        if not overwrite:
            raise
        return True
    if found is None:
        if storage.size_of(store) is None and not storage.has_content(store):
            return False
        raise FileExistsError(f"{store} is not {_NOUN[description.kind]}, so it is not replaced; choose another folder")
    if found.kind != description.kind:
        raise FileExistsError(
            f"{store} is {_NOUN[found.kind]} and not {_NOUN[description.kind]}; choose another folder"
        )
    if overwrite:
        return True
    before, now = (
        {"the input": one.source, "shard_rows": one.shard_rows, **one.options} for one in (found, description)
    )
    changed = [f"{name} was {before.get(name)} and is {now[name]}" for name in now if before.get(name) != now[name]]
    if changed:
        raise FileExistsError(
            f"{store} was made from something else or with other options ({'; '.join(changed)}); choose another folder "
            "or pass --overwrite"
        )
    return True


def _clear(store: str, kind: str) -> None:
    """Delete what is ours, and nothing that somebody put beside it; the description goes last."""
    storage.delete_folder(storage.join(store, kind))
    for name in (FAILURES, _DESCRIPTION):
        storage.delete_file(storage.join(store, name))


_NOUN = {
    "clips": "a clip store", "aus": "an AU table", "frames": "a table of frames", "features": "a table of features",
}  # fmt: skip


def _summary(store: str, folder: str, shards: Sequence[Shard], made: int) -> Summary:
    written = [one for shard in shards if (one := read_written(folder, shard.number)) is not None]
    failed = [failure for one in written for failure in one.failures]
    return Summary(store, sum(one.rows for one in written), failed, len(shards), made)


def read_failures(store: Location) -> list[Failure]:
    """What `failures.parquet` of a store says. Raises FileNotFoundError while the store is unfinished."""
    data = storage.read_bytes(storage.join(store, FAILURES))
    return [Failure(**row) for row in pq.read_table(pa.BufferReader(data)).to_pylist()]


def open_dataset(store: Location, kind: str, make: str) -> pads.Dataset:
    """pyarrow dataset of a store's shards. Raises FileNotFoundError or ValueError that says how to `make` one."""
    found = read_description(store)
    if found is None:
        raise FileNotFoundError(f"{store}: no such {_NOUN[kind][2:].strip()}; make one with `{make}`")
    if found.kind != kind:
        raise ValueError(f"{store} is {_NOUN[found.kind]} and not {_NOUN[kind]}; make one with `{make}`")
    if storage.size_of(storage.join(store, FAILURES)) is None:
        raise ValueError(f"{store} is unfinished; finish it with `{make} ... --resume`")
    filesystem, path = storage.resolve(storage.join(store, kind))
    return pads.dataset(path, format="parquet", filesystem=filesystem)
