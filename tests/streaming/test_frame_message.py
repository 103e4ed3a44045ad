"""The input contract: what is accepted, what is refused with which reason, and which frames a record holds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.streaming.frame_message import FrameMessage, MessageError, parse_frame
from ray_fer.streaming.messages import MAX_FRAME_BYTES, Headers
from ray_fer.streaming.payload import SEGMENT_LIMITS
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.video.limits import DecodeLimits
from tests.encoded_video import write_video

IRREGULAR_MS = np.cumsum(np.random.default_rng(3).integers(5, 90, 20)).tolist()


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MP4 of 20 frames at irregular times."""
    path = tmp_path_factory.mktemp("segment") / "v.mp4"
    return write_video(path, frames=20, options={"bf": "2"}, times_ms=IRREGULAR_MS).read_bytes()


def without(headers: Headers, name: str) -> Headers:
    return [(key, value) for key, value in headers if key != name]


def reference(uri: bytes, payload_type: str = "image/jpeg") -> FrameMessage:
    return FrameMessage("s", 500, 7, "text/uri-list", uri, payload_type)


stream_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
numbers = st.integers(0, 2**53)


@given(stream_ids, numbers, numbers)
def test_what_is_sent_is_what_is_read(jpeg: bytes, stream_id: str, pts: int, seq: int) -> None:
    message = FrameMessage(stream_id, pts, seq, "image/jpeg", jpeg)
    assert parse_frame(message.payload, message.headers()) == message
    assert message.frames() == [(pts, seq, 0)]


@given(stream_ids, numbers, numbers, st.sampled_from(["image/png", "video/mp4", "video/webm", "video/x-matroska"]))
def test_references_are_read_as_sent(stream_id: str, pts: int, seq: int, payload_type: str) -> None:
    message = FrameMessage(stream_id, pts, seq, "text/uri-list", b"# one\r\ns3://bucket/key%20\r\n", payload_type)
    assert parse_frame(message.payload, message.headers()) == message
    source = message.source()
    assert (source.content_type, source.data, source.uri) == (payload_type, b"", "s3://bucket/key%20")
    assert message.source() is source


@pytest.mark.parametrize("name", ["stream-id", "pts-us", "seq", "content-type"])
def test_a_missing_header_is_named(jpeg: bytes, name: str) -> None:
    headers = without(FrameMessage("s", 0, 0, "image/jpeg", jpeg).headers(), name)
    with pytest.raises(MessageError, match=f"'{name}' is missing"):
        parse_frame(jpeg, headers)


def test_a_reference_says_what_it_points_at() -> None:
    message = reference(b"file:///data/one.jpg")
    with pytest.raises(MessageError, match="'payload-type' is missing"):
        parse_frame(message.payload, without(message.headers(), "payload-type"))
    for wrong in ("text/uri-list", "image/webp"):
        with pytest.raises(MessageError, match=f"payload-type '{wrong}' is not supported"):
            parse_frame(message.payload, reference(b"file:///data/one.jpg", wrong).headers())


