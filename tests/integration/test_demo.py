"""`ray-fer demo` as a user runs it: the table's numbers, the page in a real browser, and nothing left behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page

from ray_fer.bundle import PACKAGED, load_bundle
from ray_fer.serving.predict import predict_video
from ray_fer.streaming.messages import Prediction
from tests.integration.browser import chromium, photograph, watched_page
from tests.integration.conftest import hear_interrupts

Leftovers = Callable[[], tuple[set[str], set[str]]]


class Demo:
    """A running demo: its output so far, and the address of its page."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        command = ["ray-fer", "demo", "--output", str(folder / "out"), *arguments]
        self.folder = folder / "out"
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder,
            preexec_fn=hear_interrupts,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def page(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"dashboard at (http://\S+)", self.output)
            if found:
                return found[1]
            time.sleep(0.2)
        raise AssertionError(f"no dashboard came up:\n{self.output}")

    def finish(self, timeout_s: float) -> int:
        code = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return code


@contextmanager
def running_demo(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[Demo]:
    demo = Demo(folder, environment, *arguments)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            try:
                demo.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                demo.process.kill()


def windows_by_stream(page: Page) -> dict[str, int]:
    """Stream id -> windows in its timeline, as the page shows them."""
    script = """rows => Object.fromEntries(rows.map(row => [row.dataset.stream, Number(row.dataset.windows)]))"""
    return page.locator("#streams tr").evaluate_all(script)


@pytest.mark.timeout(400)
def test_demo_once(tmp_path: Path, environment: dict[str, str], left_behind: Leftovers, media: Path) -> None:
    with running_demo(tmp_path, environment, "--once") as demo:
        url = demo.page(timeout_s=120)
        with chromium() as browser, watched_page(browser) as watched:
            watched.page.goto(url)
            first = _wait_for(lambda: windows_by_stream(watched.page), lambda shown: len(shown) >= 8, demo)
            grown = _wait_for(
                lambda: windows_by_stream(watched.page),
                lambda shown: sum(shown.values()) >= sum(first.values()) + 20,
                demo,
            )
            assert all(grown[stream] >= count for stream, count in first.items())
            text = watched.page.inner_text("body")
            assert re.search(r"live: \d+ streams, \d+ windows", text)
            assert "WolfgangLanger_Pexels.mp4" in text
            assert re.search(r"AU\d\d\s\d\.\d\d", text)
            assert watched.errors == []
            photograph(watched.page, "demo", tmp_path)
        assert demo.finish(timeout_s=200) == 0, demo.output

    summary = json.loads((demo.folder / "summary.json").read_text())
    predictions = [
        Prediction.model_validate_json(line) for line in (demo.folder / "predictions.jsonl").read_text().splitlines()
    ]
    assert (summary["missing"], summary["repeated"]) == (0, 0)
    # Held-out identities, measured through the stream.
    assert summary["classification"]["count"] == 56
    assert summary["classification"]["uar"] >= 0.70
    assert f"UAR {summary['classification']['uar']:.3f}" in demo.output
    assert (demo.folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    for name, seconds in (("single_face.mp4", 3), ("WolfgangLanger_Pexels.mp4", 20), ("face_noface.mov", 7)):
        mine = [p for p in predictions if p.stream_id == name]
        assert [p.window.index for p in mine] == list(range(seconds))
        check_against_predict(mine, media / name)
    assert [p.status for p in predictions if p.stream_id == "face_noface.mov"][2:] == ["no_face"] * 5
    assert left_behind() == (set(), set())


def check_against_predict(streamed: list[Prediction], video: Path) -> None:
    """Ray Serve, Kafka and all, against the file read in this process: the same windows, the same numbers."""
    for one, other in zip(predict_video(PACKAGED, video), streamed, strict=True):
        assert (one.window, one.status, one.expression) == (other.window, other.status, other.expression)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def _wait_for(
    look: Callable[[], dict[str, int]], enough: Callable[[dict[str, int]], bool], demo: Demo
) -> dict[str, int]:
    deadline = time.monotonic() + 60
    shown: dict[str, int] = {}
    while time.monotonic() < deadline:
        shown = look()
        if enough(shown):
            return shown
        time.sleep(0.3)
    raise AssertionError(f"the page shows only {shown}\n{demo.output}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(
    tmp_path: Path, environment: dict[str, str], left_behind: Leftovers, how: signal.Signals
) -> None:
    with running_demo(tmp_path, environment, "--labelled-streams", "0") as demo:
        demo.page(timeout_s=120)
        time.sleep(6)
        demo.process.send_signal(how)
        code = demo.finish(timeout_s=60)
    assert code in (0, 130), demo.output
    assert "Traceback" not in demo.output
    assert left_behind() == (set(), set())


@pytest.mark.timeout(900)
def test_a_model_made_from_nothing_is_real(tmp_path: Path, environment: dict[str, str], left_behind: Leftovers) -> None:
    cache = tmp_path / "cache"
    with running_demo(
        tmp_path, environment | {"RAY_FER_CACHE": str(cache)}, "--train", "--once", "--speed", "2"
    ) as demo:
        assert demo.finish(timeout_s=850) == 0, demo.output
    summary = json.loads((demo.folder / "summary.json").read_text())
    assert summary["classification"]["uar"] >= 0.60
    bundle = load_bundle(cache / "bundles" / "cafer-synthfer-demo")
    assert bundle.metrics["test"]["uar"] >= 0.60
    assert bundle.metrics["clips"]["train"] == 392
    assert summary["model"].startswith("cafer-synthfer-demo")
    assert left_behind() == (set(), set())
