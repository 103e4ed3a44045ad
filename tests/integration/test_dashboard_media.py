"""Uploads and the webcam of the page in a real browser, before a server that decodes what it gets."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2
import pytest
from playwright.sync_api import Browser, Page, expect

from ray_fer.datasets.synthfer import media_folder
from ray_fer.labels import AU_NAMES, EXPRESSIONS
from ray_fer.streaming.messages import Prediction
from tests.integration.browser import INSECURE_HOST, Watched, camera_file, chromium, photograph, watched_page
from tests.integration.canned_predictions import VERSION
from tests.integration.dashboard_server import Deployment, serving

VIDEO = media_folder() / "WolfgangLanger_Pexels.mp4"
SHORT = media_folder() / "single_face.mp4"
SOME_WINDOWS = re.compile(r"^\d+ windows? so far$")
SEVERAL = re.compile(r"^([6-9]|\d\d+)$")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its camera shows the face of `SHORT`."""
    with chromium(camera_file(SHORT, tmp_path_factory.mktemp("camera") / "face.mjpeg")) as program:
        yield program


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def url(deployment: Deployment) -> Iterator[str]:
    with serving(deployment) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    with watched_page(browser) as seen:
        yield seen
        assert seen.errors == []
        assert {host.split(":")[0] for host in seen.hosts} <= {"127.0.0.1", INSECURE_HOST}


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def upload(page: Page, url: str, *files: Path) -> None:
    page.goto(f"{url}#upload")
    page.get_by_label("Choose a video or images").set_input_files(files)
    page.get_by_role("button", name="Predict").click()


def done(page: Page, windows: int) -> None:
    expect(page.locator("#upload-state")).to_have_text(f"Done: {windows} window{'s' * (windows > 1)}", timeout=30_000)


def test_a_video_and_its_windows_stay_in_step(page: Page, url: str, deployment: Deployment, tmp_path: Path) -> None:
    upload(page, url, VIDEO)
    expect(page.locator("#upload-state")).to_have_text(SOME_WINDOWS)
    expect(page.locator("#upload-card .card-title")).to_have_text("Window 0 · 0:00–0:05")
    done(page, 20)
    assert deployment.uploads == [{"query": {"format": "ndjson"}, "files": [VIDEO.name], "fields": {}}]

    # A click on the chart: the video goes there.
    chart, video, title = page.get_by_role("slider"), page.locator("#upload-video"), page.locator("#upload-card h3")
    box = chart.bounding_box()
    assert box is not None
    column = (box["width"] - 126) / 20
    chart.click(position={"x": 118 + 12.5 * column, "y": 100})
    expect(title).to_have_text("Window 12 · 0:12–0:17")
    assert video.evaluate("video => video.currentTime") == pytest.approx(12, abs=0.05)
    chart.press("ArrowLeft")
    expect(title).to_have_text("Window 11 · 0:11–0:16")
    assert video.evaluate("video => video.currentTime") == pytest.approx(11, abs=0.05)

    # The video moves, by hand or playing: the window goes along.
    video.evaluate("video => { video.currentTime = 7.4 }")
    expect(title).to_have_text("Window 7 · 0:07–0:12")
    photograph(page, "upload-light", tmp_path, whole=True)
    video.evaluate("video => { video.playbackRate = 4; video.play() }")
    expect(title).to_have_text(re.compile(r"^Window 1\d · 0:1\d–0:\d\d$"))
    video.evaluate("video => { video.pause(); video.currentTime = 0 }")
    expect(title).to_have_text("Window 0 · 0:00–0:05")