@pytest.mark.parametrize(
    ("change", "value", "reason"),
    [
        ({"pts-us": b"-1"}, None, "'pts-us' must be a whole number"),
        ({"pts-us": b"9" * 17}, None, "'pts-us' must be a whole number"),
        ({"seq": "٣".encode()}, None, "'seq' must be a whole number"),
        ({"stream-id": b""}, None, "1 to 200 characters"),
        ({"stream-id": b"\xff"}, None, "not UTF-8"),
        ({"content-type": b"image/webp"}, None, "is not supported; send one of image/jpeg"),
        ({"content-type": b"image/png"}, None, "not image/png: wrong signature"),
        ({"content-type": b"video/mp4"}, None, "not video/mp4: wrong signature"),
        ({"content-type": b"video/webm"}, None, "not video/webm: wrong signature"),
        ({"content-type": b"video/x-matroska"}, b"\x1a\x45\xdf", "not video/x-matroska: wrong signature"),
        ({}, b"", "empty"),
        ({}, b"\xff\xd8\xff" + b"x" * MAX_FRAME_BYTES, "exceed the limit"),
        ({}, b"\xff\xd8\xff" + b"x" * 100, "truncated JPEG"),
    ],
)
def test_bad_input_has_a_reason(jpeg: bytes, change: dict[str, bytes], value: bytes | None, reason: str) -> None:
    headers = [(k, change.get(k, v)) for k, v in FrameMessage("s", 0, 0, "image/jpeg", jpeg).headers()]
    with pytest.raises(MessageError, match=reason):
        parse_frame(jpeg if value is None else value, headers)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"# nothing but a comment", "must hold one URI, got 0"),
        (b"s3://b/one\r\ns3://b/two", "must hold one URI, got 2"),
        (b"/data/one.jpg", "has no scheme"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"s3://b/a b", "blanks or control characters"),
        (b"s3://b/key?endpoint_override=evil", "has a query"),
        (b"s3://[b/key", "is no URI"),
        (b"s3://b/" + b"k" * 2048, "1 to 2048 characters"),
    ],
)
def test_a_bad_reference_has_a_reason(value: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        parse_frame(value, reference(value).headers())


HEADERS = ["stream-id", "pts-us", "seq", "content-type", "payload-type"]
TYPES = [b"image/jpeg", b"video/mp4", b"video/webm", b"text/uri-list"]


@given(
    st.binary(max_size=200) | st.binary(max_size=20).map(lambda end: b"\x1a\x45\xdf\xa3" + end),
    st.lists(st.tuples(st.sampled_from(HEADERS), st.none() | st.binary() | st.sampled_from([b"1", *TYPES]))),
)
def test_no_input_raises_anything_else(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    with suppress(MessageError):
        parse_frame(value, headers).frames()


def test_frames_of_a_segment_have_their_own_times_and_numbers(segment: bytes) -> None:
    message = FrameMessage("s", 4_000_000, 100, "video/mp4", segment)
    assert parse_frame(segment, message.headers()) == message
    expected = [(4_000_000 + (ms - IRREGULAR_MS[0]) * 1000, 100 + i, i) for i, ms in enumerate(IRREGULAR_MS)]
    assert message.frames() == expected
    assert message.source().data is segment


@pytest.mark.parametrize(("suffix", "codec"), [("webm", "libvpx"), ("webm", "libvpx-vp9"), ("x-matroska", "libx264")])
def test_every_container_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    """VP8 hides frames, so that its packets do not tell how many are shown."""
    hiding = {"auto-alt-ref": "1", "lag-in-frames": "12"} if codec == "libvpx" else {}
    data = write_video(tmp_path / "v", codec, 24, format=suffix.removeprefix("x-"), options=hiding).read_bytes()
    message = FrameMessage("s", 0, 0, f"video/{suffix}", data)
    frames = parse_frame(data, message.headers()).frames()
    assert [(seq, index) for _, seq, index in frames] == [(i, i) for i in range(24)]
    assert [pts for pts, _, _ in frames] == pytest.approx([i * 1e6 / 30 for i in range(24)], abs=1000)


def test_a_broken_segment_has_a_reason(segment: bytes, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "v.mp4", frames=1).read_bytes().replace(b"vide", b"soun")
    for data, limits, reason in (
        (segment[: len(segment) // 2], SEGMENT_LIMITS, "not a readable video|truncated"),
        (segment[:20], SEGMENT_LIMITS, "not a readable video"),
        (silent, SEGMENT_LIMITS, "no video track|not a readable video"),
        (segment, DecodeLimits(max_frames=19), "more than 19 frames"),
        (segment, DecodeLimits(max_seconds=0.5), "longer than 0.5 s"),
        (segment, DecodeLimits(max_pixels=1000), "96x80 exceeds 1000 pixels"),
    ):
        message = parse_frame(data, FrameMessage("s", 0, 0, "video/mp4", data).headers())
        with pytest.raises(MessageError, match=reason):
            message.frames(limits)


def test_a_referenced_image_is_not_fetched_for_its_frame(tmp_path: Path) -> None:
    message = reference(f"file://{tmp_path}/absent.jpg".encode())
    assert message.frames(policy=ReferencePolicy(prefixes=[str(tmp_path)])) == [(500, 7, 0)]
    with pytest.raises(MessageError, match="add it with --allow-reference"):
        message.frames()


def test_a_referenced_segment_is_fetched_and_kept(tmp_path: Path, segment: bytes) -> None:
    file = tmp_path / "v.mp4"
    file.write_bytes(segment)
    policy = ReferencePolicy(prefixes=[str(tmp_path)])
    message = reference(f"file://{file}".encode(), "video/mp4")
    source = message.source()
    assert [index for _, _, index in message.frames(policy=policy)] == list(range(20))
    assert message.source() is source
    assert source.data == segment
    file.write_bytes(b"\x1a\x45\xdf\xa3")
    with pytest.raises(MessageError, match="wrong signature"):
        reference(f"file://{file}".encode(), "video/mp4").frames(policy=policy)
    file.unlink()
    with pytest.raises(MessageError, match="does not exist"):
        reference(f"file://{file}".encode(), "video/mp4").frames(policy=policy)
