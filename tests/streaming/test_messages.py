"""The output contract: dead letters, and the published schema of predictions."""

from __future__ import annotations

import json

import jsonschema
import pytest

from ray_fer.streaming.messages import (
    SCHEMA_FILE,
    CultureInfo,
    ModelInfo,
    Prediction,
    WindowInfo,
    dead_letter_headers,
    prediction_schema,
)


def test_dead_letters_keep_the_original_headers() -> None:
    headers = dead_letter_headers([("seq", b"3")], "bad", "frames", 2, 7)
    assert headers == [
        ("seq", b"3"),
        ("error", b"bad"),
        ("error-topic", b"frames"),
        ("error-partition", b"2"),
        ("error-offset", b"7"),
    ]


def test_published_schema_is_current() -> None:
    assert SCHEMA_FILE.read_text() == prediction_schema()


@pytest.mark.parametrize("status", ["ok", "no_face", "gap", "skipped", "failed"])
def test_predictions_fit_the_published_schema(status: str) -> None:
    prediction = Prediction(
        stream_id="s",
        window=WindowInfo(session=2, index=0, start_us=0, end_us=5_000_000, frames=3, faces=0),
        status=status,
        culture=CultureInfo(source="global_prior", weights={"global": 1.0}),
        model=ModelInfo(name="m", version="1"),
    )
    schema = json.loads(SCHEMA_FILE.read_text())
    content = json.loads(prediction.to_bytes())
    jsonschema.validate(content, schema)
    assert content["schema_version"] == 2
    assert content["window"]["session"] == 2
    assert Prediction.model_validate_json(prediction.to_bytes()) == prediction
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "status": "lost"}, schema)
