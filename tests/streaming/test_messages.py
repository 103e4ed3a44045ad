"""The message contract: what is accepted, what is refused with which reason, and the published schema."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.streaming.messages import (
    SCHEMA_FILE,
    CultureInfo,
    FrameMessage,
    MessageError,
    ModelInfo,
    Prediction,
    WindowInfo,
    dead_letter_headers,
    parse_frame,
    prediction_schema,
)


def without(headers: list[tuple[str, bytes]], name: str) -> list[tuple[str, bytes]]:
    return [(key, value) for key, value in headers if key != name]


@given(
    stream_id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
    pts=st.integers(0, 2**53),
    seq=st.integers(0, 2**53),
)
def test_what_is_sent_is_what_is_read(jpeg: bytes, stream_id: str, pts: int, seq: int) -> None:
    message = FrameMessage(stream_id, pts, seq, "image/jpeg", jpeg)
    assert parse_frame(message.payload, message.headers()) == message


@pytest.mark.parametrize("name", ["stream-id", "pts-us", "seq", "content-type"])
def test_a_missing_header_is_named(jpeg: bytes, name: str) -> None:
    headers = without(FrameMessage("s", 0, 0, "image/jpeg", jpeg).headers(), name)
    with pytest.raises(MessageError, match=f"'{name}' is missing"):
        parse_frame(jpeg, headers)


@pytest.mark.parametrize(
    ("change", "value", "reason"),
    [
        ({"pts-us": b"-1"}, None, "'pts-us' must be a whole number"),
        ({"pts-us": b"9" * 17}, None, "'pts-us' must be a whole number"),
        ({"seq": "٣".encode()}, None, "'seq' must be a whole number"),
        ({"stream-id": b""}, None, "1 to 200 characters"),
        ({"stream-id": b"\xff"}, None, "not UTF-8"),
        ({"content-type": b"video/x-matroska"}, None, "is not supported"),
        ({"content-type": b"image/png"}, None, "wrong signature"),
        ({}, b"", "empty"),
        ({}, b"\xff\xd8\xff" + b"x" * 9_000_000, "exceed the limit"),
        ({}, b"\xff\xd8\xff" + b"x" * 100, "truncated JPEG"),
    ],
)
def test_bad_input_has_a_reason(jpeg: bytes, change: dict[str, bytes], value: bytes | None, reason: str) -> None:
    headers = [(k, change.get(k, v)) for k, v in FrameMessage("s", 0, 0, "image/jpeg", jpeg).headers()]
    with pytest.raises(MessageError, match=reason):
        parse_frame(jpeg if value is None else value, headers)


@given(st.binary(max_size=200), st.lists(st.tuples(st.sampled_from(["stream-id", "pts-us", "seq"]), st.binary())))
def test_no_input_raises_anything_else(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(MessageError):
        parse_frame(value, headers)


def test_dead_letters_keep_the_original_headers() -> None:
    headers = dead_letter_headers([("seq", b"3")], "bad", "frames", 7)
    assert headers == [("seq", b"3"), ("error", b"bad"), ("error-topic", b"frames"), ("error-offset", b"7")]


def test_published_schema_is_current_and_fits() -> None:
    assert SCHEMA_FILE.read_text() == prediction_schema()
    prediction = Prediction(
        stream_id="s",
        window=WindowInfo(index=0, start_us=0, end_us=5_000_000, frames=3, faces=0),
        status="no_face",
        culture=CultureInfo(source="global_prior", weights={"global": 1.0}),
        model=ModelInfo(name="m", version="1"),
    )
    jsonschema.validate(json.loads(prediction.to_bytes()), json.loads(SCHEMA_FILE.read_text()))
    assert Prediction.model_validate_json(prediction.to_bytes()) == prediction