def test_a_result_can_be_kept(page: Page, url: str, tmp_path: Path) -> None:
    upload(page, url, SHORT)
    done(page, 3)
    kept = {}
    for kind in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {kind}").click()
        assert download.value.suggested_filename == f"single_face.{kind.lower()}"
        kept[kind] = tmp_path / kind
        download.value.save_as(kept[kind])

    result = json.loads(kept["JSON"].read_text())
    windows = [Prediction.model_validate(window) for window in result["windows"]]
    assert [one.window.index for one in windows] == [0, 1, 2]
    assert (result["stream_id"], result["broken"]) == ("upload-1", [])
    assert result["model"] == {"name": "cafer-synthfer", "version": VERSION}

    with kept["CSV"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, one in zip(rows, windows, strict=True):
        assert (row["expression"], row["status"], row["error"]) == (one.expression, "ok", "")
        assert (float(row["start_s"]), float(row["end_s"])) == (one.window.start_us / 1e6, one.window.end_us / 1e6)
        assert {name: float(row[f"p_{name}"]) for name in EXPRESSIONS} == one.probabilities
        assert {name: float(row[name]) for name in AU_NAMES} == one.action_units


def test_names_that_are_formulas_stay_text(page: Page, url: str, deployment: Deployment) -> None:
    deployment.model = '=HYPERLINK("http://127.0.0.1"),1'
    upload(page, url, SHORT)
    done(page, 3)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with open(download.value.path(), newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"'" + deployment.model}


def test_options_go_along(page: Page, url: str, deployment: Deployment, happy_clip: Path, tmp_path: Path) -> None:
    page.goto(f"{url}#upload")
    assert page.get_by_label("Model").first.locator("option").all_inner_texts() == [
        "cafer-synthfer (default)",
        f"former-dfer {VERSION}",
    ]
    page.locator("#upload-model").select_option("former-dfer")
    page.locator("#upload-size").fill("1")
    page.locator("#upload-stride").fill("0.25")
    page.locator("#upload-files").set_input_files(happy_clip)
    page.get_by_role("button", name="Predict").click()
    done(page, 20)
    assert deployment.uploads[0]["query"] == {
        "model": "former-dfer", "size": "1", "stride": "0.25", "format": "ndjson",
    }  # fmt: skip
    expect(page.locator("#upload-card")).to_contain_text(f"former-dfer@{VERSION}")
    expect(page.locator("#upload-card")).to_contain_text("Window 0 · 0:00–0:01")
    page.locator("#upload-video").evaluate("video => { video.currentTime = 2.6 }")
    expect(page.locator("#upload-card")).to_contain_text("Window 10 · ")
    photograph(page, "upload-synthfer", tmp_path, whole=True)


def test_images_and_one_that_is_none(page: Page, url: str, deployment: Deployment, tmp_path: Path) -> None:
    with av.open(str(SHORT)) as source:
        for number, frame in zip(range(1, 13), source.decode(video=0), strict=False):
            cv2.imwrite(str(tmp_path / f"face-{number}.jpg"), frame.to_ndarray(format="bgr24"))
    (tmp_path / "face-3.jpg").write_bytes(b"no picture")
    page.goto(f"{url}#upload")
    page.locator("#upload-files").set_input_files(sorted(tmp_path.glob("*.jpg")))
    expect(page.locator("#chosen")).to_contain_text("12 images")
    page.get_by_label("Images per second").fill("2")
    page.get_by_role("button", name="Predict").click()
    done(page, 6)
    (sent,) = deployment.uploads
    assert sent["files"] == [f"face-{number}.jpg" for number in range(1, 13)]
    assert sent["fields"] == {"fps": "2"}
    expect(page.locator("#broken")).to_have_text("face-3.jpg not a picture that can be decoded")
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(page.locator("#upload-image")).to_have_attribute("alt", "Image 11 of 12: face-11.jpg")
    assert page.locator("#upload-image").evaluate("image => image.naturalWidth") == 640


def test_errors_are_the_servers_words(watched: Watched, url: str, deployment: Deployment, tmp_path: Path) -> None:
    page = watched.page
    garbage = tmp_path / "clip.mp4"
    garbage.write_bytes(b"no video at all" * 100)
    error = page.locator("#upload-error")
    upload(page, url, garbage)
    expect(error).to_have_text("clip.mp4: not a video that can be read; convert it to MP4")
    expect(page.locator("#upload-result")).to_be_hidden()

    deployment.most_bytes = 100_000
    upload(page, url, SHORT)
    expect(error).to_have_text("the upload is larger than 100000 bytes; send a shorter video")
    deployment.busy = (429, "the rate of this key is spent.", 7)
    upload(page, url, SHORT)
    expect(error).to_have_text("the rate of this key is spent. Try again in 7 s.")
    deployment.busy, deployment.most_bytes = None, 10**8
    page.locator("#upload-stride").evaluate("input => { input.form.noValidate = true; input.value = '-1' }")
    page.get_by_role("button", name="Predict").click()
    expect(error).to_have_text("stride: Input should be greater than 0")
    assert watched.refusals == ["400", "413", "429", "422"]

    page.locator("#upload-files").set_input_files([SHORT, VIDEO])
    expect(error).to_have_text("Choose one video, or several images; not both, and not several videos.")


def test_an_upload_that_ends_early(page: Page, url: str, deployment: Deployment) -> None:
    deployment.window_s = 0.3
    upload(page, url, VIDEO)
    expect(page.locator("#upload-state")).to_have_text(SOME_WINDOWS)
    deployment.down = True
    expect(page.locator("#upload-error")).to_have_text("the model's replica has died; send the video again")
    expect(page.get_by_role("button", name="Download CSV")).to_be_visible()
    deployment.down = False
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#upload-state")).to_have_text(SOME_WINDOWS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#upload-error")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Predict")).to_be_enabled()


def test_a_video_that_the_browser_cannot_play(page: Page, url: str, tmp_path: Path) -> None:
    """MPEG-4 part 2 in Matroska: any decoder of ours reads it, no browser does."""
    odd = tmp_path / "odd.mkv"
    with av.open(str(SHORT)) as source, av.open(str(odd), "w") as target:
        track = target.add_stream("mpeg4", rate=30)
        track.width, track.height = 640, 360
        for frame in source.decode(video=0):
            target.mux(track.encode(frame.reformat(format="yuv420p")))
        target.mux(track.encode(None))
    upload(page, url, odd)
    done(page, 3)
    expect(page.locator("#upload-media-note")).to_contain_text("This browser cannot play the file.")
    page.get_by_role("slider").press("End")
    expect(page.locator("#upload-card .card-title")).to_contain_text("Window 2")


def test_an_upload_with_a_key(watched: Watched, url: str, deployment: Deployment) -> None:
    page = watched.page
    page.goto(f"{url}#upload")
    expect(page.locator("#status")).to_have_text("Live")
    deployment.key = "open sesame"
    page.locator("#upload-files").set_input_files(SHORT)
    page.get_by_role("button", name="Predict").click()
    page.get_by_label("Key", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    done(page, 3)
    assert set(watched.refusals) == {"401"}


def test_the_webcam_goes_out_and_predictions_come_back(
    page: Page, url: str, deployment: Deployment, tmp_path: Path
) -> None:
    page.goto(f"{url}#webcam")
    expect(page.get_by_text("does not store them")).to_be_visible()
    page.locator("#webcam-size").fill("2")
    page.locator("#webcam-stride").fill("0.5")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-state")).to_have_text(
        f"Live · cafer-synthfer@{VERSION}, windows of 2 s every 0.5 s", timeout=20_000
    )
    expect(page.locator("#webcam-windows")).to_have_text(SEVERAL, timeout=20_000)
    expect(page.locator("#webcam-card .card-title")).to_contain_text("Window")
    assert page.locator("#webcam-video").evaluate("video => !video.paused && video.videoWidth") == 640
    photograph(page, "webcam", tmp_path, whole=True)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#webcam-state")).to_contain_text("Stopped: ")

    assert deployment.live_starts == [
        {"type": "start", "key": None, "model": None, "size": 2, "stride": 0.5, "lateness": 0.2}
    ]
    times = [pts_us for pts_us, _ in deployment.live_frames]
    assert {size for _, size in deployment.live_frames} == {(640, 360)}
    assert times == sorted(times)
    assert 4 < (len(times) - 1) / ((times[-1] - times[0]) / 1e6) < 10.5
    expect(page.locator("#webcam-state")).to_contain_text(f"Stopped: {len(times)} frames")
    assert page.locator("#webcam-video").evaluate("video => video.srcObject") is None


def test_leaving_the_tab_stops_the_camera(page: Page, url: str, deployment: Deployment) -> None:
    page.goto(f"{url}#webcam")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-state")).to_contain_text("Live", timeout=20_000)
    track = page.locator("#webcam-video").evaluate_handle("video => video.srcObject.getTracks()[0]")
    page.get_by_role("tab", name="Upload").click()
    assert track.evaluate("track => track.readyState") == "ended"


def test_frames_are_dropped_when_the_network_is_slow(page: Page, url: str, deployment: Deployment) -> None:
    page.add_init_script("Object.defineProperty(WebSocket.prototype, 'bufferedAmount', { get: () => 1e7 })")
    page.goto(f"{url}#webcam")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-dropped")).to_have_text(SEVERAL, timeout=20_000)
    expect(page.locator("#webcam-sent")).to_contain_text("0 ")
    assert deployment.live_frames == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NotAllowedError", "Allow it in the address bar, then start again."),
        ("NotFoundError", "No camera was found. Connect one, then start again."),
        ("NotReadableError", "Close that program, then start again."),
    ],
)
def test_no_camera_says_what_to_do(page: Page, url: str, name: str, text: str) -> None:
    page.add_init_script(
        f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))"
    )
    page.goto(f"{url}#webcam")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-error")).to_contain_text(text)
    expect(page.get_by_role("button", name="Start")).to_be_visible()


def test_a_page_without_https_has_no_camera(page: Page, url: str) -> None:
    page.goto(f"http://{INSECURE_HOST}:{urlsplit(url).port}/#webcam")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-error")).to_contain_text("Open this page over HTTPS")


def test_a_server_that_has_no_room_for_a_webcam(page: Page, url: str, deployment: Deployment) -> None:
    deployment.busy = (503, "all places are taken; try again in a minute", 60)
    page.goto(f"{url}#webcam")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-error")).to_have_text("all places are taken; try again in a minute")
    expect(page.locator("#webcam-off")).to_be_visible()


def test_the_webcam_gives_the_key(page: Page, url: str, deployment: Deployment) -> None:
    deployment.key = "open sesame"
    page.goto(f"{url}#webcam")
    page.get_by_label("Key", exact=True).fill("open sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("Live")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#webcam-state")).to_contain_text("Live", timeout=20_000)
    assert deployment.live_starts[0]["key"] == "open sesame"
