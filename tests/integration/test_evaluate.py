"""`ray-fer evaluate` as a user runs it, and its page in a real browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.evaluation.landscape import LandscapeOptions
from ray_fer.evaluation.landscape_run import loss_landscape
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.preprocessing.store_index import read_index
from tests.clip_stores import colour_store
from tests.integration.conftest import need


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": 7, "test": 35}, frames=16)


def evaluate(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["ray-fer", "evaluate", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def report(
    tiny_bundle: Path, store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("report") / "out"
    done = evaluate(environment, tiny_bundle, store, "-o", output)
    assert done.returncode == 0, done.stderr
    assert f"report: {output}/index.html" in done.stdout
    assert "UAR %" in done.stdout
    return output


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium that notes its console and every request."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    need(missing, "the page is looked at in a real browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.timeout(400)
def test_evaluate(report: Path, tiny_bundle: Path, store: Path, environment: dict[str, str], tmp_path: Path) -> None:
    content = json.loads((report / "report.json").read_text())
    assert content["metrics"]["count"] == 35
    answers = read_predictions(report / "predictions.parquet")
    assert content["metrics"]["war"]["value"] == pytest.approx((answers.truth == answers.predicted).mean())
    assert answers.features.shape == (35, 16)

    again = evaluate(environment, tiny_bundle, store, "-o", report)
    assert again.returncode == 2
    assert "pass --overwrite" in again.stderr

    options = ("--split", "all", "--tell-culture", "--subjects", "--json")
    told = evaluate(environment, tiny_bundle, store, "-o", tmp_path / "told", *options)
    assert told.returncode == 0, told.stderr
    content = json.loads(told.stdout)
    assert (content["metrics"]["count"], content["culture_told"]) == (42, True)
    assert content["intervals"]["unit"] == "subject"


@pytest.mark.timeout(300)
def test_the_loss_landscape(tiny_bundle: Path, store: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Over Ray's actors: the same losses as in one process, and at the trained weights that of the answers."""
    asked = ("--landscape", "--landscape-points", "3", "--landscape-clips", "100")
    done = evaluate(environment, tiny_bundle, store, "-o", tmp_path / "out", *asked)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "landscape.json").read_text())
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["clips"] == 35
    assert found["losses"][1][1] == pytest.approx(content["calibration"]["nll"], abs=1e-6)
    chosen, options = read_index(store).split("test"), LandscapeOptions(clips=100, points=3)
    np.testing.assert_allclose(found["losses"], loss_landscape(tiny_bundle, chosen, options, here=True).losses, 1e-6)


@pytest.mark.timeout(300)
def test_bad_input_is_one_line(tiny_bundle: Path, store: Path, environment: dict[str, str], tmp_path: Path) -> None:
    for words, message in (
        ((tiny_bundle, tmp_path / "nowhere"), "nowhere"),
        ((tiny_bundle, store, "--split", "validation"), "there are test, train"),
        ((tmp_path / "nothing", store), "no such bundle"),
    ):
        done = evaluate(environment, *words, "-o", tmp_path / "out")
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()


@pytest.mark.timeout(300)
def test_the_page_in_a_browser(report: Path, browser: Any, tmp_path: Path) -> None:
    kept = Path(os.environ.get("RAY_FER_SCREENSHOTS", tmp_path))
    address = (report / "index.html").resolve().as_uri()
    for name, width, scheme in (("light", 1200, "light"), ("dark", 1200, "dark"), ("phone", 390, "light")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(address)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        broken = "return [...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt)"
        assert browser.execute_script(broken) == []
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (kept / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
    headings = browser.execute_script("return [...document.querySelectorAll('h2')].map(one => one.textContent)")
    assert headings == [
        "Classes", "Groups and fairness", "Calibration", "Latents", "Action Unit profiles", "Where it looked",
        "Worst mistakes", "How it was trained", "Caveats of the model card", "Reproduce and cite",
    ]  # fmt: skip
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert address in asked
    own = ("data:", "chrome://")  # the second: the browser's first, empty tab
    assert {url for url in asked if not url.startswith(own)} == {address}


@pytest.mark.timeout(300)
def test_the_page_on_paper(report: Path, browser: Any, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((report / "index.html").resolve().as_uri())
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    (tmp_path / "page.pdf").write_bytes(pdf)
    assert pdf.startswith(b"%PDF")
    pages = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page ")
    assert 6 <= pages <= 12
