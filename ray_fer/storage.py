"""Where datasets and results lie: folders of this machine, or object stores through pyarrow (s3://, gs://, abfs://).

A location is a path or a URL. URLs keep their query (``s3://bucket/clips?endpoint_override=http://host:9000``), which
names what pyarrow's file system needs; credentials come from the environment, as with every S3 or GCS client.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

Location = str | Path
_REQUESTS_AT_ONCE = 16
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # two letters at least: C:\ is a drive


class StorageError(ValueError):
    """A location that cannot be used; the message names it and says why."""


def is_url(location: Location) -> bool:
    """Whether a location is a URL and not a path of this machine."""
    return bool(_SCHEME.match(str(location)))


def plain(location: Location) -> str:
    """The location without a URL's query, for taking its name apart."""
    return str(location) if not is_url(location) else urlunsplit(_split(location)._replace(query=""))


def _split(location: Location) -> SplitResult:
    try:
        return urlsplit(str(location), allow_fragments=False)  # a # is part of a name
    except ValueError as error:
        raise StorageError(f"{location}: not a URL: {error}") from error


def absolute(location: Location) -> str:
    """The location as text that means the same in every working directory."""
    return str(location) if is_url(location) else os.path.abspath(location)


def join(location: Location, *names: str) -> str:
    """The location of a file below a folder; a name that is itself absolute or a URL stands for itself."""
    if is_url(names[-1]) or Path(names[-1]).is_absolute():
        return names[-1]
    if not is_url(location):
        return str(Path(location, *names))
    parts = _split(location)
    return urlunsplit(parts._replace(path="/".join([parts.path.rstrip("/"), *map(quote, names)])))


def resolve(location: Location) -> tuple[pafs.FileSystem, str]:
    """pyarrow's file system of a location and the path in it. Raises StorageError for a URL that it cannot open."""
    if not is_url(location):
        return pafs.LocalFileSystem(), str(Path(location).resolve())
    parts = _split(location)
    try:
        filesystem, root = _filesystem(urlunsplit(parts._replace(path="/")))
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{location}: cannot be opened: {_reason(error)}") from error
    return filesystem, f"{root.rstrip('/')}/{unquote(parts.path).strip('/')}".rstrip("/")


@lru_cache(maxsize=16)
def _filesystem(root: str) -> tuple[pafs.FileSystem, str]:
    return pafs.FileSystem.from_uri(root)


def parent(location: Location) -> str:
    """The folder that a location lies in."""
    if not is_url(location):
        return str(Path(location).parent)
    parts = _split(location)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").rpartition("/")[0]))


def size_of(location: Location) -> int | None:
    """Bytes of a file, None when there is no such file."""
    info = _info(location)
    return int(info.size) if info.type == pafs.FileType.File else None


def is_folder(location: Location) -> bool:
    """Whether a folder is there (in an object store: whether anything lies below it)."""
    return bool(_info(location).type == pafs.FileType.Directory)


def _info(location: Location) -> pafs.FileInfo:
    filesystem, path = resolve(location)
    try:
        return filesystem.get_file_info(path)
    except OSError as error:
        raise StorageError(f"{location}: {_reason(error)}") from error


def has_content(folder: Location) -> bool:
    """Whether anything lies in a folder."""
    filesystem, path = resolve(folder)
    try:
        return bool(filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True)))
    except OSError as error:
        raise StorageError(f"{folder}: {_reason(error)}") from error


def list_files(folder: Location) -> list[str]:
    """Names of the files directly in a folder, sorted; empty when there is none."""
    filesystem, path = resolve(folder)
    try:
        found = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    except NotADirectoryError:
        return []
    except OSError as error:
        raise StorageError(f"{folder}: {_reason(error)}") from error
    return sorted(info.base_name for info in found if info.type == pafs.FileType.File)


def stamps(locations: Iterable[Location]) -> dict[str, str]:
    """A text for each file or folder that changes when it does: size and time, of a remote folder of all its files.

    "absent" where there is nothing, "unreadable" where that cannot be told. Object stores are asked for whole folders
    at a time.
    """
    stamped: dict[str, str] = {}
    remote: dict[str, list[str]] = {}
    for location in map(str, locations):
        if is_url(location):
            try:
                remote.setdefault(parent(location), []).append(location)
            except StorageError:
                stamped[location] = "unreadable"
        else:
            stamped[location] = _local_stamp(location)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        for found in pool.map(_remote_stamps, remote, remote.values()):
            stamped |= found
    return stamped


