"""What the stream gives: predictions, and what goes to the dead-letter topic.

Output record: key = stream id, value = JSON of `Prediction` (schema: `prediction.schema.json` in this folder).
Dead letter: the record as it came, with four more headers. What comes in is in `frame_message`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2
_LONGEST_REASON = 1000
MAX_FRAME_BYTES = 8 * 1024**2
"""Largest value of one input record, whatever it holds. It is here because clients need it, which decode nothing."""

Headers = list[tuple[str, bytes]]


def dead_letter_headers(
    headers: Sequence[tuple[str, bytes]], reason: str, topic: str, partition: int, offset: int
) -> Headers:
    """The original headers plus `error`, and where the record lies: `error-topic`, `-partition` and `-offset`.

    A reason may quote what it complains of, which may be long; its beginning tells enough.
    """
    return [
        *headers,
        ("error", reason[:_LONGEST_REASON].encode(errors="replace")),
        ("error-topic", topic.encode()),
        ("error-partition", str(partition).encode()),
        ("error-offset", str(offset).encode()),
    ]


class WindowInfo(BaseModel):
    """Which part of the stream a prediction is for. `frames` in the window, `faces` found among the chosen ones.

    `session` and `index` name a window of a stream. A stream that starts again, event time and all, begins a session;
    its number is the log offset of its first record, and 0 where frames come from no log.
    """

    model_config = ConfigDict(extra="forbid")

    session: int = Field(0, ge=0)
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
    """One window of one stream. `expression` is None, and both tables are empty, unless `status` is "ok".

    * ``ok``: a face was found in enough of the chosen frames, and the model has answered.
    * ``no_face``: frames were looked at, and too few of them show a face; broken ones count as frames without one.
    * ``gap``: the stream has no frame in this window, but has some before and after it.
    * ``skipped``: the window was passed over to catch up (freshness policy); nobody has looked at its frames.
    * ``failed``: the model breaks on this window; `error` says how, and is None otherwise.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stream_id: str
    window: WindowInfo
    status: Literal["ok", "no_face", "gap", "skipped", "failed"]
    error: str | None = None
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
