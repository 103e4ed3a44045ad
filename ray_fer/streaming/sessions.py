"""A stream from one start of its event time to the next, and what of it must be remembered.

A session is named by the log offset of its first record, so that (stream, session, window) never comes twice, however
often a stream starts again or is forgotten, and reading the log again gives the same names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ray_fer.streaming.windows import BufferedFrame, Resume, StreamWindows, Verdict, Window, WindowConfig

_FORMAT = 1


@dataclass(frozen=True)
class Remembered:
    """A stream as of the commit that had looked at all records before `handled`.

    `sessions` are those that are not over: name and where to go on. `broken` are the offsets of records that are still
    needed, but were found to be undecodable and reported.
    """

    handled: int
    sessions: tuple[tuple[int, Resume], ...]
    broken: tuple[int, ...] = ()


class Stream:
    """Windows of one stream, session after session.

    `handled` is the first record that had not been looked at when the worker started: what lies before is read again
    only to fill the buffers, and starts no session that is not known.
    """

    def __init__(
        self, stream_id: str, config: WindowConfig, handled: int = 0, remembered: Remembered | None = None
    ) -> None:
        self.stream_id = stream_id
        self.last_offset = -1
        """Of the newest record of the stream that is known."""
        self.changed = False
        """Whether what must be remembered is another than `remember` gave last."""
        self._config = config
        self._handled = handled
        self._sessions: list[StreamWindows] = []
        self._resume: dict[int, int] = {}
        self._broken: set[int] = set() if remembered is None else set(remembered.broken)
        for session, resume in () if remembered is None else remembered.sessions:
            self._sessions.append(StreamWindows(stream_id, config, session, resume))
            self._resume[session] = resume.offset
            self.last_offset = max(self.last_offset, resume.offset - 1)

    def add(self, frame: BufferedFrame) -> Verdict:
        """As `StreamWindows.add`; "restart" means that the frame was kept, as the first of a new session."""
        self.last_offset = max(self.last_offset, frame.offset)
        if frame.offset < self._handled:
            return self._add_again(frame)
        if not self._sessions:
            return self._begin(frame, "kept")
        current = self._sessions[-1]
        verdict = current.add(frame)
        if verdict != "restart":
            return verdict
        current.seal_all()
        return self._begin(frame, "restart")

    def ready(self, limit: int) -> list[Window]:
        """At most `limit` sealed windows, of older sessions first."""
        windows: list[Window] = []
        for session in self._sessions:
            windows += session.ready(limit - len(windows))
        self.changed |= bool(windows)
        while len(self._sessions) > 1 and not self._sessions[0].waiting():
            del self._sessions[0]
        return windows

    def waiting(self) -> int:
        """How many windows are sealed and not given out."""
        return sum(session.waiting() for session in self._sessions)

    def silence(self) -> None:
        """Seal all windows that hold a frame: the stream is idle or over."""
        for session in self._sessions:
            session.seal_all()

    def caught_up(self) -> None:
        """All records that were looked at before have been read again: sessions before the last one are over."""
        for session in self._sessions[:-1]:
            session.seal_all()

    def needed(self) -> int | None:
        """The smallest log offset that an open window still needs; None when nothing is buffered."""
        return min((session.resume(0).offset for session in self._sessions if len(session)), default=None)

    def held(self) -> tuple[int, int]:
        """As `StreamWindows.held`."""
        held = [session.held() for session in self._sessions]
        return sum(frames for frames, _ in held), sum(size for _, size in held)

    def remember(self, handled: int) -> bytes:
        """What a later worker needs to go on, when everything given out so far is committed with it."""
        lines = []
        for one in self._sessions:
            resume = one.resume(handled)
            lines.append([one.session, resume.next_index, resume.offset, resume.newest_us, resume.highest])
        needed = self.needed()
        self._broken = {offset for offset in self._broken if needed is not None and offset >= needed}
        content = {"format": _FORMAT, "handled": handled, "sessions": lines, "broken": sorted(self._broken)}
        return json.dumps(content, separators=(",", ":")).encode()

    def report(self, offset: int) -> bool:
        """Whether it is news that the record there cannot be decoded; from now on it is not.

        Open windows may need such a record again after a restart, when it is found to be broken once more.
        """
        if offset in self._broken:
            return False
        self._broken.add(offset)
        self.changed = True
        return True

    def _begin(self, frame: BufferedFrame, verdict: Verdict) -> Verdict:
        self._sessions.append(StreamWindows(self.stream_id, self._config, session=frame.offset))
        self._sessions[-1].add(frame)
        self.changed = True
        return verdict

    def _add_again(self, frame: BufferedFrame) -> Verdict:
        """A record that was looked at before goes to the session that was open then, if that is not over."""
        for session in reversed(self._sessions):
            if session.session <= frame.offset:
                if frame.offset < self._resume.get(session.session, 0):
                    return "late"
                verdict = session.add(frame)
                return "late" if verdict == "restart" else verdict
        return "late"


def recall(content: bytes) -> Remembered:
    """What `Stream.remember` gave. Raises ValueError for other bytes."""
    try:
        read = json.loads(content)
        if read["format"] != _FORMAT:
            raise ValueError(f"format {read['format']}")
        sessions = [
            (int(session), Resume(None if index is None else int(index), int(offset), int(newest), int(highest)))
            for session, index, offset, newest, highest in read["sessions"]
        ]
        return Remembered(int(read["handled"]), tuple(sessions), tuple(int(offset) for offset in read["broken"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not the state of a stream: {content[:80]!r} ({error})") from error
