"""The page before the real API, whose packaged model runs in this process: both speak of the same things."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ray_fer.bundle import PACKAGED
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.messages import Prediction
from tests.integration.browser import Watched, camera_file, chromium, watched_page
from tests.integration.canned_predictions import Face
from tests.serving.api_backend import InProcessBackend, on_a_port


@pytest.fixture(scope="module")
def backend() -> InProcessBackend:
    return InProcessBackend()


@pytest.fixture(scope="module")
def url(backend: InProcessBackend) -> Iterator[str]:
    with on_a_port(backend) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def watched(url: str, tmp_path_factory: pytest.TempPathFactory, media: Path) -> Iterator[Watched]:
    camera = camera_file(media / "single_face.mp4", tmp_path_factory.mktemp("camera") / "face.mjpeg")
    with chromium(camera) as browser, watched_page(browser) as seen:
        yield seen
        assert (seen.errors, seen.refusals) == ([], [])
        assert len(seen.hosts) == 1


def test_streams_of_the_feed(watched: Watched, url: str, backend: InProcessBackend) -> None:
    page, face = watched.page, Face("entrance/north #1")
    assert backend.feed is not None
    for offset in range(30):
        backend.feed.add(2, offset, face.next_window().to_bytes())
    page.goto(url)
    row = page.locator("#streams tr")
    expect(row).to_have_attribute("data-windows", "30")
    backend.feed.add(2, 30, face.next_window().to_bytes())
    expect(row).to_have_attribute("data-windows", "31")
    expect(page.locator("#overview")).to_contain_text("Workers")
    row.get_by_role("link").click()
    expect(page.locator("#detail-facts")).to_contain_text("31 windows")
    expect(page.locator("#detail-card .card-title")).to_contain_text("Window 30")


def test_an_upload_is_what_predict_says(watched: Watched, url: str, media: Path) -> None:
    page = watched.page
    page.goto(f"{url}#upload")
    page.locator("#upload-files").set_input_files(media / "single_face.mp4")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#upload-state")).to_have_text("Done: 3 windows", timeout=60_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    windows = json.loads(Path(download.value.path()).read_text())["windows"]
    expected = list(predict_video(PACKAGED, media / "single_face.mp4"))
    for one, other in zip(map(Prediction.model_validate, windows), expected, strict=True):
        assert (one.window, one.expression) == (other.window, other.expression)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_a_webcam_is_answered(watched: Watched, url: str) -> None:
    page = watched.page
    page.goto(f"{url}#webcam")
    page.locator("#webcam-size").fill("2")
    page.locator("#webcam-stride").fill("0.5")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-state")).to_contain_text("Live · cafer-synthfer@", timeout=60_000)
    expect(page.locator("#webcam-windows")).not_to_have_text("0", timeout=60_000)
    expect(page.locator("#webcam-card")).to_contain_text("of 16 frames looked at")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#webcam-state")).to_contain_text("Stopped: ", timeout=60_000)
    expect(page.locator("#webcam-error")).to_be_hidden()
