"""Decoding in a process that may die: the same pictures, every end of it told, and nothing left."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from ray_fer.serving import isolated
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.streaming.recorded_windows import frame_times_us
from ray_fer.streaming.source import video_messages
from ray_fer.video import decode_process as protocol
from ray_fer.video.images import decode_image
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.corrupt_media import make_corrupt
from tests.encoded_video import write_video
from tests.serving.api_backend import no_decoder_stays

LIMITS = DecodeLimits(max_decode_seconds=5)


def test_the_same_pictures_as_in_this_process(media: Path) -> None:
    video = media / "single_face.mp4"
    with IsolatedDecoder(LIMITS) as decoder:
        assert decoder.open_video(video) == frame_times_us(video)
        wanted = [0, 3, 4, 40, 71]
        messages = list(video_messages(video, "s"))
        assert list(decoder.pictures(wanted)) == [(number, messages[number].payload) for number in wanted]
        decoder.check_image(messages[0].payload)


def test_what_is_broken_is_told_in_one_line(tmp_path: Path) -> None:
    # Whole videos only: a range of a good one is no matter of the decoder's.
    broken = [one for one in make_corrupt(tmp_path) if one.media == "video" and one.path != tmp_path / "good/good.mp4"]
    assert len(broken) > 40
    reasons: dict[str, str] = {}
    with IsolatedDecoder(LIMITS) as decoder:
        for one in broken:
            try:
                for _ in decoder.pictures(range(len(decoder.open_video(one.path)))):
                    pass
            except MediaError as error:
                reasons[one.name] = error.reason
    assert [one.name for one in broken if one.name not in reasons] == []
    assert [name for name, reason in reasons.items() if not reason or not reason.isprintable()] == []


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


def test_threads_get_the_pictures_of_their_own_videos(tmp_path: Path) -> None:
    shades = [np.full((48, 64, 3), 20 * number, np.uint8) for number in range(12)]
    videos = [
        write_video(tmp_path / f"{number}.mp4", frames=[shade] * (10 + number), size=(64, 48))
        for number, shade in enumerate(shades)
    ]

    def brightness(video: Path) -> tuple[int, float]:
        with IsolatedDecoder(LIMITS) as decoder:
            count = len(decoder.open_video(video))
            jpegs = [jpeg for _, jpeg in decoder.pictures(range(count))]
        return count, float(np.mean([decode_image(jpeg).mean() for jpeg in jpegs]))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(brightness, videos))
    assert [count for count, _ in found] == [10 + number for number in range(12)]
    assert np.allclose([mean for _, mean in found], [20 * number for number in range(12)], atol=4)


def test_fifty_uploads_leave_nothing(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def use() -> None:
        with IsolatedDecoder(LIMITS) as decoder:
            times = decoder.open_video(media / "single_face.mp4")
            next(decoder.pictures(range(len(times))))  # and nobody reads the rest

    use()
    handles = psutil.Process().num_fds()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use) for _ in range(50)]:
            done.result()
    no_decoder_stays()
    assert psutil.Process().num_fds() == handles
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("sent", [0, 5, 9, 20])
def test_an_answer_that_breaks_off(sent: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a part of its header, its header, or some of its times."""

    def act(channel: socket.socket) -> None:
        protocol.receive(channel, 2**20)
        channel.sendall((protocol.HEADER.pack(protocol.TIMES, 80) + bytes(80))[:sent])
        channel.shutdown(socket.SHUT_WR)

    peer = Peer(monkeypatch, act)
    with IsolatedDecoder(LIMITS) as decoder, pytest.raises(MediaError, match="has gone; try again"):
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


@contextmanager
def misbehaving(deed: str, folder: Path, limits: DecodeLimits) -> Iterator[IsolatedDecoder]:
    """The real processes, with a decoder that does something else than decode an image."""
    script = folder / "misbehaving.py"
    body = textwrap.indent(deed, "    ")
    script.write_text(
        "import ctypes, os, resource, socket, sys\n"
        "from ray_fer.video import decode_process as protocol\n"
        f"def decode_image(content):\n{body}\n"
        "protocol.decode_image = decode_image\n"
        "protocol.main(socket.socket(fileno=int(sys.argv[1])))\n"
    )
    ours, theirs = socket.socketpair()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment) as template, ours:  # ours closes first
        theirs.close()
        channel, other = socket.socketpair()
        socket.send_fds(ours, [b"+"], [other.fileno()])
        other.close()
        with IsolatedDecoder(limits) as decoder:
            kind, content = protocol.receive(channel, 100)
            assert kind == protocol.HELLO
            decoder._channel, decoder._pidfd = channel, os.pidfd_open(protocol.NUMBER.unpack(content)[0])
            yield decoder
        deadline = time.monotonic() + 10
        while psutil.Process(template.pid).children(recursive=True) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert psutil.Process(template.pid).children(recursive=True) == []


@pytest.mark.parametrize(
    ("deed", "ending"),
    [
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("bytearray(8 * 1024**3)", "memory"),
        ("held = []\nwhile True: held.append(bytearray(64 * 1024**2))", "memory"),
        ("os.abort()", "SIGABRT"),
        ("os._exit(3)", "ended the process that read it; re-encode it"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", "takes too long"),
    ],
)
def test_deeds_of_a_decoder_that_went_wrong(deed: str, ending: str, tmp_path: Path) -> None:
    with misbehaving(deed, tmp_path, LIMITS) as decoder, pytest.raises(MediaError, match=ending):
        decoder.check_image(b"x")


def test_a_decoder_that_loops_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolated, "_GRACE_S", 0.5)
    limits = DecodeLimits(max_decode_seconds=0.5)
    with misbehaving("while True: pass", tmp_path, limits) as decoder:
        started = time.monotonic()
        with pytest.raises(MediaError, match=r"takes longer than 0\.5 s"):
            decoder.check_image(b"x")
        assert 0.9 < time.monotonic() - started < 5


def test_a_decoder_writes_no_files(tmp_path: Path) -> None:
    file = tmp_path / "written"
    with misbehaving(f"open({str(file)!r}, 'wb', 0).write(bytes(100))", tmp_path, LIMITS) as decoder:
        with pytest.raises(MediaError, match="ended the process that read it"):
            decoder.check_image(b"x")
        assert file.read_bytes() == b""
