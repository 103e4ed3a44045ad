"""Locations: paths and URLs, whole files or none, and what is said when something is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_fer import storage
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with S3Server() as server:
        yield server.bucket_url("files")


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else storage.join(request.getfixturevalue("bucket"), tmp_path.name)


def test_write_read_list_delete(root: str) -> None:
    one, two = storage.join(root, "clips", "one.bin"), storage.join(root, "clips", "deep", "two.bin")
    storage.write_bytes(one, b"first")
    storage.write_bytes(one, b"second")
    storage.write_bytes(two, b"x")
    assert storage.read_bytes(one) == b"second"
    assert storage.size_of(one) == 6
    assert storage.list_files(storage.join(root, "clips")) == ["one.bin"]
    assert storage.is_folder(storage.join(root, "clips"))
    assert not storage.is_folder(one)
    storage.delete_file(one)
    storage.delete_file(one)
    assert storage.size_of(one) is None
    storage.delete_folder(storage.join(root, "clips"))
    assert storage.size_of(two) is None
    storage.delete_folder(storage.join(root, "clips"))


def test_what_is_not_there(root: str) -> None:
    absent = storage.join(root, "absent")
    assert storage.size_of(absent) is None
    assert storage.list_files(absent) == []
    assert not storage.has_content(absent)
    with pytest.raises(FileNotFoundError, match=r"absent.*: no such file"):
        storage.read_bytes(absent)


def test_limits_hold_before_anything_is_read(root: str) -> None:
    location = storage.join(root, "big.bin")
    storage.write_bytes(location, bytes(100))
    with pytest.raises(storage.StorageError, match="100 bytes exceed the limit of 99"):
        storage.read_bytes(location, max_bytes=99)


def test_a_local_copy_of_a_url_is_removed(bucket: str) -> None:
    location = storage.join(bucket, "video.mp4")
    storage.write_bytes(location, b"content")
    with storage.local_copy(location, 100) as copy:
        assert copy.suffix == ".mp4"
        assert copy.read_bytes() == b"content"
    assert not copy.exists()
    with pytest.raises(storage.StorageError, match="exceed the limit of 3"), storage.local_copy(location, 3):
        pass
    with pytest.raises(FileNotFoundError, match="no such file"), storage.local_copy(f"{bucket}x", 3):
        pass


def test_stamps_change_with_the_file(root: str) -> None:
    location, absent = storage.join(root, "a.bin"), storage.join(root, "b.bin")
    storage.write_bytes(location, b"1")
    before = storage.stamps([location, absent])
    assert before[absent] == "absent"
    assert storage.stamps([location, absent]) == before
    storage.write_bytes(location, b"22")
    assert storage.stamps([location])[location] != before[location]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = tmp_path / "shard.parquet"
    storage.write_bytes(location, b"old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(storage.StorageError, match=r"shard\.parquet: cannot be written: .*No space left"):
        storage.write_bytes(location, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["shard.parquet"]
    assert location.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("location", "names", "joined"),
    [
        ("/data", ["clips", "a.parquet"], "/data/clips/a.parquet"),
        ("/data", ["/else/a.mp4"], "/else/a.mp4"),
        ("/data", ["s3://bucket/a.mp4"], "s3://bucket/a.mp4"),
        ("s3://bucket/data/", ["a.mp4"], "s3://bucket/data/a.mp4"),
        (
            "s3://bucket/data?endpoint_override=http://h:1",
            ["a", "b"],
            "s3://bucket/data/a/b?endpoint_override=http://h:1",
        ),
    ],
)
def test_joining_keeps_the_query(location: str, names: list[str], joined: str) -> None:
    assert storage.join(location, *names) == joined


def test_parents() -> None:
    assert storage.parent("/data/manifest.parquet") == "/data"
    assert storage.parent("s3://bucket/data/m.parquet?region=x") == "s3://bucket/data?region=x"


@pytest.mark.parametrize("location", ["nosuch://bucket/x", "s3://"])
def test_a_url_that_cannot_be_opened(location: str) -> None:
    with pytest.raises(storage.StorageError, match="cannot be opened"):
        storage.size_of(location)
