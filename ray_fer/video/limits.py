"""What one media file may cost, and the one error that every unusable file ends in."""

from __future__ import annotations

import time
from dataclasses import dataclass


class MediaError(ValueError):
    """A media file or image that cannot be used. `str()` is one line: name, then reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.name, self.reason)


@dataclass(frozen=True)
class DecodeLimits:
    """What a single file may cost. Exceeding any of them raises `MediaError`.

    `max_decode_seconds` is wall-clock time of one call (of one frame in `iter_frames`). Sixteen frames that each need a
    whole group of 250 take about 12 s of one core in 1080p and 50 s in 4K, so 120 s stops only what would never end.
    """

    max_bytes: int = 2 * 1024**3
    max_seconds: float = 2 * 3600.0
    max_pixels: int = 4096 * 2304
    max_frames: int = 500_000
    max_image_bytes: int = 16 * 1024**2
    max_decode_seconds: float = 120.0


DEFAULT_LIMITS = DecodeLimits()


class Deadline:
    """Wall clock of one call: `check` raises MediaError once `seconds` have passed since `restart`."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Start counting anew."""
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        """Raise MediaError when the time is over."""
        if time.monotonic() > self._end:
            raise MediaError(
                self._name, f"reading took longer than {self._seconds:g} s; re-encode it, or raise max_decode_seconds"
            )
