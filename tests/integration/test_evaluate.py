"""`ray-fer evaluate` as a user runs it, and its page in a real browser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ray_fer.evaluation.landscape import LandscapeOptions
from ray_fer.evaluation.landscape_run import loss_landscape
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.preprocessing.store_index import read_index
from tests.clip_stores import colour_store
from tests.integration.browser import chromium, photograph, watched_page


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
@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("light", 1200, "light"), ("dark", 1200, "dark"), ("phone", 390, "light")]
)
def test_the_page_in_a_browser(report: Path, tmp_path: Path, name: str, width: int, scheme: str) -> None:
    address = (report / "index.html").resolve().as_uri()
    size = {"width": width, "height": 900}
    with chromium() as browser, watched_page(browser, viewport=size, color_scheme=scheme) as watched:
        page, asked = watched.page, set[str]()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt)"
        assert page.evaluate(broken) == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        photograph(page, name, tmp_path, whole=True)
        assert page.locator("h2").all_text_contents() == [
            "Classes", "Groups and fairness", "Calibration", "Latents", "Action Unit profiles", "Where it looked",
            "Worst mistakes", "How it was trained", "Caveats of the model card", "Reproduce and cite",
        ]  # fmt: skip
        assert watched.errors == []
        assert {url for url in asked if not url.startswith("data:")} == {address}


@pytest.mark.timeout(300)
def test_the_page_on_paper(report: Path, tmp_path: Path) -> None:
    with chromium() as browser, watched_page(browser) as watched:
        watched.page.goto((report / "index.html").resolve().as_uri())
        pdf = watched.page.pdf(path=str(tmp_path / "page.pdf"), prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    pages = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page ")
    assert 6 <= pages <= 12
