"""Payloads by reference: what a sender may make the program read, and above all what not."""

from __future__ import annotations

import errno
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_fer import storage
from ray_fer.streaming.payload import Payload, PictureRequest, decode
from ray_fer.streaming.references import ReferencePolicy, StoreAwayError, fetch, locate
from ray_fer.video.limits import MediaError
from tests.s3_server import S3Server

SECRET = b"secret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed folder `frames` with files that hold their own path in it, among files that hold a secret."""
    root = tmp_path_factory.mktemp("data")
    frames = root / "frames"
    for name in ("a", "b/a", "b/b/a", "%2e%2e"):
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        (frames / name).write_bytes(name.encode())
    for name in ("a", "b/a", "frames-secret/a", "framesa"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(SECRET)
    (frames / "inside").symlink_to(frames / "b")
    (frames / "outside").symlink_to(root)
    (frames / "up").symlink_to("../a")
    (frames / "loop").symlink_to("loop")
    return frames


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with S3Server() as server:
        yield server.bucket_url("files")


def refused(uri: str, policy: ReferencePolicy) -> str:
    """The reason for which a reference is not followed."""
    with pytest.raises(MediaError) as caught:
        fetch(uri, policy)
    return caught.value.reason


PIECES = [
    "a",
    "b",
    "..",
    ".",
    "",
    "%2e%2e",
    "%2E.",
    "%2f",
    "%252e%252e",
    "inside",
    "outside",
    "up",
    "loop",
    "%00",
    "\\",
]


@given(
    st.lists(st.sampled_from([*PIECES, "frames", "frames-secret"]), max_size=6),
    st.sampled_from(
        ["file://{frames}/", "file://localhost{frames}/", "file://{frames}", "file://{frames}/../", "{frames}/"]
    ),
    st.sampled_from(["{frames}", "{frames}/", "file://{frames}/"]),
)
@example(["up"], "file://{frames}/", "{frames}")
@example(["outside", "a"], "file://{frames}/", "{frames}")
@example(["..", "frames-secret", "a"], "file://{frames}/", "{frames}")
@example(["-secret", "a"], "file://{frames}", "{frames}")
def test_no_path_leads_out_of_an_allowed_folder(folder: Path, pieces: list[str], start: str, prefix: str) -> None:
    policy = ReferencePolicy(prefixes=[prefix.format(frames=folder)])
    try:
        data = fetch(start.format(frames=folder) + "/".join(pieces), policy)
    except MediaError:
        return
    assert data != SECRET
    assert (folder / data.decode()).is_file()


def test_files_below_an_allowed_folder_are_read(folder: Path) -> None:
    for prefix in (str(folder), f"{folder}/", f"file://{folder}", f"file://{folder}/"):
        policy = ReferencePolicy(prefixes=["/elsewhere", prefix])
        assert fetch(f"file://{folder}/b/b/a", policy) == b"b/b/a"
        assert fetch(f"FILE://localhost{folder}/a", policy) == b"a"
        assert fetch(f"file://{folder}/inside/a", policy) == b"b/a"
        assert fetch(f"file://{folder}/%252e%252e", policy) == b"%2e%2e"


names = st.text("ab.%/?#ü \\", min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=4), st.lists(names, min_size=1, max_size=4))
def test_below_means_below_name_by_name(prefix: list[str], names: list[str]) -> None:
    """`locate` against comparing the decoded names; the store is S3, which has no folders and follows no links."""
    parts = [part for part in "/".join(prefix).split("/") if part not in ("", ".", "..")]
    policy = ReferencePolicy(prefixes=["s3://bucket/" + "/".join(map(quote, parts))])
    wanted = "/".join(names).split("/")
    uri = "s3://bucket/" + "/".join(map(quote, wanted))
    plain = not {"", ".", ".."} & set(wanted)
    if plain and len(wanted) > len(parts) and wanted[: len(parts)] == parts:
        assert locate(uri, policy) == (policy.prefixes[0], tuple(wanted[len(parts) :]))
    else:
        with pytest.raises(MediaError):
            locate(uri, policy)
    below = "/".join(map(quote, [*parts, "x"]))
    assert locate(f"s3://bucket/{below}", policy)[1] == ("x",)


