"""What a worker remembers of a partition, and how it survives a crash.

Committed with every transaction, for each partition:

* the **offset** of the oldest frame that an open window still needs (or, with nothing buffered, the next record), so
  that whoever reads on from it can rebuild every open window;
* as the offset's **metadata**, `handled`, the next record that had not been looked at, and for each stream the index
  of its next window.

After a restart the records from the committed offset to `handled` are read again. They refill the buffers, but what
they led to is in the log already: a window below the stream's next index is not given out again, and a bad or late
record below `handled` is not sent to the dead-letter topic again. Predictions, dead letters, offset and metadata are
one transaction, so either all of this is visible or none of it is.

A broker accepts 4,096 bytes of metadata by default, enough for about 100 streams per partition. The embedded broker
gives no metadata back: there a restart loses nothing, but repeats windows.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

from ray_fer.streaming.windows import StreamWindows, WindowConfig

_LOG = logging.getLogger(__name__)
_METADATA_LIMIT = 4000


@dataclass
class PartitionProgress:
    """Streams of one partition. `handled` is the next offset to look at for the first time."""

    handled: int = 0
    streams: dict[str, StreamWindows] = field(default_factory=dict)
    next_index: dict[str, int] = field(default_factory=dict)
    idle_s: dict[str, float] = field(default_factory=dict)
    """Seconds without a frame, counted only while the partition was being read to its end."""

    def windows_of(self, stream_id: str, config: WindowConfig) -> StreamWindows:
        """The stream's windows, opened at its next index if it is new or was closed for silence."""
        if stream_id not in self.streams:
            self.streams[stream_id] = StreamWindows(stream_id, config, self.next_index.get(stream_id))
        return self.streams[stream_id]

    def close(self, stream_id: str) -> None:
        """Forget the buffer of a silent stream; its next window index stays known."""
        windows = self.streams.pop(stream_id)
        self.idle_s.pop(stream_id, None)
        if windows.next_index is not None:
            self.next_index.pop(stream_id, None)  # put it last: the oldest streams are forgotten first
            self.next_index[stream_id] = windows.next_index

    def commit_offset(self) -> int:
        """The offset that may be committed: nothing an open window needs lies before it."""
        needed = [offset for windows in self.streams.values() if (offset := windows.oldest_offset()) is not None]
        return min([self.handled, *needed])

    def metadata(self) -> str:
        """`handled` and the next window indices as compact JSON."""
        indices = dict(self.next_index)
        for stream_id, windows in self.streams.items():
            if windows.next_index is not None:
                indices.pop(stream_id, None)
                indices[stream_id] = windows.next_index
        text = _dump(self.handled, indices)
        while len(text.encode()) > _METADATA_LIMIT and indices:
            forgotten = next(iter(indices))
            del indices[forgotten]
            self.next_index.pop(forgotten, None)
            _LOG.warning(
                "stream %s is no longer remembered: more streams in a partition than its metadata holds", forgotten
            )
            text = _dump(self.handled, indices)
        return text


def restore(offset: int, metadata: str | None) -> PartitionProgress:
    """Progress from a committed offset and its metadata; metadata of another program is ignored with a warning."""
    if not metadata:
        return PartitionProgress(handled=offset)
    try:
        content = json.loads(metadata)
        indices = {str(name): int(index) for name, index in content["next"].items()}
        return PartitionProgress(handled=max(offset, int(content["handled"])), next_index=indices)
    except (ValueError, KeyError, TypeError, AttributeError):
        _LOG.warning("committed metadata %r is not ours; starting from offset %d without it", metadata[:80], offset)
        return PartitionProgress(handled=offset)


def _dump(handled: int, indices: dict[str, int]) -> str:
    return json.dumps({"handled": handled, "next": indices}, separators=(",", ":"))
