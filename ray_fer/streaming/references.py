"""Payloads by reference ("claim check"): a record may hold a URI in the place of a picture too big for Kafka.

Whoever can write to the topic chooses the URI, so nothing is readable unless the deployment lists the folder it lies
in. The listed prefix opens the file system (its query may name an endpoint, the environment holds credentials); of the
URI only the path below the prefix is used.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ray_fer.video.limits import MediaError

SCHEMES = ("file", "s3", "gs")
MAX_URI_CHARACTERS = 2048

# What the stores' own libraries say when they got no answer (AWS: curl's errors; HTTP 408, 429 and 5xx; gRPC's names).
_NO_ANSWER = re.compile(
    r"NETWORK_CONNECTION|curlCode|HTTP status (408|429|5\d\d)|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|"
    r"INTERNAL_FAILURE|REQUEST_TIMEOUT|Status\((UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL)"
)
_NO_DISK = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE}


class StoreAwayError(Exception):
    """The store does not answer now, or cannot be opened, whatever file is asked for: no fault of the reference.

    Not a MediaError, which would bury a good reference, and no OSError, which says something about one file. Whoever
    fetches tries again later, for as long as it takes.
    """


class ReferencePolicy(BaseModel):
    """Which references a deployment follows. The default follows none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefixes: list[str] = Field(
        default_factory=list,
        description="folders that references may point into: /data/frames, s3://bucket/frames, gs://bucket/frames",
    )
    max_bytes: int = Field(64 * 1024**2, gt=0, description="size of the largest file that is fetched")

    @field_validator("prefixes")
    @classmethod
    def _usable(cls, prefixes: list[str]) -> list[str]:
        for prefix in prefixes:
            _folder(prefix)
        return prefixes


def uri_error(uri: str) -> str | None:
    """Why a text is no URI that a reference may be; None when it is one. Says nothing about who may read it."""
    if not 0 < len(uri) <= MAX_URI_CHARACTERS:
        return f"a reference must have 1 to {MAX_URI_CHARACTERS} characters, got {len(uri)}"
    if any(character <= " " or character == "\x7f" for character in uri):
        return "a reference must not hold blanks or control characters; write them as %20 and the like"
    try:
        parts = urlsplit(uri, allow_fragments=False)
    except ValueError as error:
        return f"the reference is no URI: {error}"
    if not parts.scheme:
        return "the reference has no scheme; write file:///path, s3://bucket/key or gs://bucket/key"
    if parts.query:
        return "the reference has a query; write a question mark in a name as %3F"
    return None


def locate(uri: str, policy: ReferencePolicy) -> tuple[str, tuple[str, ...]]:
    """The allowed prefix that a URI lies below, and the names from there on; nothing is opened.

    Raises MediaError for a URI that lies below none, or whose path, percent-decoded, has empty, ``.`` or ``..`` names.
    """
    wrong = uri_error(uri)
    if wrong:
        raise MediaError(uri, wrong)
    place = _place(uri)
    if any(name in ("", ".", "..") or "\0" in name for name in place.names):
        raise MediaError(uri, "the reference has an empty, . or .. name in its path; give the plain path")
    for prefix in policy.prefixes:
        folder = _folder(prefix)
        depth = len(folder.names)
        if folder == (place.scheme, place.host, place.names[:depth]) and len(place.names) > depth:
            return prefix, place.names[depth:]
    raise MediaError(uri, "the reference is not below an allowed prefix; add it with --allow-reference")


