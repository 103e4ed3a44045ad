"""What a worker remembers of a partition, and why nothing is lost or repeated when it dies.

Committed in every transaction, together with predictions and dead letters:

* the **offset** of the oldest frame that an open window of any stream still needs (or, with nothing buffered, the next
  record), so that whoever reads on from it finds all frames of every open window;
* as the offset's **metadata**, `handled`: the next record that had not been looked at;
* into a compacted **state topic**, for each stream whose windows were given out or that began a session, a record of
  its sessions: next window, first frame still needed, what was seen before that frame, and which of the records still
  needed were reported as undecodable (`sessions`, `windows`).

Why that is enough. Which windows are sealed when, and which frames they hold, depends on the order of the log alone
(`windows`). So reading on from the committed offset makes every open window again as it was. Records below `handled`
lead to nothing new: their dead letters are in the log, and windows below a session's next index are not given out
again. Records that are missing from the part read again belong to no open window, or they would have been needed. As
all of it is one transaction, a reader of committed records sees either none or all of what a record led to.

Why the state that is read is the latest. A transaction that writes state of a partition also commits its offset. A new
owner asks for the stable offset first, which the broker gives only when no transaction on it is pending, and no older
member's can follow, because the group's generation fences it. Then the owner reads the state partition to its last
record, committed or not, which waits for the marker of any transaction that ended (`state_topic`).

Streams that fell silent keep a few numbers in memory, and are forgotten after `forget_after` when no record of theirs
can be read again. If they come back they begin a new session.

The embedded broker gives no metadata back; there `handled` is what the streams' records say, so that a restart loses
nothing, but may repeat the newest dead letters.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping

from ray_fer.streaming.sessions import Remembered, Stream, recall
from ray_fer.streaming.windows import BufferedFrame, Verdict, Window, WindowConfig

_LOG = logging.getLogger(__name__)


class PartitionProgress:
    """Streams of one partition. `handled` is the next offset to look at for the first time.

    `remembered` are the records of the state topic: stream id -> bytes. Bytes that are not ours are told and ignored.
    """

    def __init__(
        self,
        config: WindowConfig,
        handled: int = 0,
        remembered: Mapping[str, bytes] | None = None,
        offset: int | None = None,
    ) -> None:
        self._config = config
        self._offset = handled if offset is None else offset
        self._looked_s = 0.0
        self._live: dict[str, Stream] = {}
        self._idle: OrderedDict[str, tuple[Stream, float]] = OrderedDict()
        self._last_frame_s: dict[str, float] = {}
        self._forgotten: set[str] = set()
        known: dict[str, Remembered] = {}
        for stream_id, state in (remembered or {}).items():
            try:
                known[stream_id] = recall(state)
                handled = max(handled, known[stream_id].handled)
            except ValueError as error:
                _LOG.warning("stream %s begins a new session: %s", stream_id, error)
        self.handled = self._since = handled
        self._caught_up = False
        for stream_id, one in known.items():
            self._idle[stream_id] = (Stream(stream_id, config, handled, one), 0.0)

    def first_time(self, offset: int) -> bool:
        """Whether the record was not looked at before; it is from now on."""
        new = offset >= self.handled
        self.handled = max(self.handled, offset + 1)
        if new:
            self._catch_up()
        return new

    def add(self, stream_id: str, frame: BufferedFrame) -> Verdict:
        """Give a frame to its stream, which is opened or woken where needed."""
        stream = self._live.get(stream_id)
        if stream is None:
            idle = self._idle.pop(stream_id, None)
            stream = Stream(stream_id, self._config, self._since) if idle is None else idle[0]
            self._live[stream_id] = stream
            self._forgotten.discard(stream_id)
        self._last_frame_s[stream_id] = self._looked_s
        return stream.add(frame)

    def report(self, stream_id: str, offset: int) -> bool:
        """As `Stream.report`."""
        stream = self._live.get(stream_id) or self._idle[stream_id][0]
        return stream.report(offset)

    def looked(self, seconds: float) -> None:
        """Frames were looked for, for so long, and there were none: silent streams are closed, old ones forgotten."""
        self._catch_up()
        self._looked_s += seconds
        for stream_id, stream in list(self._live.items()):
            if self._looked_s - self._last_frame_s[stream_id] <= self._config.idle_timeout:
                continue
            stream.silence()
            if not stream.waiting():
                del self._live[stream_id], self._last_frame_s[stream_id]
                self._idle[stream_id] = (stream, self._looked_s)
        self._forget_old()

    def _forget_old(self) -> None:
        old = []
        for stream_id, (stream, since) in self._idle.items():
            if self._looked_s - since <= self._config.forget_after:
                break
            old.append((stream_id, stream))
        # Asked only where it matters: it walks over all that is buffered, and frames are looked for all the time.
        offset = self.commit_offset() if old else 0
        for stream_id, stream in old:
            if stream.last_offset >= offset:
                break
            del self._idle[stream_id]
            self._forgotten.add(stream_id)

    def ready(self, limit: int) -> list[Window]:
        """At most `limit` sealed windows, each stream's in order; streams take turns at going first.

        None before all records that were looked at before have been read again.
        """
        windows: list[Window] = []
        for stream_id, stream in list(self._live.items()) if self._caught_up else ():
            if len(windows) == limit:
                break
            if stream.waiting():
                windows += stream.ready(limit - len(windows))
                self._live[stream_id] = self._live.pop(stream_id)
        return windows

    def waiting(self) -> int:
        """How many windows `ready` could give."""
        return sum(stream.waiting() for stream in self._live.values()) if self._caught_up else 0

    def streams(self) -> tuple[int, int]:
        """How many streams are live, and how many are silent and remembered."""
        return len(self._live), len(self._idle)

    def held(self) -> tuple[int, int]:
        """How many frames are in memory, and how many bytes their payloads have. Walks over all of them."""
        held = [stream.held() for stream in self._live.values()]
        return sum(frames for frames, _ in held), sum(size for _, size in held)

    def commit_offset(self) -> int:
        """The offset that may be committed: nothing an open window needs lies before it.

        As long as the part that is read again is not through, that is where it began: frames of streams that have not
        come up yet may lie anywhere in it.
        """
        if not self._caught_up:
            return self._offset
        needed = [offset for stream in self._live.values() if (offset := stream.needed()) is not None]
        return min([self.handled, *needed])

    def metadata(self) -> str:
        """`handled`, as compact JSON."""
        return json.dumps({"handled": self.handled}, separators=(",", ":"))

    def take_changes(self) -> dict[str, bytes | None]:
        """What the state topic must be told with this commit: None for a stream that is forgotten.

        It is not given again: whoever cannot commit it has to read on from the last commit.
        """
        told: dict[str, bytes | None] = dict.fromkeys(sorted(self._forgotten))
        self._forgotten.clear()
        for streams in (self._live.values(), (stream for stream, _ in self._idle.values())):
            for stream in streams:
                if stream.changed:
                    told[stream.stream_id] = stream.remember(self.handled)
                    stream.changed = False
        return told

    def _catch_up(self) -> None:
        if not self._caught_up:
            self._caught_up = True
            for stream in self._live.values():
                stream.caught_up()


def handled_from(offset: int, metadata: str | None) -> int:
    """`handled` of a committed offset's metadata; metadata of another program is ignored with a warning."""
    if not metadata:
        return offset
    try:
        return max(offset, int(json.loads(metadata)["handled"]))
    except (ValueError, KeyError, TypeError):
        _LOG.warning("committed metadata %r is not ours; starting from offset %d without it", metadata[:80], offset)
        return offset
