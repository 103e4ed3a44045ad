"""Who killed the worker? What is written down so that a row that ends its process cannot do so for ever.

Ray runs the task of a dead worker again and again. The first attempt on a shard only leaves a note that it began. From
the second on, rows are done one at a time and each is noted before it is touched; a row on which the process died twice
(a decoder with a defect) becomes a failure. Deaths that no row can be accused of (a model that does not fit into
memory) end the run with advice. Attempts that ended with their driver do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from ray_fer import storage
from ray_fer.preprocessing.shards import Failure, Row, Shard

JOURNAL = "_journal"
_DEATHS_ON_ONE_ROW = 2
_DEATHS_OF_NOBODY = 5


class Processor(Protocol):
    """Turns rows into rows of `schema`; one per shard (or per actor), closed by its context manager."""

    schema: pa.Schema

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        """What became of the rows, in their order: rows for the file, and failures for what could not be used."""


class Journal:
    """Deaths of a shard's earlier attempts, in a file beside the shards.

    `job` names the driver. Raises StorageError when the worker died too often before or after the rows.
    """

    def __init__(self, folder: str, shard: Shard, job: str) -> None:
        self._location = storage.join(folder, JOURNAL, f"{shard.number:06d}-{shard.fingerprint[:12]}.json")
        try:
            self._state: dict[str, Any] = json.loads(storage.read_bytes(self._location))
        except FileNotFoundError:
            self._state = {"job": job, "row": None, "deaths": {}, "nobody": 0}
            self._careful = False
        else:
            self._careful = True
            if self._state["job"] == job:
                self._accuse()
        if self._state["nobody"] >= _DEATHS_OF_NOBODY:
            storage.delete_file(self._location)
            raise storage.StorageError(
                f"shard {shard.number}: its worker died {_DEATHS_OF_NOBODY} times while loading models or writing; "
                "look into Ray's logs (out of memory?)"
            )
        self._state |= {"job": job, "row": None}
        self._save()

    def watch(self, rows: Sequence[Row], processor: Processor) -> Iterator[Row | Failure]:
        """Results of the processor; failures for rows that ended the process again and again."""
        if not self._careful:
            yield from processor(rows)
            return
        try:
            for row in rows:
                if self._state["deaths"].get(row["clip_id"], 0) >= _DEATHS_ON_ONE_ROW:
                    reason = "the worker process died each time that it read this file"
                    yield Failure(row["clip_id"], row["path"], reason)
                    continue
                self._note(row["clip_id"])
                yield from processor([row])
        finally:
            self._note(None)

    def close(self) -> None:
        """Forget the attempts: the shard is finished."""
        storage.delete_file(self._location)

    def _accuse(self) -> None:
        row, deaths = self._state["row"], self._state["deaths"]
        if row is None:
            self._state["nobody"] += 1
        else:
            deaths[row] = deaths.get(row, 0) + 1

    def _note(self, row: str | None) -> None:
        self._state["row"] = row
        self._save()

    def _save(self) -> None:
        storage.write_bytes(self._location, json.dumps(self._state).encode())