def fetch(uri: str, policy: ReferencePolicy) -> bytes:
    """The file that a URI names.

    Raises MediaError when the policy forbids it, or when it cannot be read: it does not exist, may not be read, is too
    large. Raises StoreAwayError when the store does not answer.

    A local file must be a regular one and, with all links followed, lie below its prefix. No more than the policy's
    `max_bytes` are kept.
    """
    prefix, names = locate(uri, policy)
    folder = _folder(prefix)
    try:
        if folder.scheme == "file":
            return _read_local(uri, "/" + "/".join(folder.names), names, policy.max_bytes)
        with _store(prefix).open_input_file("/".join([folder.host, *folder.names, *names])) as file:
            _check_size(uri, file.size(), policy.max_bytes)
            return bytes(file.read(policy.max_bytes))
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(uri, "the referenced file does not exist") from None
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        # Without the name, which its sender chose, and could choose to look like an answer that is missing.
        said = str(error).replace("/".join([*folder.names, *names]), "")
        if getattr(error, "errno", None) in _NO_DISK or _NO_ANSWER.search(said):
            raise StoreAwayError(f"{uri}: the store does not answer: {text}") from error
        raise MediaError(uri, f"the referenced file cannot be read: {text}") from error


@lru_cache(maxsize=16)
def _store(prefix: str) -> pafs.FileSystem:
    try:
        return pafs.FileSystem.from_uri(prefix)[0]
    except (OSError, pa.ArrowException) as error:  # whose text may hold credentials, which are no sender's business
        name = urlsplit(prefix).hostname  # the bucket
        raise StoreAwayError(f"the store of {name} cannot be opened; correct --allow-reference") from error


def _read_local(uri: str, prefix: str, names: tuple[str, ...], max_bytes: int) -> bytes:
    root = os.path.realpath(prefix)
    real = os.path.realpath(os.path.join(root, *names))
    if os.path.commonpath([root, real]) != root:
        raise MediaError(uri, "the reference leads out of its allowed prefix through a link")
    with ExitStack() as opened:
        # From folder to folder and through no link: what was checked is what is opened, whoever renames things now.
        here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, here)
        *folders, name = os.path.relpath(real, root).split(os.sep)
        for folder in folders:
            here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            opened.callback(os.close, here)
        # Without blocking: opening a pipe would wait for its other end.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        opened.callback(os.close, file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(uri, "the reference is no regular file but a folder, device, pipe or socket")
        _check_size(uri, status.st_size, max_bytes)
        with os.fdopen(file, "rb", closefd=False) as source:
            data = source.read(max_bytes + 1)
    _check_size(uri, len(data), max_bytes)  # it may have grown
    return data


def _check_size(uri: str, size: int, max_bytes: int) -> None:
    if size == 0:
        raise MediaError(uri, "the referenced file is empty")
    if size > max_bytes:
        raise MediaError(
            uri,
            f"the referenced file has {size / 1e6:.3g} MB, more than {max_bytes / 1e6:.3g} MB; shrink it, or raise the "
            "limit of references",
        )


class _Place(NamedTuple):
    """A URI taken apart: `host` is the bucket of an object store, `names` are percent-decoded."""

    scheme: str
    host: str
    names: tuple[str, ...]


def _place(uri: str) -> _Place:
    parts = urlsplit(uri, allow_fragments=False)
    host = "" if (parts.scheme, parts.netloc) == ("file", "localhost") else parts.netloc
    return _Place(parts.scheme, host, tuple(unquote(parts.path).removeprefix("/").split("/")))


def _folder(prefix: str) -> _Place:
    """Where an allowed prefix is. Raises ValueError."""
    place = _Place("file", "", tuple(prefix[1:].split("/"))) if prefix.startswith("/") else _place(prefix)
    if place.scheme not in SCHEMES:
        raise ValueError(f"{prefix}: not an absolute path or a URL of {', '.join(SCHEMES)}")
    host = place.host.rpartition("@")[2]  # credentials before a bucket's name belong to the prefix alone
    if (place.scheme == "file") == bool(host):
        raise ValueError(f"{prefix}: {'names a host' if host else 'names no bucket'}")
    names = place.names[:-1] if place.names[-1] == "" else place.names
    if any(name in ("", ".", "..") for name in names):
        raise ValueError(f"{prefix}: an empty, . or .. name in its path; give the plain path")
    return _Place(place.scheme, host, names)
