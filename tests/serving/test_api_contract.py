"""The API keeps what its OpenAPI description promises, whatever it is sent: requests made by schemathesis."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from ray_fer.serving.api import create_api
from ray_fer.serving.keys import KeyRing, add_key
from ray_fer.serving.options import ApiOptions, UploadLimits
from tests.predictions import prediction
from tests.serving.api_backend import InProcessBackend

_LIMITS = UploadLimits(max_bytes=200_000, max_seconds=10, max_frames=500, max_images=8, max_decode_seconds=5)


def _backend(keys: KeyRing | None = None) -> InProcessBackend:
    backend = InProcessBackend(ApiOptions(uploads=_LIMITS), keys=keys)
    assert backend.feed is not None
    backend.feed.add(0, 0, prediction(0, "Happy").to_bytes())
    backend.worker.frame("s", "kept", 0)
    return backend


def _with_a_key() -> tuple[str, InProcessBackend]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keys.json"
        key = add_key(file, "tests")
        ring = KeyRing.load(file)
    ring._look = lambda: None  # type: ignore[method-assign]  # the file has gone
    return key, _backend(ring)


KEY, SECURED = _with_a_key()
# Events have no end, which the generated requests would wait for; test_api_streams has them.
open_schema = schemathesis.openapi.from_asgi("/openapi.json", create_api(_backend())).exclude(path_regex="events$")
secured_schema = schemathesis.openapi.from_asgi("/openapi.json", create_api(SECURED)).exclude(path_regex="events$")
MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def excluded(case: schemathesis.Case, *more: str) -> list[Any]:
    # What is in a file, and that one of three fields is sent, is beyond a description: such a request may be refused.
    uploads = ["positive_data_acceptance"] if case.operation.path == "/v1/predict" else []
    return [CHECKS.get_one(name) for name in (*uploads, *more)]


@open_schema.parametrize()
@MANY
@pytest.mark.timeout(300)
def test_answers_are_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=excluded(case))


@secured_schema.parametrize()
@MANY
@pytest.mark.timeout(300)
def test_answers_with_a_key_are_as_described(case: schemathesis.Case) -> None:
    # The key is added to requests that were made to lack it.
    lacking = excluded(case, "negative_data_rejection", "missing_required_header")
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, excluded_checks=lacking)
