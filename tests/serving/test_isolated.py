"""Decoding in a process that may die: the same pictures, every end of it told, and nothing left."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ray_fer.serving import isolated
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.streaming.recorded_windows import frame_times_us
from ray_fer.streaming.source import video_messages
from ray_fer.video import decode_process as protocol
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.corrupt_media import make_corrupt

LIMITS = DecodeLimits(max_decode_seconds=5)


def test_the_same_pictures_as_in_this_process(media: Path) -> None:
    video = media / "single_face.mp4"
    with IsolatedDecoder(LIMITS) as decoder:
        assert decoder.open_video(video) == frame_times_us(video)
        wanted = [0, 3, 4, 40, 71]
        messages = list(video_messages(video, "s"))
        assert list(decoder.pictures(wanted)) == [(number, messages[number].payload) for number in wanted]
        decoder.check_image(messages[0].payload)


def test_what_is_broken_is_told_in_one_line(tmp_path: Path, media: Path) -> None:
    reasons = []
    for one in make_corrupt(tmp_path):
        if one.media == "video":
            with IsolatedDecoder(LIMITS) as decoder:
                try:
                    list(decoder.pictures(range(len(decoder.open_video(Path(one.path))))))
                except MediaError as error:
                    reasons.append(error.reason)
    assert len(reasons) > 10
    assert all(reason and "\n" not in reason for reason in reasons)


def test_the_next_question_after_a_death_has_another_process(media: Path) -> None:
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.open_video(media / "single_face.mp4")
        assert decoder._pidfd is not None
        signal.pidfd_send_signal(decoder._pidfd, signal.SIGSEGV)
        with pytest.raises(MediaError, match=r"ended the process that read it \(SIGSEGV\); re-encode it"):
            decoder.check_image(b"anything")
        with pytest.raises(MediaError, match="not a JPEG or PNG"):
            decoder.check_image(b"anything")


def test_the_template_may_die_too(media: Path) -> None:
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.open_video(media / "single_face.mp4")
    assert isolated._TEMPLATE._process is not None
    isolated._TEMPLATE._process.kill()
    isolated._TEMPLATE._process.wait()
    for _ in range(2):
        with IsolatedDecoder(LIMITS) as decoder:
            assert len(decoder.open_video(media / "single_face.mp4")) == 72


def test_fifty_uploads_leave_nothing(media: Path) -> None:
    def use() -> None:
        with IsolatedDecoder(LIMITS) as decoder:
            times = decoder.open_video(media / "single_face.mp4")
            next(decoder.pictures(range(len(times))))  # and nobody reads the rest

    use()
    handles = psutil.Process().num_fds()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use) for _ in range(50)]:
            done.result()
    assert isolated._TEMPLATE._process is not None
    template = psutil.Process(isolated._TEMPLATE._process.pid)
    deadline = time.monotonic() + 10
    while template.children(recursive=True) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert template.children(recursive=True) == []
    assert psutil.Process().num_fds() == handles


class Peer:
    """In the place of a decoder: does what a test says with the connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[socket.socket], None]) -> None:
        self._act = act
        self._theirs: list[socket.socket] = []
        monkeypatch.setattr(isolated._TEMPLATE, "fork", self._fork)

    def _fork(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._theirs.append(theirs)
        self._process = psutil.Popen(["sleep", "60"])
        protocol.send(theirs, protocol.HELLO, protocol.NUMBER.pack(self._process.pid))
        threading.Thread(target=self._act, args=(theirs,), daemon=True).start()
        return ours

    def killed(self) -> bool:
        return self._process.wait(timeout=5) == -signal.SIGKILL


def _said(kind: bytes, content: bytes) -> Callable[[socket.socket], None]:
    return lambda channel: protocol.send(channel, kind, content)


def _raw(content: bytes) -> Callable[[socket.socket], None]:
    return lambda channel: channel.sendall(content)


@pytest.mark.parametrize(
    "act",
    [
        _said(protocol.PICTURE, b""),
        _said(protocol.TIMES, b"seven b"),
        _said(protocol.TIMES, b""),
        _said(protocol.TIMES, struct.pack(">q", -1)),
        _said(protocol.TIMES, struct.pack(">q", 2**60)),
        _said(protocol.TIMES, bytes(8 * (LIMITS.max_frames + 1))),
        _said(b"?", b"what"),
        _raw(protocol.HEADER.pack(protocol.TIMES, 2**60)),
        _raw(b"\x00" * 400),
    ],
)
def test_garbage_ends_the_process_that_says_it(
    act: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    peer = Peer(monkeypatch, act)
    with IsolatedDecoder(LIMITS) as decoder, pytest.raises(MediaError, match="went astray"):
        decoder.open_video(tmp_path)
    assert peer.killed()


def test_other_pictures_than_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer(monkeypatch, _said(protocol.PICTURE, protocol.NUMBER.pack(5) + b"jpeg"))
    with IsolatedDecoder(LIMITS) as decoder, pytest.raises(MediaError, match="went astray"):
        list(decoder.pictures([3]))
    assert peer.killed()


def test_who_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolated, "_GRACE_S", 0.2)
    peer = Peer(monkeypatch, lambda channel: time.sleep(30))
    with (
        IsolatedDecoder(DecodeLimits(max_decode_seconds=0.3)) as decoder,
        pytest.raises(MediaError, match=r"takes longer than 0\.3 s"),
    ):
        decoder.open_video(tmp_path)
    assert peer.killed()


@pytest.mark.parametrize(
    ("deed", "ending"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("bytearray(8 * 1024**3)", "memory"),
        ("open(__import__('tempfile').mktemp(), 'w').write('x' * 9)", "ended the process|SIGXFSZ"),
        ("import os; os.abort()", "SIGABRT"),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", "takes too long"),
    ],
)
def test_deeds_of_a_decoder_that_went_wrong(deed: str, ending: str, tmp_path: Path) -> None:
    """The real processes, with a decoder that does something else than decode."""
    script = tmp_path / "misbehaving.py"
    script.write_text(
        "import socket, sys\n"
        "from ray_fer.video import decode_process as protocol\n"
        f"def decode_image(content):\n{''.join(f'    {line}{chr(10)}' for line in deed.splitlines())}"
        "protocol.decode_image = decode_image\n"
        "protocol.main(socket.socket(fileno=int(sys.argv[1])))\n"
    )
    ours, theirs = socket.socketpair()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(script), str(theirs.fileno())], pass_fds=[theirs.fileno()], env=environment
    ) as template:
        theirs.close()
        channel, other = socket.socketpair()
        socket.send_fds(ours, [b"+"], [other.fileno()])
        other.close()
        with IsolatedDecoder(LIMITS) as decoder:
            kind, content = protocol.receive(channel, 100)
            assert kind == protocol.HELLO
            decoder._channel, decoder._pidfd = channel, os.pidfd_open(protocol.NUMBER.unpack(content)[0])
            with pytest.raises(MediaError, match=ending):
                decoder.check_image(b"x")
        ours.close()
        template.wait(timeout=10)
