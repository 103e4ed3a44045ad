"""From payloads to pixels: only what is asked for, once, and errors in the place of pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.streaming import payload as payload_module
from ray_fer.streaming.frame_message import FrameMessage, MessageError
from ray_fer.streaming.payload import Payload, PictureRequest, chunks, decode
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.video import decode as video_decode
from ray_fer.video.decode import iter_frames
from ray_fer.video.images import decode_image
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.encoded_video import write_video

NONE = ReferencePolicy()
GROUPS = {"bf": "2", "x264-params": "keyint=12:min-keyint=12:scenecut=0"}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", frames=36, options=GROUPS)


@pytest.fixture(scope="module")
def frames(video: Path) -> list[np.ndarray]:
    return [frame.image for frame in iter_frames(video)]


def pictures(content_type: str, data: bytes, indices: Sequence[int] = (0,)) -> dict[int, np.ndarray | MediaError]:
    return dict(decode(PictureRequest(Payload(content_type, data), tuple(indices)), NONE))


def test_an_image(jpeg: bytes) -> None:
    np.testing.assert_array_equal(pictures("image/jpeg", jpeg)[0], decode_image(jpeg))


@given(st.sets(st.integers(0, 35), min_size=1))
def test_a_segment_gives_the_frames_that_decoding_everything_gives(
    video: Path, frames: list[np.ndarray], wanted: set[int]
) -> None:
    given = list(decode(PictureRequest(Payload("video/mp4", video.read_bytes()), tuple(sorted(wanted))), NONE))
    assert [index for index, _ in given] == sorted(wanted)
    for index, picture in given:
        np.testing.assert_array_equal(picture, frames[index])


def test_a_segment_is_opened_and_decoded_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, packets = [], []
    open_video, run_packets = video_decode.open_video, video_decode._run_packets
    monkeypatch.setattr(video_decode, "open_video", lambda *given: opened.append(given) or open_video(*given))
    monkeypatch.setattr(
        video_decode, "_run_packets", lambda *run: [packets.append(one) or one for one in run_packets(*run)]
    )
    assert len(pictures("video/mp4", video.read_bytes(), [1, 4, 30])) == 3
    assert len(opened) == 1
    assert 7 <= len(packets) < 20  # of 36: from the keyframes before frames 1 and 30 on


def test_what_is_broken_is_an_error_in_its_place(jpeg: bytes, video: Path) -> None:
    data = video.read_bytes()
    for content_type, content, indices, reason in (
        ("image/jpeg", jpeg[:-30], [0], "truncated JPEG"),
        ("image/jpeg", b"\xff\xd8\xff", [0], "not a JPEG or PNG"),
        ("video/mp4", data[:1000], [2, 5], "not a readable video"),
        ("video/mp4", data, [36, 99], "ends before this frame"),
    ):
        given = pictures(content_type, content, indices)
        assert list(given) == indices
        for error in given.values():
            assert isinstance(error, MediaError)
            assert reason in error.reason
    half = pictures("video/mp4", data, [35, 36])
    assert isinstance(half[35], np.ndarray)
    assert isinstance(half[36], MediaError)


def test_a_segment_that_breaks_off_gives_what_comes_before(video: Path) -> None:
    data = bytearray(video.read_bytes())
    place = data.index(b"mdat") + 4
    end = place + int.from_bytes(data[place - 8 : place - 4], "big") - 8
    data[place + (end - place) // 2 : end] = bytes(end - place - (end - place) // 2)
    given = pictures("video/mp4", bytes(data), range(36))
    assert isinstance(given[0], np.ndarray)
    assert isinstance(given[35], MediaError)
    assert "damaged" in given[35].reason
    assert list(given) == list(range(36))


def test_a_segment_that_takes_too_long_is_given_up(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_module, "SEGMENT_LIMITS", DecodeLimits(max_decode_seconds=0))
    error = pictures("video/mp4", video.read_bytes(), [3])[3]
    assert isinstance(error, MediaError)
    assert "took longer than 0 s" in error.reason or "took too long" in error.reason


@given(st.integers(0, 2**32))
def test_no_damage_raises(video: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(video.read_bytes())
    for _ in range(rng.randint(1, 40)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    payload = bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data)
    given = list(decode(PictureRequest(Payload("video/mp4", payload), (0, 17, 35)), NONE))
    assert sorted(index for index, _ in given) == [0, 17, 35]
    with suppress(MessageError):
        FrameMessage("s", 0, 0, "video/mp4", payload).frames()


def test_references_are_fetched_where_it_is_allowed(tmp_path: Path, jpeg: bytes, video: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    policy = ReferencePolicy(prefixes=[str(tmp_path), str(video.parent)])
    image = PictureRequest(Payload("image/jpeg", b"", f"file://{tmp_path}/a.jpg"), (0,))
    np.testing.assert_array_equal(dict(decode(image, policy))[0], decode_image(jpeg))
    segment = PictureRequest(Payload("video/mp4", b"", f"file://{video}"), (3, 20))
    assert [index for index, _ in decode(segment, policy)] == [3, 20]
    for request, other, reason in (
        (image, NONE, "add it with --allow-reference"),
        (segment, ReferencePolicy(prefixes=[str(video.parent)], max_bytes=100), "more than"),
        (PictureRequest(Payload("image/png", b"", f"file://{tmp_path}/a.jpg"), (0,)), policy, "wrong signature"),
    ):
        given = dict(decode(request, other))
        assert list(given) == list(request.indices)
        for error in given.values():
            assert isinstance(error, MediaError)
            assert reason in error.reason


@given(st.lists(st.integers(1, 40)), st.integers(1, 20))
def test_chunks_hold_whole_requests_in_order(sizes: list[int], pictures: int) -> None:
    requests = [PictureRequest(Payload("video/mp4", b""), tuple(range(size))) for size in sizes]
    cut = chunks(requests, pictures)
    assert [request for chunk in cut for request in chunk] == requests
    for chunk in cut:
        assert sum(len(request.indices) for request in chunk[:-1]) < pictures
    for chunk in cut[:-1]:
        assert sum(len(request.indices) for request in chunk) >= pictures


def test_single_images_make_chunks_of_just_so_many() -> None:
    requests = [PictureRequest(Payload("image/jpeg", b""), (0,)) for _ in range(40)]
    assert [len(chunk) for chunk in chunks(requests, 16)] == [16, 16, 8]
