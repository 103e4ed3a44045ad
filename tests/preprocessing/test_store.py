"""Stores: what is done again and what is not, what is refused, what stays untouched. Without Ray: shards in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_fer.preprocessing import runner
from ray_fer.preprocessing.aus import clip_shards
from ray_fer.preprocessing.journal import JOURNAL, Journal, Processor
from ray_fer.preprocessing.shards import Failure, Row, Shard, plan_shards, shard_name
from ray_fer.preprocessing.store import Description, Summary, build_store, open_dataset, read_failures
from ray_fer.storage import StorageError


@pytest.fixture(autouse=True)
def in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are worked on one after another in this process instead of on Ray."""

    def results(folder: str, shards: Sequence[Shard], work: Any, pool: Any) -> Iterator[dict[str, int]]:
        for shard in shards:
            with work.open() as processor:
                yield runner._ShardTask(folder, work)._write(shard, processor, Journal(folder, shard, "job"))

    monkeypatch.setattr(runner, "_results", results)


@dataclass(frozen=True)
class Work:
    """Fails for the clips in `bad`."""

    bad: frozenset[str] = frozenset()

    @contextmanager
    def open(self) -> Iterator[Processor]:
        yield FailSome(self.bad)


class FailSome:
    schema = pa.schema([pa.field("clip_id", pa.string()), pa.field("path", pa.string())])

    def __init__(self, bad: frozenset[str]) -> None:
        self._bad = bad

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
        for row in rows:
            if row["clip_id"] in self._bad:
                yield Failure(row["clip_id"], row["path"], "bad")
            else:
                yield row


def build(
    store: Path, names: str = "abcdef", bad: str = "", source: str = "m", stamp: str = "", **more: Any
) -> Summary:
    rows = [{"clip_id": name, "path": f"/{name}.mp4"} for name in names]
    shards = plan_shards(rows, 2, "", [stamp] * len(rows))
    description = Description("clips", 2, len(shards), source, {"frames": 16})
    return build_store(store, description, shards, Work(frozenset(bad)), **more)


def clips(store: Path) -> str:
    return "".join(open_dataset(store, "clips", "make").to_table().column("clip_id").to_pylist())


def test_a_second_run_does_nothing_and_a_changed_file_only_its_shard(tmp_path: Path) -> None:
    assert build(tmp_path / "s").made == 3
    assert build(tmp_path / "s").made == 0
    assert clips(tmp_path / "s") == "abcdef"
    (tmp_path / "s" / "clips" / shard_name(1)).write_bytes(b"damaged")
    with pytest.raises(FileExistsError, match=r"2 of 3 shards of this input; go on with --resume"):
        build(tmp_path / "s")
    assert build(tmp_path / "s", resume=True).made == 1


def test_failures_are_kept_and_tried_again_on_demand(tmp_path: Path) -> None:
    assert [one.clip_id for one in build(tmp_path / "s", bad="ce").failed] == ["c", "e"]
    assert [one.clip_id for one in read_failures(tmp_path / "s")] == ["c", "e"]
    assert build(tmp_path / "s").made == 0
    again = build(tmp_path / "s", bad="e", retry_failed=True)
    assert (again.made, again.usable, [one.clip_id for one in again.failed]) == (2, 5, ["e"])
    assert clips(tmp_path / "s") == "abcdf"


def test_an_au_table_is_out_of_date_when_another_try_saves_a_clip(tmp_path: Path) -> None:
    store = str(tmp_path / "s")
    build(tmp_path / "s", bad="c")
    before = [shard.fingerprint for shard in clip_shards(store, "")]
    assert [shard.fingerprint for shard in clip_shards(store, "")] == before
    build(tmp_path / "s", retry_failed=True)
    after = [shard.fingerprint for shard in clip_shards(store, "")]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]


def test_another_input_is_refused_and_replaced_only_on_demand(tmp_path: Path) -> None:
    build(tmp_path / "s")
    for flags in ({}, {"resume": True}, {"retry_failed": True}):
        with pytest.raises(FileExistsError, match=r"the input was m and is other.*--overwrite"):
            build(tmp_path / "s", names="xy", source="other", **flags)
    assert clips(tmp_path / "s") == "abcdef"
    mine = tmp_path / "s" / "notes.txt"
    mine.write_text("mine")
    build(tmp_path / "s", names="xy", source="other", overwrite=True)
    assert clips(tmp_path / "s") == "xy"
    assert mine.read_text() == "mine"


def test_fewer_rows_leave_no_stale_shard(tmp_path: Path) -> None:
    build(tmp_path / "s")
    assert build(tmp_path / "s", names="abcd", resume=True).made == 0
    assert clips(tmp_path / "s") == "abcd"


def test_an_unfinished_store_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "s")
    monkeypatch.setattr(Journal, "close", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "s", stamp="changed", resume=True)
    with pytest.raises(ValueError, match=r"unfinished; finish it with `make \.\.\. --resume`"):
        open_dataset(tmp_path / "s", "clips", "make")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "clips"}'])
def test_a_damaged_description_is_said_and_can_be_replaced(tmp_path: Path, content: str) -> None:
    build(tmp_path / "s")
    (tmp_path / "s" / "store.json").write_text(content)
    with pytest.raises(ValueError, match=r"store\.json is damaged.*--overwrite"):
        build(tmp_path / "s")
    assert build(tmp_path / "s", overwrite=True).made == 3


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a clip store, so it is not replaced"):
        build(tmp_path, overwrite=True)


def test_deaths_are_charged_to_the_row_that_was_worked_on(tmp_path: Path) -> None:
    rows = [{"clip_id": name, "path": f"/{name}.mp4"} for name in "abc"]
    shard = plan_shards(rows, 3, "", [""] * 3)[0]

    class Killed(BaseException):
        """Stands for a process that ends."""

    class Kill(FailSome):
        def __call__(self, rows: Iterable[Row]) -> Iterator[Row | Failure]:
            wanted = list(rows)
            if any(row["clip_id"] == "b" for row in wanted):
                raise Killed
            yield from super().__call__(wanted)

    results: list[Row | Failure] = []
    for attempt in range(4):
        journal = Journal(str(tmp_path), shard, "job")
        note = journal._note
        # A process that ends does not write that it has ended.
        journal._note = lambda row, note=note: note(row) if row is not None else None  # type: ignore[method-assign]
        try:
            results = list(journal.watch(rows, Kill(frozenset())))
            break
        except Killed:
            assert attempt < 3
    assert [one.clip_id if isinstance(one, Failure) else one["clip_id"] for one in results] == list("abc")
    assert [one.clip_id for one in results if isinstance(one, Failure)] == ["b"]


def test_deaths_of_no_row_end_the_run_unless_the_driver_died_too(tmp_path: Path) -> None:
    shard = plan_shards([{"clip_id": "a", "path": "/a"}], 1, "", [""])[0]
    for job in "abcdefgh":
        Journal(str(tmp_path), shard, job)
    for _ in range(4):
        Journal(str(tmp_path), shard, "h")
    with pytest.raises(StorageError, match="its worker died 5 times while loading models or writing"):
        Journal(str(tmp_path), shard, "h")
    assert not list((tmp_path / JOURNAL).iterdir())
