"""Hostile media through decoders of their own: frames or one clear line, and nobody follows what they refer to."""

from __future__ import annotations

import ctypes
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.encoded_video import write_video
from tests.hostile_media import recipes
from tests.hostile_uploads import hostile_uploads
from tests.serving.api_backend import no_decoder_stays

LIMITS = DecodeLimits(max_seconds=60, max_frames=5000, max_decode_seconds=20)
ROUNDS = 6
_ACCESSED, _OPENED = 0x1, 0x20


@pytest.fixture
def bait(tmp_path: Path) -> Path:
    """A video that would give frames to whoever follows a reference to it."""
    return write_video(tmp_path / "bait.mp4", frames=10)


@pytest.fixture
def watch(bait: Path) -> Iterator[int]:
    """A handle that can be read (inotify) as soon as somebody opens the bait."""
    libc = ctypes.CDLL(None)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(handle, os.fsencode(bait), _OPENED | _ACCESSED) >= 0
    yield handle
    os.close(handle)


def decoded(field: str, data: bytes, path: Path) -> str:
    """What comes of an upload: "frames", or the reason why there are none."""
    try:
        with IsolatedDecoder(LIMITS) as decoder:
            if field == "images":
                decoder.check_image(data)
                return "frames"
            path.write_bytes(data)
            count = len(decoder.open_video(path))
            for _, jpeg in decoder.pictures(sorted({0, count // 2, count - 1})):
                assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) is not None
            return "frames"
    except MediaError as error:
        return error.reason


def test_each_ends_in_frames_or_one_line_and_nothing_is_followed(tmp_path: Path, bait: Path, watch: int) -> None:
    path = tmp_path / "upload"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/bait.mp4"
        baits = (str(bait), f"file://{bait}", address)
        uploads = [
            (name, field, make(random.Random(f"{name} {number}"), baits[number % len(baits)]))
            for name, (field, make) in recipes().items()
            for number in range(ROUNDS)
        ]
        uploads += [(one.kind, one.field, one.data) for one in hostile_uploads(5, 64, bait, address)]
        assert len(uploads) > 200
        reasons = {(name, place): decoded(field, data, path) for place, (name, field, data) in enumerate(uploads)}
        with pytest.raises(BlockingIOError):
            server.accept()
    with pytest.raises(BlockingIOError):
        os.read(watch, 4096)
    assert decoded("video", bait.read_bytes(), path) == "frames"
    assert os.read(watch, 4096), "the watch sees whoever opens the bait"
    assert all(reason and reason.isprintable() for reason in reasons.values()), reasons
    assert 20 < sum(reason == "frames" for reason in reasons.values()) < len(uploads) - 50
    no_decoder_stays()
