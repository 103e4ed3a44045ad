"""What travels over Kafka: frames in, predictions out, and what goes to the dead-letter topic.

Input record: key = stream id, value = one encoded image, headers `stream-id`, `pts-us`, `seq`, `content-type`.
Output record: key = stream id, value = JSON of `Prediction` (schema: `prediction.schema.json` in this folder).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
CONTENT_TYPES = ("image/jpeg", "image/png")
MAX_FRAME_BYTES = 8 * 1024**2
MAX_STREAM_ID = 200
MAX_PTS_US = 2**53  # readable by JavaScript; the year 2255 in microseconds

Headers = list[tuple[str, bytes]]

_MAGIC = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}


class MessageError(ValueError):
    """A record that is not a valid frame message; `str()` is the reason given to the dead-letter topic."""


@dataclass(frozen=True)
class FrameMessage:
    """One frame of one stream. `pts_us` is event time in microseconds, `seq` counts the stream's frames."""

    stream_id: str
    pts_us: int
    seq: int
    content_type: str
    payload: bytes

    def key(self) -> bytes:
        return self.stream_id.encode()

    def headers(self) -> Headers:
        return [
            ("stream-id", self.stream_id.encode()),
            ("pts-us", str(self.pts_us).encode()),
            ("seq", str(self.seq).encode()),
            ("content-type", self.content_type.encode()),
        ]


def parse_frame(value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> FrameMessage:
    """Check a Kafka record and read it as a frame; raises MessageError with the reason.

    Only what is cheap is checked here (headers, size, signature, a JPEG's end marker): pixels are decoded later,
    and only for frames that a window chose.
    """
    fields: dict[str, bytes] = {name: content for name, content in headers if content is not None}
    content_type = _text(fields, "content-type")
    if content_type not in CONTENT_TYPES:
        raise MessageError(f"content-type {content_type!r} is not supported; send {' or '.join(CONTENT_TYPES)}")
    stream_id = _text(fields, "stream-id")
    if not 0 < len(stream_id) <= MAX_STREAM_ID:
        raise MessageError(f"stream-id must have 1 to {MAX_STREAM_ID} characters, got {len(stream_id)}")
    if not value:
        raise MessageError("the value is empty")
    if len(value) > MAX_FRAME_BYTES:
        raise MessageError(f"{len(value)} bytes exceed the limit of {MAX_FRAME_BYTES}")
    if not value.startswith(_MAGIC[content_type]):
        raise MessageError(f"the value is not {content_type}: wrong signature")
    if content_type == "image/jpeg" and b"\xff\xd9" not in value[-64:]:
        raise MessageError("truncated JPEG: the end-of-image marker is missing")
    return FrameMessage(stream_id, _number(fields, "pts-us"), _number(fields, "seq"), content_type, value)


def dead_letter_headers(headers: Sequence[tuple[str, bytes]], reason: str, topic: str, offset: int) -> Headers:
    """The original headers plus `error`, `error-topic` and `error-offset`."""
    return [
        *headers,
        ("error", reason.encode(errors="replace")),
        ("error-topic", topic.encode()),
        ("error-offset", str(offset).encode()),
    ]


class WindowInfo(BaseModel):
    """Which part of the stream a prediction is for. `frames` in the window, `faces` found among the chosen ones."""

    model_config = ConfigDict(extra="forbid")

    index: int = Field(ge=0)
    start_us: int
    end_us: int
    frames: int = Field(ge=0)
    faces: int = Field(ge=0)


class CultureInfo(BaseModel):
    """What conditioned the model: `source` "global_prior" when no culture label was given."""

    model_config = ConfigDict(extra="forbid")

    source: str
    weights: dict[str, float]


class ModelInfo(BaseModel):
    """Name and version of the bundle that predicted."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str


class Prediction(BaseModel):
    """One window of one stream. `expression` is None unless `status` is "ok"."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stream_id: str
    window: WindowInfo
    status: Literal["ok", "no_face", "gap"]
    expression: str | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    action_units: dict[str, float] = Field(default_factory=dict)
    culture: CultureInfo
    model: ModelInfo
    latency_ms: float | None = None
    """From the newest frame of the window reaching the broker to the prediction being sent; None offline."""

    def to_bytes(self) -> bytes:
        return self.model_dump_json().encode()


def prediction_schema() -> str:
    """JSON Schema of `Prediction`; the published file must equal this text."""
    return json.dumps(Prediction.model_json_schema(), indent=1) + "\n"


SCHEMA_FILE = Path(__file__).parent / "prediction.schema.json"


def _text(fields: dict[str, bytes], name: str) -> str:
    if name not in fields:
        raise MessageError(f"header {name!r} is missing")
    try:
        return fields[name].decode()
    except UnicodeDecodeError:
        raise MessageError(f"header {name!r} is not UTF-8") from None


def _number(fields: dict[str, bytes], name: str) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_PTS_US):
        raise MessageError(f"header {name!r} must be a whole number from 0 to {MAX_PTS_US}, got {text[:40]!r}")
    return int(text)
