"""What streams the SOURCE arguments of a command name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.frame_message import MAX_STREAM_ID
from ray_fer.streaming.live_input import is_live, live_name
from ray_fer.streaming.live_source import LiveSource
from ray_fer.streaming.recorded_source import recorded_streams
from ray_fer.streaming.timetable import RecordedStream

IMAGE_FPS = 25.0


@dataclass
class Found:
    """Recorded and live streams, all with different ids; `passed_over` counts files in folders that are no streams."""

    recorded: list[RecordedStream] = field(default_factory=list)
    live: list[LiveSource] = field(default_factory=list)
    passed_over: int = 0


def find_streams(
    sources: Sequence[str],
    encoding: Encoding,
    fps: float | None = None,
    stream_id: str | None = None,
    live_start_us: int | None = None,
) -> Found:
    """The streams of files, folders, cameras (``camera:0``) and addresses.

    `fps` is the rate of image folders (default 25) and the highest of live sources (default: theirs). `stream_id` names
    the only stream there is. Raises FileNotFoundError or ValueError with what to change.
    """
    found = Found()
    for source in sources:
        if is_live(source):
            name = stream_id or live_name(source)
            found.live.append(LiveSource(source, name, encoding, fps, live_start_us))
        else:
            streams, passed_over = recorded_streams(Path(source), encoding, fps or IMAGE_FPS)
            found.recorded += streams
            found.passed_over += passed_over
    if stream_id is not None:
        found.recorded = [replace(stream, stream_id=stream_id) for stream in found.recorded]
    ids = [stream.stream_id for stream in found.recorded] + [stream.stream_id for stream in found.live]
    if stream_id is not None and len(ids) > 1:
        raise ValueError(f"--stream-id is for a single stream, and these are {len(ids)}")
    _check_ids(ids)
    return found


def _check_ids(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValueError(f"two streams would be {name!r}; send one with a command of its own and --stream-id")
        if not 0 < len(name) <= MAX_STREAM_ID or not name.isprintable():
            raise ValueError(f"{name!r} can be no stream id; give 1 to {MAX_STREAM_ID} characters with --stream-id")
        seen.add(name)
