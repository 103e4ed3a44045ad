"""A decoder in a process of its own, which may die of what it decodes without hurting whoever asked it.

The decoders are forked from one small process for each program (`video.decode_process`): a replica has Ray and torch in
it, cannot be forked, and takes seconds to start anew.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ray_fer.streaming.frame_message import MAX_PTS_US
from ray_fer.streaming.source import JPEG_QUALITY
from ray_fer.video import decode_process as protocol
from ray_fer.video.limits import DecodeLimits, MediaError

_LARGEST_PICTURE = 64 * 1024**2
_GRACE_S = 5.0
"""What an answer may take beyond its limit, which the decoder keeps itself unless it cannot."""
_START_S = 60.0
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


class IsolatedDecoder:
    """A process for one upload or one live connection: a context manager, used by one thread at a time.

    Every error is a MediaError, and after one that ended the process the next call has another process.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._channel: socket.socket | None = None
        self._pidfd: int | None = None
        self._video: Path | None = None
        self._unread = False

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; it leaves nothing behind."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        if self._channel is not None:
            self._channel.close()
        self._channel = self._pidfd = None
        self._unread = False

    def open_video(self, path: Path) -> list[int]:
        """Event time of each frame of a file in microseconds, from 0. Raises MediaError."""
        self._video = path
        kind, content = self._ask(protocol.OPEN, protocol.open_message(str(path), self._limits))
        if kind != protocol.TIMES or len(content) % 8 or len(content) > 8 * self._limits.max_frames:
            raise self._garbage()
        times = np.frombuffer(content, ">i8")
        if not len(times) or times.min() < 0 or times.max() > MAX_PTS_US:
            raise self._garbage()
        return [int(time_us) for time_us in times]

    def pictures(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """(number, JPEG) of these frames of the open video, in their ascending order. Raises MediaError.

        The decoder is a picture or two ahead, and waits for whoever reads them. If not all are read, the next question
        goes to another process.
        """
        if self._video is not None and (self._channel is None or self._unread):
            self.open_video(self._video)
        kind, content = self._ask(protocol.PICTURES, protocol.pictures_message(numbers, JPEG_QUALITY))
        self._unread = True
        for number in numbers:
            if kind != protocol.PICTURE or content[:8] != protocol.NUMBER.pack(number):
                raise self._garbage()
            yield number, content[8:]
            kind, content = self._hear()
        if kind != protocol.DONE:
            raise self._garbage()
        self._unread = False

    def check_image(self, data: bytes) -> None:
        """Decode an image, and let its pixels go. Raises MediaError when it is broken."""
        if self._ask(protocol.CHECK, data)[0] != protocol.DONE:
            raise self._garbage()

    def _ask(self, kind: bytes, content: bytes) -> tuple[bytes, bytes]:
        if self._unread:  # what it would say now answers an earlier question
            self.close()
        try:
            if self._channel is None:
                self._start()
            assert self._channel is not None
            self._channel.settimeout(self._limits.max_decode_seconds + _GRACE_S)
            protocol.send(self._channel, kind, content)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            said = str(error) or "it ended at once"
            raise MediaError("upload", f"the process that decodes could not be asked ({said}); try again") from None
        return self._hear()

    def _hear(self) -> tuple[bytes, bytes]:
        """The next answer of the decoder. Raises MediaError for an error, or the end, of the process."""
        assert self._channel is not None
        largest = max(_LARGEST_PICTURE, 8 * self._limits.max_frames)
        try:
            kind, content = self._received(largest)
        except TimeoutError:
            self.close()
            limit_s = self._limits.max_decode_seconds
            raise MediaError("upload", f"decoding it takes longer than {limit_s:g} s; re-encode it") from None
        except (EOFError, OSError):
            self.close()
            raise MediaError("upload", "the process that decodes it has gone; try again") from None
        except ValueError:
            raise self._garbage() from None
        if kind == protocol.ERROR:
            self._unread = False  # it has given up on the pictures that were asked for
            raise MediaError("upload", _one_line(content))
        if kind == protocol.DIED:
            self.close()
            raise MediaError("upload", f"{_ended(content)}; re-encode it")
        return kind, content

    def _received(self, largest: int) -> tuple[bytes, bytes]:
        """A message, all of which has come within the limit of time. Raises what `protocol.receive` does."""
        until = time.monotonic() + self._limits.max_decode_seconds + _GRACE_S
        kind, length = protocol.HEADER.unpack(self._exactly(protocol.HEADER.size, until))
        if length > largest:
            raise ValueError(f"a message of {length} bytes")
        return kind, self._exactly(length, until)

    def _exactly(self, size: int, until: float) -> bytes:
        assert self._channel is not None
        content = bytearray()
        while len(content) < size:
            left = until - time.monotonic()
            if left <= 0:  # one byte now and then would keep a timeout of the socket from ever being over
                raise TimeoutError
            self._channel.settimeout(left)
            part = self._channel.recv(min(size - len(content), 1024**2))
            if not part:
                raise EOFError
            content += part
        return bytes(content)

    def _start(self) -> None:
        try:
            kind, content = self._greeting()
        except EOFError:  # the template died with our request before it, which `fork` sees by now
            kind, content = self._greeting()
        if kind != protocol.HELLO:
            raise OSError("it does not say which process it is")
        with suppress(ProcessLookupError):  # it has ended already, which the keeper will say
            self._pidfd = os.pidfd_open(protocol.NUMBER.unpack(content)[0])

    def _greeting(self) -> tuple[bytes, bytes]:
        self.close()
        self._channel = _TEMPLATE.fork()
        self._channel.settimeout(_START_S)
        return protocol.receive(self._channel, protocol.NUMBER.size)

    def _garbage(self) -> MediaError:
        self.close()
        return MediaError("upload", "the process that decodes it went astray; re-encode it")


def _one_line(content: bytes) -> str:
    """What a process says that may no longer be ours: a line that neither logs nor terminals stumble over."""
    text = content[:2000].decode(errors="replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:500]


def _ended(content: bytes) -> str:
    status = protocol.NUMBER.unpack(content)[0] if len(content) == protocol.NUMBER.size else 0
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in {one.value for one in signal.Signals} else f"signal {number}"
        if number == signal.SIGXCPU:
            return "decoding it takes too long"
        return f"decoding it ended the process that read it ({name})"
    return "decoding it ended the process that read it"


class _Template:
    """The process that decoders are forked from; started when the first is wanted, and again when it has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self) -> socket.socket:
        """A connection to a new decoder. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for attempt in (1, 2):
                try:
                    if self._control is None:
                        self._start()
                    assert self._control is not None
                    socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                    return ours
                except OSError:
                    self._end()
                    if attempt == 2:
                        ours.close()
                        raise
        raise AssertionError("unreachable")

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", protocol.__name__, str(theirs.fileno())]
            # Of the environment only what Python needs: the rest may hold secrets, which decoders have no use for.
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            environment["PYTHONPATH"] = os.pathsep.join(one for one in sys.path if one)
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
        self._control = ours

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


_TEMPLATE = _Template()
