"""Decoding in processes that may die of what they decode: `python -m ray_fer.video.decode_process FD`.

The process that is started so imports what decoding needs and then only forks, so that another decoder costs some
milliseconds and shares its memory. For each socket that it is handed it forks a keeper, which forks the decoder, waits
for its end, and says how it ended. All three are short: who asks is `ray_fer.serving.isolated`.

Messages have a type (one byte), a length (eight bytes, big-endian) and a content. To the decoder: `open` (JSON: path,
limits), `pictures` (JSON: numbers, quality), `check` (an image). From it: `times`, `picture` (number and JPEG), `done`,
`error` (UTF-8), and from the keeper `hello` (pid) and `died` (wait status).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from ray_fer.video.decode import iter_frames, packet_index
from ray_fer.video.images import decode_image, encode_jpeg
from ray_fer.video.limits import DecodeLimits, MediaError

OPEN, PICTURES, CHECK = b"o", b"p", b"c"
TIMES, PICTURE, DONE, ERROR, HELLO, DIED = b"T", b"P", b"D", b"E", b"H", b"X"
HEADER = struct.Struct(">cQ")
NUMBER = struct.Struct(">q")

_MEMORY = 3 * 1024**3
"""Bytes of address space beyond what is there after the imports; 4K video with its reference frames takes one."""
_FILES = 64
_CPU_S = 30.0
"""Processor seconds beyond what the limits allow a file to take."""


def send(channel: socket.socket, kind: bytes, content: bytes = b"") -> None:
    """Send a message."""
    channel.sendall(HEADER.pack(kind, len(content)) + content)


def receive(channel: socket.socket, largest: int) -> tuple[bytes, bytes]:
    """The next message. Raises EOFError at the end, ValueError for one that is larger than `largest`."""
    kind, length = HEADER.unpack(_exactly(channel, HEADER.size))
    if length > largest:
        raise ValueError(f"a message of {length} bytes")
    return kind, _exactly(channel, length)


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = channel.recv(min(size, 1024**2))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(control: socket.socket) -> None:
    """Fork a keeper for each socket that comes over `control`, until that is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no funeral
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted program closes its sockets
    cv2.setNumThreads(1)
    while True:
        said, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not said:
            return
        with socket.socket(fileno=handles[0]) as channel:
            if os.fork() == 0:
                control.close()
                _forked(_keep, channel)


def _keep(channel: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _forked(_decode_for, channel)
    send(channel, HELLO, NUMBER.pack(pid))
    _, status = os.waitpid(pid, 0)
    send(channel, DIED, NUMBER.pack(status))


def _forked(call: Callable[[socket.socket], None], channel: socket.socket) -> None:
    """The rest of a forked process's life."""
    try:
        call(channel)
    except (EOFError, OSError):  # who asked has gone
        pass
    finally:
        os._exit(0)


def _decode_for(channel: socket.socket) -> None:
    """Do what is asked until the other side closes."""
    path, limits = "", DecodeLimits()
    _confine(limits)
    while True:
        kind, content = receive(channel, 2**40)
        try:
            if kind == OPEN:
                asked = json.loads(content)
                path, limits = asked["path"], DecodeLimits(**asked["limits"])
                _allow(limits)
                index = packet_index(path, limits)
                times = np.array([index.microseconds(time) for time in index.times], ">i8")
                send(channel, TIMES, times.tobytes())
            elif kind == PICTURES:
                asked = json.loads(content)
                for frame in iter_frames(path, limits, asked["numbers"]):
                    send(channel, PICTURE, NUMBER.pack(frame.index) + encode_jpeg(frame.image, asked["quality"]))
                send(channel, DONE)
            elif kind == CHECK:
                decode_image(content)
                send(channel, DONE)
        except MediaError as error:
            send(channel, ERROR, error.reason.encode(errors="replace"))
        except MemoryError:
            send(channel, ERROR, b"it needs too much memory to decode; make it smaller")


def _confine(limits: DecodeLimits) -> None:
    """What an upload may take of the machine; and libraries have nobody to complain to about it."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    with open("/proc/self/statm") as file:
        there = int(file.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, there + _MEMORY)
    _limit(resource.RLIMIT_NOFILE, _FILES)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _allow(limits)


def _allow(limits: DecodeLimits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + 4 * limits.max_decode_seconds + _CPU_S))


def _limit(which: int, value: int) -> None:
    """For good, but for processor time, of which another file may need more."""
    _, most = resource.getrlimit(which)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(which, (value, most if which == resource.RLIMIT_CPU else value))


def open_message(path: str, limits: DecodeLimits) -> bytes:
    """Content of `open`."""
    return json.dumps({"path": path, "limits": asdict(limits)}).encode()


def pictures_message(numbers: Sequence[int], quality: int) -> bytes:
    """Content of `pictures`."""
    asked: dict[str, Any] = {"numbers": list(numbers), "quality": quality}
    return json.dumps(asked).encode()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
