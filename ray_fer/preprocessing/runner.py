"""Run work on shards over the Ray cluster: streaming, bounded, resumable, and no row lost.

Each shard is one Ray Data task (or one call of an actor, where a model must be loaded first): it reads its rows'
media, writes its file and returns its counts, so that neither the object store nor the driver ever holds a clip. What
dies is done again:

* a task whose worker or node dies is run again by Ray, anywhere; a row that kills its worker is found out by the
  journal (see `journal`) and becomes a failure;
* a driver that dies leaves finished shards behind; `resume` does the others. A shard is finished when its file is
  there and was made from the same rows, files and options.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import ray
import ray.data

from ray_fer import storage
from ray_fer.preprocessing.journal import JOURNAL, Journal, Processor
from ray_fer.preprocessing.shards import (
    Failure,
    Row,
    Shard,
    Written,
    read_written,
    shard_bytes,
    shard_name,
    shard_numbers,
)

Session = Callable[[], AbstractContextManager[None]]


class Work(Protocol):
    """Picklable description of what is to be done with rows."""

    def open(self) -> AbstractContextManager[Processor]:
        """Load what the work needs, in the process that does it."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    rows: int
    rows_in_all: int
    failed: int
    shards: int
    shards_in_all: int


@dataclass(frozen=True)
class Pool:
    """Actors that keep their work's model loaded, and the GPUs that each holds."""

    actors: int
    gpus: float = 0.0


def cluster_pool(gpus: float = 1.0) -> Pool:
    """Actors for a work with a network: one per GPU of the cluster, or share of `gpus`, or else one per CPU."""
    resources = ray.cluster_resources()
    there = resources.get("GPU", 0.0)
    return Pool(int(there / gpus), gpus) if there else Pool(max(1, int(resources.get("CPU", 1))))


def run_shards(
    folder: str,
    shards: Sequence[Shard],
    finished: Mapping[int, Written],
    work: Work,
    pool: Callable[[], Pool | None] = lambda: None,
    progress: Callable[[Progress], None] = lambda _: None,
    session: Session = nullcontext,
) -> int:
    """Write the shards that are not in `finished` (see `finished_shards`) into `folder`; returns how many those were.

    Where `pool` gives None, shards are tasks on every CPU of the cluster, also on nodes that join later. `progress` is
    told after every shard. `session` gives a Ray, and is not asked for one when there is nothing to do. Raises
    StorageError when the folder is not the same for all nodes.
    """
    pending = [shard for shard in shards if shard.number not in finished]
    in_all = sum(len(shard.rows) for shard in shards)
    rows = in_all - sum(len(shard.rows) for shard in pending)
    failed = sum(len(written.failures) for written in finished.values())
    progress(Progress(rows, in_all, failed, len(finished), len(shards)))
    if pending:
        with session(), _our_errors():
            for count, one in enumerate(_results(folder, pending, work, pool()), start=len(finished) + 1):
                rows, failed = rows + one["rows"], failed + one["failed"]
                progress(Progress(rows, in_all, failed, count, len(shards)))
    lost = len(pending) - len(finished_shards(folder, pending))
    if lost:
        raise storage.StorageError(
            f"{folder}: {lost} shards were written but are not here: nodes do not share this folder; use a shared "
            "file system or an object store (s3://...)"
        )
    for number in set(shard_numbers(folder)) - {shard.number for shard in shards}:
        storage.delete_file(storage.join(folder, shard_name(number)))
    storage.delete_folder(storage.join(folder, JOURNAL))
    storage.delete_parts(folder)
    return len(pending)


def finished_shards(folder: str, shards: Sequence[Shard], retry_failed: bool = False) -> dict[int, Written]:
    """Records, by number, of the shards whose file is there and was made from the same input.

    With `retry_failed`, shards with failures do not count as finished.
    """
    there = set(shard_numbers(folder))
    finished = {}
    for shard in shards:
        written = read_written(folder, shard.number) if shard.number in there else None
        if written is None or written.fingerprint != shard.fingerprint or (retry_failed and written.failures):
            continue
        finished[shard.number] = written
    return finished


@contextmanager
def _our_errors() -> Iterator[None]:
    """Ray wraps what a worker raises; the user needs what was raised."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, storage.StorageError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise storage.StorageError(str(cause).strip().splitlines()[-1]) from error


def _results(folder: str, shards: Sequence[Shard], work: Work, pool: Pool | None) -> Iterator[dict[str, int]]:
    items = [
        {"number": shard.number, "rows": json.dumps(list(shard.rows)), "fingerprint": shard.fingerprint}
        for shard in shards
    ]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    if pool is None:
        results = dataset.map(_ShardTask(folder, work).run)
    else:
        results = dataset.map(
            _ShardTask, fn_constructor_args=(folder, work), num_gpus=pool.gpus,
            compute=ray.data.ActorPoolStrategy(size=min(pool.actors, len(items)), max_tasks_in_flight_per_actor=2),
        )  # fmt: skip
    yield from results.iter_rows()


class _ShardTask:
    def __init__(self, folder: str, work: Work) -> None:
        self._folder = folder
        self._work = work
        self._opened: AbstractContextManager[Processor] | None = None
        self._processor: Processor | None = None

    def __call__(self, item: dict[str, Any]) -> dict[str, int]:
        """As an actor's method: the work stays open from shard to shard."""
        shard, journal = self._begin(item)
        if self._processor is None:
            self._opened = self._work.open()
            self._processor = self._opened.__enter__()
        return self._write(shard, self._processor, journal)

    def __del__(self) -> None:  # Ray Data deletes its callable before it ends the actor
        if self._opened is not None:
            self._opened.__exit__(None, None, None)

    def run(self, item: dict[str, Any]) -> dict[str, int]:
        """As a task: the work is opened and closed for each shard."""
        shard, journal = self._begin(item)
        with self._work.open() as processor:
            return self._write(shard, processor, journal)

    def _begin(self, item: dict[str, Any]) -> tuple[Shard, Journal]:
        shard = Shard(item["number"], json.loads(item["rows"]), item["fingerprint"])
        return shard, Journal(self._folder, shard, ray.get_runtime_context().get_job_id())

    def _write(self, shard: Shard, processor: Processor, journal: Journal) -> dict[str, int]:
        rows, failures = [], []
        for result in journal.watch(shard.rows, processor):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                rows.append(result)
        table = pa.Table.from_pylist(rows, schema=processor.schema)
        storage.write_bytes(storage.join(self._folder, shard.file_name), shard_bytes(table, shard, failures))
        journal.close()
        return {"rows": len(shard.rows), "failed": len(failures)}


def one_by_one(rows: Iterable[Row], function: Callable[[Row], Row]) -> Iterator[Row | Failure]:
    """Apply a function to each row; whatever it raises costs this row and no other."""
    for row in rows:
        try:
            yield function(row)
        except Exception as error:
            yield failure_of(row, error)


def failure_of(row: Row, error: Exception) -> Failure:
    """The row and, in one line, why it failed."""
    text = " ".join(str(error).split()).removeprefix(f"{row['path']}: ")
    expected = isinstance(error, ValueError | FileNotFoundError) and text
    return Failure(row["clip_id"], row["path"], text if expected else f"{type(error).__name__}: {text}")
