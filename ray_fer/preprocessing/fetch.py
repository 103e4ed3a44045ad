"""Media of a manifest row as files of this machine: as they lie, or fetched from an object store for the moment."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ray_fer import storage
from ray_fer.preprocessing.shards import Row
from ray_fer.video.frame_folder import is_frame
from ray_fer.video.limits import DEFAULT_LIMITS, MediaError


@contextmanager
def local_media(row: Row) -> Iterator[Row]:
    """The row with a path of this machine. Raises MediaError that names what the manifest names."""
    location = row["path"]
    if not storage.is_url(location):
        yield row
        return
    with ExitStack() as stack:
        try:
            if row["media"] == "frames":
                path = stack.enter_context(_frames(location))
            else:
                limit = DEFAULT_LIMITS.max_bytes if row["media"] == "video" else DEFAULT_LIMITS.max_image_bytes
                path = stack.enter_context(storage.local_copy(location, limit))
        except FileNotFoundError:
            raise MediaError(location, "no such file") from None
        except storage.StorageError as error:
            raise MediaError(location, str(error).removeprefix(f"{location}: ")) from error
        try:
            yield row | {"path": str(path)}
        except MediaError as error:  # name what the user knows, not the copy
            raise MediaError(location, error.reason) from error


@contextmanager
def _frames(location: str) -> Iterator[Path]:
    folder, patterns = location, ["*"]
    if not storage.is_folder(location):  # several clips share a folder: the last part is file names with | between them
        folder = storage.parent(location)
        patterns = storage.resolve(location)[1].rpartition("/")[2].split("|")
    names = [
        name
        for name in storage.list_files(folder)
        if is_frame(Path(name)) and any(fnmatch.fnmatch(name, one) for one in patterns)
    ]
    with tempfile.TemporaryDirectory(prefix="ray-fer-", ignore_cleanup_errors=True) as copy:
        for name in names:
            data = storage.read_bytes(storage.join(folder, name), DEFAULT_LIMITS.max_image_bytes)
            Path(copy, name).write_bytes(data)
        yield Path(copy)