def test_refusals_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    policy = ReferencePolicy(prefixes=[str(folder), str(tmp_path), "s3://bucket/frames"], max_bytes=2_000_000)
    os.mkfifo(tmp_path / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    (tmp_path / "empty").touch()
    (tmp_path / "big").write_bytes(b"\0" * 12_000_000)
    for uri, reason in (
        ("file:///etc/passwd", "not below an allowed prefix; add it with --allow-reference"),
        ("http://127.0.0.1/frames/a", "not below an allowed prefix"),
        ("s3://other/frames/a", "not below an allowed prefix"),
        ("s3://key:password@bucket/frames/a", "not below an allowed prefix"),
        ("gs://bucket/frames/a", "not below an allowed prefix"),
        ("s3://bucket/frames", "not below an allowed prefix"),
        (f"file://server{folder}/a", "not below an allowed prefix"),
        (f"{folder}/a", "has no scheme; write file:///path"),
        ("s3://bucket/frames/a?endpoint_override=evil", "has a query"),
        ("s3://bucket/frames//a", "empty, . or .. name"),
        (f"file://{folder}/absent", "does not exist"),
        (f"file://{folder}/a/b", "does not exist"),
        (f"file://{folder}/up", "leads out of its allowed prefix through a link"),
        (f"file://{folder}/loop", "cannot be read"),
        (f"file://{folder}/{'n' * 300}", "cannot be read"),
        (f"file://{folder}/b", "is no regular file but a folder"),
        (f"file://{tmp_path}/pipe", "is no regular file"),
        (f"file://{tmp_path}/empty", "is empty"),
        (f"file://{tmp_path}/big", "has 12 MB, more than 2 MB"),
    ):
        assert reason in refused(uri, policy), uri
    assert "cannot be read" in refused(f"file://{tmp_path}/socket", policy)
    listener.close()
    assert "not below an allowed prefix" in refused(f"file://{folder}/a", ReferencePolicy())


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("http://host/frames", "not an absolute path or a URL of file, s3, gs"),
        ("frames", "not an absolute path"),
        ("", "not an absolute path"),
        ("s3:///frames", "names no bucket"),
        ("file://host/frames", "names a host"),
        ("/data/../etc", "an empty, . or .. name"),
        ("s3://bucket/a/%2e%2e/b", "an empty, . or .. name"),
        ("/data//frames", "an empty, . or .. name"),
    ],
)
def test_a_prefix_that_says_nothing_sure_is_refused(prefix: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ReferencePolicy(prefixes=[prefix])


def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check of the path and its opening, somebody else puts a link there."""
    (tmp_path / "frames" / "b").mkdir(parents=True)
    (tmp_path / "frames" / "b" / "a").write_bytes(b"good")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a").write_bytes(SECRET)
    policy = ReferencePolicy(prefixes=[f"{tmp_path}/frames"])
    commonpath = os.path.commonpath

    def swap(paths: list[str]) -> str:
        (tmp_path / "frames" / "b").rename(tmp_path / "moved")
        (tmp_path / "frames" / "b").symlink_to(tmp_path / "secret")
        return commonpath(paths)

    monkeypatch.setattr(os.path, "commonpath", swap)
    assert "does not exist" in refused(f"file://{tmp_path}/frames/b/a", policy)


def test_objects_of_a_store_are_read_with_the_query_of_the_prefix(bucket: str) -> None:
    prefix = storage.join(bucket, "frames")
    policy = ReferencePolicy(prefixes=[prefix], max_bytes=100)
    storage.write_bytes(storage.join(prefix, "day 1", "a.jpg"), b"x" * 100)
    storage.write_bytes(storage.join(prefix, "big.jpg"), b"x" * 101)
    storage.write_bytes(storage.join(bucket, "secret.jpg"), SECRET)
    assert fetch("s3://files/frames/day%201/a.jpg", policy) == b"x" * 100
    assert "more than" in refused("s3://files/frames/big.jpg", policy)
    assert "does not exist" in refused("s3://files/frames/absent.jpg", policy)
    assert "does not exist" in refused("s3://files/frames/day%201", policy)
    assert "empty, . or .. name" in refused("s3://files/frames/../secret.jpg", policy)
    assert "not below an allowed prefix" in refused("s3://files/secret.jpg", policy)


def test_a_store_that_cannot_be_opened_tells_no_secret_of_its_prefix() -> None:
    prefix = "s3://name:hunter2@files/frames?scheme=http&region=us-east-1&nonsense=hunter2"
    assert urlsplit(prefix).password == "hunter2"
    with pytest.raises(StoreAwayError) as caught:
        fetch("s3://files/frames/a.jpg", ReferencePolicy(prefixes=[prefix]))
    assert str(caught.value) == "the store of files cannot be opened; correct --allow-reference"


class _Answering(http.server.BaseHTTPRequestHandler):
    """A store that has one answer to everything."""

    status = 500

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[http.server.HTTPServer, str]]:
    """Such a store, and the prefix of it that is allowed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host, port = server.server_address[:2]
    yield server, f"s3://files/frames?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("status", "away"), [(503, True), (429, True), (400, False), (403, False), (404, False)])
def test_a_store_that_is_away_is_told_from_a_file_that_cannot_be_read(
    store: tuple[http.server.HTTPServer, str], monkeypatch: pytest.MonkeyPatch, status: int, away: bool
) -> None:
    monkeypatch.setattr(_Answering, "status", status)
    policy = ReferencePolicy(prefixes=[store[1]])
    # Its sender may call a file what the store says when it is away.
    uri = "s3://files/frames/" + quote("AWS Error NETWORK_CONNECTION (HTTP status 500) curlCode")
    with pytest.raises(StoreAwayError if away else MediaError):
        fetch(uri, policy)


def test_a_store_that_refuses_connections_is_away(store: tuple[http.server.HTTPServer, str]) -> None:
    store[0].shutdown()
    store[0].server_close()
    policy = ReferencePolicy(prefixes=[store[1]])
    with pytest.raises(StoreAwayError, match=r"s3://files/frames/a.jpg: the store does not answer"):
        list(decode(PictureRequest(Payload("image/jpeg", b"", "s3://files/frames/a.jpg"), (0,)), policy))


def test_a_disk_that_is_away_is_told_from_a_file_that_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmounted(*_: object, **__: object) -> int:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "open", unmounted)
    with pytest.raises(StoreAwayError):
        fetch(f"file://{folder}/a", ReferencePolicy(prefixes=[str(folder)]))
