"""Conversations with a decoder that do not go as they should: what is left unread, what trickles, who has just died."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ray_fer.serving import isolated
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.video import decode_process as protocol
from ray_fer.video.limits import DecodeLimits, MediaError

LIMITS = DecodeLimits(max_decode_seconds=5)


@pytest.mark.parametrize("read", [1, 2, 3])
def test_pictures_that_nobody_read_answer_no_other_question(media: Path, read: int) -> None:
    with IsolatedDecoder(LIMITS) as decoder:
        times = decoder.open_video(media / "single_face.mp4")
        pictures = decoder.pictures([0, 1, 2])
        some = [next(pictures) for _ in range(read)]
        with pytest.raises(MediaError, match="not a JPEG or PNG"):
            decoder.check_image(b"anything")
        decoder.check_image(some[0][1])
        assert decoder.open_video(media / "single_face.mp4") == times
        assert list(decoder.pictures([0, 1, 2]))[:read] == some
        assert list(decoder.pictures([0, 1, 2]))[:read] == some


def test_pictures_go_on_in_another_process_after_a_death(media: Path) -> None:
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.open_video(media / "single_face.mp4")
        (before,) = decoder.pictures([5])
        assert decoder._pidfd is not None
        signal.pidfd_send_signal(decoder._pidfd, signal.SIGKILL)
        with pytest.raises(MediaError, match="SIGKILL"):
            list(decoder.pictures([5]))
        assert list(decoder.pictures([5])) == [before]


def test_a_template_that_dies_with_the_request_before_it(media: Path) -> None:
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.open_video(media / "single_face.mp4")
    template = isolated._TEMPLATE._process
    assert template is not None
    template.send_signal(signal.SIGSTOP)  # it takes the request, and does not get to it
    threading.Timer(0.3, template.kill).start()
    with IsolatedDecoder(LIMITS) as decoder:
        assert len(decoder.open_video(media / "single_face.mp4")) == 72


def test_a_template_that_cannot_start_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    template = isolated._Template()
    monkeypatch.setattr(isolated, "_TEMPLATE", template)
    monkeypatch.setattr(isolated.sys, "executable", "/bin/false")
    with IsolatedDecoder(LIMITS) as decoder, pytest.raises(MediaError, match="could not be asked"):
        decoder.open_video(tmp_path)
    template._end()


def says(monkeypatch: pytest.MonkeyPatch, act: Callable[[socket.socket], None]) -> psutil.Popen:
    """Put `act`, on a thread, in the place of a decoder; the process that its greeting names."""
    ours, theirs = socket.socketpair()
    process = psutil.Popen(["sleep", "60"])
    protocol.send(theirs, protocol.HELLO, protocol.NUMBER.pack(process.pid))
    kept = {"ours": ours, "theirs": theirs}  # a connection lives for as long as the test
    monkeypatch.setattr(isolated._TEMPLATE, "fork", lambda: kept["ours"])
    threading.Thread(target=act, args=(theirs,), daemon=True).start()
    return process


def test_an_answer_that_trickles_is_late_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trickle(channel: socket.socket) -> None:
        channel.sendall(protocol.HEADER.pack(protocol.TIMES, 8000))
        for _ in range(100):
            time.sleep(0.1)
            try:
                channel.send(b"\0")
            except OSError:
                return

    monkeypatch.setattr(isolated, "_GRACE_S", 0.2)
    process = says(monkeypatch, trickle)
    started = time.monotonic()
    with (
        IsolatedDecoder(DecodeLimits(max_decode_seconds=0.3)) as decoder,
        pytest.raises(MediaError, match=r"takes longer than 0\.3 s"),
    ):
        decoder.open_video(tmp_path)
    assert time.monotonic() - started < 3
    assert process.wait(timeout=5) == -signal.SIGKILL


def test_a_reason_is_one_printable_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "damaged:\r\n\x1b[2J\0 forged\tline \u202e".encode() + b"\xff" + b"x" * 100_000
    process = says(monkeypatch, lambda channel: protocol.send(channel, protocol.ERROR, said))
    with IsolatedDecoder(LIMITS) as decoder, pytest.raises(MediaError, match=r"damaged: \[2J forged line") as caught:
        decoder.open_video(tmp_path)
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) <= 500
    process.wait(timeout=5)


def test_the_decoder_waits_for_who_reads_slowly(tmp_path: Path, media: Path) -> None:
    video = media / "WolfgangLanger_Pexels.mp4"
    with IsolatedDecoder(LIMITS) as decoder:
        count = len(decoder.open_video(video))
        pictures = decoder.pictures(range(count))
        next(pictures)
        assert isolated._TEMPLATE._process is not None
        (worker,) = [
            one
            for one in psutil.Process(isolated._TEMPLATE._process.pid).children(recursive=True)
            if not one.children() and one.status() != psutil.STATUS_ZOMBIE
        ]
        used, still = -1.0, 0
        deadline = time.monotonic() + 20
        while still < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
            now = sum(worker.cpu_times()[:2])
            still, used = (still + 1 if now == used else 0), now
        assert still == 3, "it decodes on while nobody reads"
        assert [number for number, _ in pictures] == list(range(1, count))
        assert sum(worker.cpu_times()[:2]) > used, "it had decoded everything already"
