"""Shards: even, in order, reproducible to the byte, and aware of what they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.preprocessing.shards import (
    Failure,
    default_shard_rows,
    media_stamps,
    plan_shards,
    read_written,
    shard_bytes,
    shard_name,
    shard_numbers,
)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"clip_id": f"c{number}", "path": f"/media/c{number}.mp4", "media": "video"} for number in range(count)]


@given(st.integers(1, 400), st.integers(1, 70))
def test_shards_are_even_and_keep_the_order(count: int, most: int) -> None:
    shards = plan_shards(rows(count), most, "", [""] * count)
    sizes = [len(shard.rows) for shard in shards]
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1
    assert len(shards) == -(-count // most)
    assert [row for shard in shards for row in shard.rows] == rows(count)
    assert [shard.number for shard in shards] == list(range(len(shards)))


def test_a_fingerprint_changes_with_rows_options_and_media() -> None:
    def fingerprints(content: list[dict[str, Any]], options: str = "a", stamp: str = "1") -> list[str]:
        return [shard.fingerprint for shard in plan_shards(content, 2, options, [stamp, "1", "1", "1"])]

    first = fingerprints(rows(4))
    assert fingerprints(rows(4)) == first
    assert fingerprints(rows(4), options="b") != first
    changed = fingerprints(rows(4), stamp="2")
    assert changed[0] != first[0]
    assert changed[1] == first[1]
    relabelled = [row | {"label": "Happy"} if row["clip_id"] == "c3" else row for row in rows(4)]
    assert [a == b for a, b in zip(fingerprints(relabelled), first, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("clips", "cpus", "expected"), [(10, 2, 1), (168, 2, 11), (500, 2, 32), (16_000, 64, 32), (16_000, 8, 64)]
)
def test_shard_sizes_keep_all_cpus_busy(clips: int, cpus: float, expected: int) -> None:
    assert default_shard_rows(clips, cpus) == expected


def test_stamps_follow_the_media(tmp_path: Path) -> None:
    video, folder = tmp_path / "a.mp4", tmp_path / "frames"
    video.write_bytes(b"1")
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"1")
    manifest = [
        {"path": str(video), "media": "video"}, {"path": str(folder), "media": "frames"},
        {"path": str(tmp_path / "absent.png"), "media": "image"},
    ]  # fmt: skip
    before = media_stamps(manifest)
    assert media_stamps(manifest) == before
    video.write_bytes(b"22")
    (folder / "2.jpg").write_bytes(b"1")
    after = media_stamps(manifest)
    assert [a == b for a, b in zip(after, before, strict=True)] == [False, False, True]


def test_a_written_shard_tells_what_it_is(tmp_path: Path) -> None:
    shard = plan_shards(rows(2), 2, "", ["", ""])[0]
    table = pa.Table.from_pylist([{"clip_id": "c0", "x": [1.0, 2.0]}])
    failures = [Failure("c1", "/media/c1.mp4", 'damaged: "ü"')]
    data = bytes(shard_bytes(table, shard, failures))
    assert bytes(shard_bytes(table, shard, failures)) == data
    assert bytes(shard_bytes(table, replace(shard, fingerprint="other"), failures)) != data
    (tmp_path / shard_name(7)).write_bytes(data)
    written = read_written(str(tmp_path), 7)
    assert written is not None
    assert (written.fingerprint, written.rows, written.failures) == (shard.fingerprint, 1, failures)
    assert pq.read_table(tmp_path / shard_name(7)).to_pylist() == table.to_pylist()
    assert shard_numbers(str(tmp_path)) == [7]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_what_is_no_shard_of_ours_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / shard_name(0)).write_bytes(content)
    assert read_written(str(tmp_path), 0) is None
    assert read_written(str(tmp_path), 1) is None
    pq.write_table(pa.table({"a": [1]}), tmp_path / shard_name(1))
    assert read_written(str(tmp_path), 1) is None