def _local_stamp(location: str) -> str:
    try:
        status = os.stat(location)
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError):  # ValueError: a name with a zero byte, which no file can have
        return "unreadable"
    return f"{status.st_size}@{status.st_mtime_ns}"


def _remote_stamps(folder: str, locations: list[str]) -> dict[str, str]:
    try:
        filesystem, path = resolve(folder)
        infos = {info.path: info for info in _below(filesystem, path)}
        stamped = {}
        for location in locations:
            info = infos.get(resolve(location)[1])
            if info is None:
                stamped[location] = "absent"
            elif info.type == pafs.FileType.File:
                stamped[location] = _stamp(info)
            else:
                stamped[location] = " ".join(f"{one.base_name} {_stamp(one)}" for one in _below(filesystem, info.path))
        return stamped
    except (StorageError, OSError):
        return dict.fromkeys(locations, "unreadable")


def _below(filesystem: pafs.FileSystem, path: str) -> list[pafs.FileInfo]:
    return list(filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True)))


def _stamp(info: pafs.FileInfo) -> str:
    return f"{info.size}@{info.mtime_ns}"


def read_bytes(location: Location, max_bytes: int | None = None) -> bytes:
    """A whole file. Raises FileNotFoundError, or StorageError when it exceeds `max_bytes` or cannot be read."""
    filesystem, path = resolve(location)
    try:
        with filesystem.open_input_file(path) as file:
            if max_bytes is not None and file.size() > max_bytes:
                raise StorageError(f"{location}: {file.size()} bytes exceed the limit of {max_bytes}")
            return bytes(file.read())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{location}: no such file") from None
    except OSError as error:
        raise StorageError(f"{location}: {_reason(error)}") from error


def write_bytes(location: Location, data: bytes | memoryview) -> None:
    """Write a file as a whole: readers see the old one or the new one, and never a part."""
    if is_url(location):  # object stores show an object when its upload is complete
        filesystem, path = resolve(location)
        try:
            with filesystem.open_output_stream(path) as file:
                file.write(data)
        except OSError as error:
            raise StorageError(f"{location}: cannot be written: {_reason(error)}") from error
        return
    target = Path(location)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        raise StorageError(f"{location}: cannot be written: {_reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def delete_file(location: Location) -> None:
    """Delete a file that may already be gone."""
    filesystem, path = resolve(location)
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if size_of(location) is not None:
            raise StorageError(f"{location}: cannot be deleted: {_reason(error)}") from error


def delete_folder(location: Location) -> None:
    """Delete a folder and all below it; nothing happens when it is not there."""
    if not is_url(location):
        if Path(location).exists():
            shutil.rmtree(location)
        return
    filesystem, path = resolve(location)
    if is_folder(location):
        filesystem.delete_dir_contents(path, missing_dir_ok=True)


def delete_parts(folder: Location) -> None:
    """Remove what writers that were killed left of files in a folder of this machine."""
    if not is_url(folder):
        for part in Path(folder).glob(".*.part"):
            part.unlink(missing_ok=True)


@contextmanager
def local_copy(location: Location, max_bytes: int) -> Iterator[Path]:
    """A file as a path of this machine: itself, or a temporary copy of what a URL names.

    Raises FileNotFoundError or StorageError, before anything is fetched when the file exceeds `max_bytes`.
    """
    if not is_url(location):
        yield Path(location)
        return
    filesystem, path = resolve(location)
    size = size_of(location)
    if size is None:
        raise FileNotFoundError(f"{location}: no such file")
    if size > max_bytes:
        raise StorageError(f"{location}: {size} bytes exceed the limit of {max_bytes}")
    suffix = Path(path).suffix
    with tempfile.NamedTemporaryFile(prefix="ray-fer-", suffix=suffix) as copy:
        try:
            with filesystem.open_input_stream(path) as source:
                shutil.copyfileobj(source, copy, 4 * 1024**2)
        except OSError as error:
            raise StorageError(f"{location}: {_reason(error)}") from error
        copy.flush()
        yield Path(copy.name)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())
