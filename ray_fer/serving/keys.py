"""API keys: a file that knows only their hashes, and how many requests each may make.

A key is 32 random bytes, so a plain SHA-256 of it cannot be turned back: no list of words holds it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import stat
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_LOG = logging.getLogger(__name__)
_PREFIX = "rf_"
"""By which people, and programs that look for secrets in code, know a key when they see one."""
_LOOK_EVERY_S = 1.0


class KeyEntry(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime
    per_minute: int | None = Field(None, ge=1, description="requests that it may make; None for any number")


class KeyFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry] = Field(default_factory=list)


def read_keys(path: Path) -> list[KeyEntry]:
    """The entries of a file. Raises ValueError that names it, FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of keys; `ray-fer keys create NAME --file {path}` makes it")
    try:
        return KeyFile.model_validate_json(path.read_bytes()).keys
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise ValueError(f"{path} is no file of API keys: {where}: {first['msg']}") from None


def add_key(path: Path, name: str, per_minute: int | None = None) -> str:
    """Make a key and put its hash into the file, which is made if missing; the key itself is nowhere but here.

    Raises ValueError for a name that has a key already.
    """
    entries = read_keys(path) if path.exists() else []
    if any(entry.name == name for entry in entries):
        raise ValueError(f"{path}: {name!r} has a key already; remove it first, or choose another name")
    key = _PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).replace(microsecond=0)
    _write(path, [*entries, KeyEntry(name=name, sha256=_hash(key), created=created, per_minute=per_minute)])
    return key


def remove_key(path: Path, name: str) -> None:
    """Take a key out of the file; whoever serves notices within a second. Raises ValueError for an unknown name."""
    entries = read_keys(path)
    left = [entry for entry in entries if entry.name != name]
    if len(left) == len(entries):
        raise ValueError(f"{path}: no key is named {name!r}; `ray-fer keys list --file {path}` shows all")
    _write(path, left)


class KeyRing:
    """The keys of a file, as it is now: a key that is removed ends within a second, without a restart.

    A file that cannot be read any more lets nobody in, rather than those whom it named before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._entries = read_keys(path)
        self._seen = self._changed()
        self._looked_at = time.monotonic()
        if path.stat().st_mode & stat.S_IROTH:
            _LOG.warning("%s can be read by other users of this machine; `chmod 600 %s` mends it", path, path)

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """The keys of a file. Raises ValueError, FileNotFoundError."""
        return cls(path)

    def check(self, key: str) -> KeyEntry | None:
        """Whose key it is; None if nobody's. It takes the same time whether and where it is found."""
        self._look()
        digest, found = _hash(key), None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found

    def knows(self, entry: KeyEntry) -> bool:
        """Whether an entry that was let in is still in the file."""
        self._look()
        return any(one.sha256 == entry.sha256 for one in self._entries)

    def spend(self, entry: KeyEntry) -> int:
        """Count a request; 0 when it may go on, or the seconds until the key may be used again.

        Each replica counts its own, so that several give a key as many times as much.
        """
        if entry.per_minute is None:
            return 0
        item = RateLimitItemPerMinute(entry.per_minute)
        if self._limiter.hit(item, entry.sha256):
            return 0
        return max(1, math.ceil(self._limiter.get_window_stats(item, entry.sha256).reset_time - time.time()))

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        changed = self._changed()
        if changed == self._seen:
            return
        self._seen = changed
        try:
            self._entries = read_keys(self._path)
        except (OSError, ValueError) as error:
            self._entries = []
            _LOG.error("nobody is let in any more: %s", error)

    def _changed(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _write(path: Path, entries: list[KeyEntry]) -> None:
    """All or nothing, and readable by its owner alone."""
    content = json.dumps(KeyFile(keys=entries).model_dump(mode="json"), indent=1) + "\n"
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
