"""The page in a real browser, before canned answers: live streams, one stream, alerts, keys, hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ray_fer.streaming.messages import Prediction
from tests.integration.browser import Watched, chromium, photograph, watched_page
from tests.integration.canned_predictions import VERSION
from tests.integration.dashboard_server import Deployment, busy_deployment, serving

OKABE_ITO = {
    "Angry": (213, 94, 0), "Disgust": (0, 158, 115), "Fear": (204, 121, 167), "Happy": (230, 159, 0),
    "Neutral": (141, 150, 163), "Sad": (0, 114, 178), "Surprise": (86, 180, 233),
}  # fmt: skip
HOSTILE = [
    "<img src=x onerror=window.hit=1>",
    '"><script>window.hit=1</script>',
    "javascript:window.hit=1",
    "../../v1/models?a=b#c%2Fd",
    "gate/\u202etxt.exe",
    "x" * 200,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


@pytest.fixture
def deployment() -> Deployment:
    """Twelve streams that have run for a while."""
    return busy_deployment()


@pytest.fixture
def url(deployment: Deployment) -> Iterator[str]:
    with serving(deployment) as address:
        yield address


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    """A page that must not fail, break its policy, or ask any host but its own."""
    with watched_page(browser) as seen:
        yield seen
        assert seen.errors == []
        assert seen.hosts <= {urlsplit(url).netloc}


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def row(page: Page, stream_id: str) -> Locator:
    return page.locator(f"#streams tr[data-stream={json.dumps(stream_id, ensure_ascii=False)}]")


def test_streams_appear_and_grow(page: Page, url: str, deployment: Deployment, tmp_path: Path) -> None:
    page.goto(url)
    expect(page.locator("#streams tr")).to_have_count(12)
    expect(page.locator("#status")).to_have_text("Live")
    expect(page.locator("#counts")).to_have_text("live: 12 streams, 842 windows")
    photograph(page, "live-light", tmp_path)

    deployment.play("entrance-1", 3)
    deployment.play("a new camera")
    expect(row(page, "entrance-1")).to_have_attribute("data-windows", "73")
    expect(row(page, "a new camera")).to_have_attribute("data-windows", "1")
    expect(page.locator("#counts")).to_have_text("live: 13 streams, 846 windows")

    newest = Prediction.model_validate_json(deployment.events[-2][1])
    entrance = row(page, "entrance-1")
    assert newest.expression is not None
    expect(entrance.locator(".answer .name")).to_have_text(newest.expression)
    expect(entrance.locator(".share")).to_have_text(f"{newest.probabilities[newest.expression]:.0%}")
    expect(entrance.locator(".latency")).to_have_text(f"{newest.latency_ms:,.0f} ms")
    expect(entrance.locator(".about")).to_have_text(f"cafer-synthfer@{VERSION} · global prior")
    strongest = sorted(newest.action_units.items(), key=lambda item: -item[1])[:3]
    assert entrance.locator(".units li").all_inner_texts() == [f"{name}\n{value:.2f}" for name, value in strongest]


def test_a_row_draws_its_windows(page: Page, url: str, deployment: Deployment) -> None:
    page.goto(url)
    timeline = row(page, "entrance-2").locator("canvas")
    texts = [text for name, text in deployment.events if name == "entrance-2"]
    expected = [OKABE_ITO[str(Prediction.model_validate_json(text).expression)] for text in texts]
    # A pixel of each block, at its upper left, where no letter is; the newest is at the right end.
    drawn = timeline.evaluate(
        """canvas => {
            const blocks = Math.floor(canvas.clientWidth / 19), step = canvas.width / blocks;
            const context = canvas.getContext('2d');
            return Array.from({length: blocks}, (_, place) =>
                [...context.getImageData(place * step + 4, 3, 1, 1).data].slice(0, 3));
        }"""
    )
    assert [tuple(colour) for colour in drawn] == expected[-len(drawn) :]
    assert len(drawn) > 20
    expect(timeline).to_have_attribute("aria-label", re.compile(rf"Last {len(drawn)} windows: .*Surprise \d+"))


def test_what_has_no_expression_says_why(page: Page, url: str, deployment: Deployment) -> None:
    page.goto(url)
    for status, text in (("no_face", "No face"), ("gap", "Gap"), ("skipped", "Skipped"), ("failed", "Failed")):
        deployment.play("lobby-east", status=status)
        expect(row(page, "lobby-east").locator(".answer .name")).to_have_text(text)
        expect(row(page, "lobby-east").locator(".share")).to_have_text("")
    expect(row(page, "lobby-east").locator(".answer .name")).to_have_attribute("title", re.compile("gave NaN"))


def test_filter_and_order(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#streams tr")).to_have_count(12)
    page.get_by_label("Filter").fill("ENTRANCE")
    expect(page.locator("#streams tr")).to_have_count(8)
    expect(page.locator("#shown")).to_have_text("8 of 12 match")
    page.get_by_label("Filter").fill("nobody")
    expect(page.get_by_text("No stream has this in its id.")).to_be_visible()
    page.get_by_role("button", name="Clear the filter").click()
    page.get_by_label("Sort").select_option("name")
    names = page.locator("#streams .stream-id").all_inner_texts()
    assert names[:3] == ["car park", "entrance-1", "entrance-2"]
    assert names == sorted(names)


def test_a_hundred_streams_and_twenty_thousand_windows(page: Page, url: str, deployment: Deployment) -> None:
    deployment.events.clear()
    for number in range(200):
        deployment.play(f"camera-{number}")
    page.goto(url)
    expect(page.locator("#streams tr")).to_have_count(100)
    expect(page.locator("#shown")).to_have_text("first 100 of 200 shown")
    page.evaluate(
        """() => {
            let last = performance.now();
            window.longest = 0;
            const tick = now => { longest = Math.max(longest, now - last); last = now; requestAnimationFrame(tick); };
            requestAnimationFrame(tick);
        }"""
    )
    template = deployment.events[0][1]
    deployment.events.extend(
        (f"camera-{number}", json.dumps(_at(json.loads(template), f"camera-{number}", index)))
        for index in range(1, 100)
        for number in range(200)
    )
    expect(page.locator("#counts")).to_have_text("live: 200 streams, 20,000 windows", timeout=60_000)
    assert page.evaluate("longest") < 1000
    assert page.evaluate("document.querySelectorAll('*').length") < 5000
    page.get_by_role("button", name="Show 100 more").click()
    expect(page.locator("#streams tr")).to_have_count(200)


def _at(prediction: dict, stream_id: str, index: int) -> dict:
    return prediction | {"stream_id": stream_id, "window": prediction["window"] | {"index": index}}


def test_a_lost_connection_loses_nothing(watched: Watched, url: str, deployment: Deployment) -> None:
    page = watched.page
    page.goto(url)
    expect(page.locator("#counts")).to_have_text("live: 12 streams, 842 windows")
    deployment.down = True
    expect(page.locator("#status")).to_have_text("Connection lost")
    expect(page.locator("#alerts")).to_contain_text("the deployment restarts; try again in a moment")
    deployment.play("reception", 5)
    deployment.down = False
    expect(page.locator("#status")).to_have_text("Live", timeout=20_000)
    expect(page.locator("#counts")).to_have_text("live: 12 streams, 847 windows")
    expect(page.locator("#alerts")).to_be_hidden()
    assert deployment.last_event_ids == [None, "0:842"]
    assert set(watched.refusals) == {"503"}


def test_a_stream_by_keyboard(page: Page, url: str, deployment: Deployment, tmp_path: Path) -> None:
    page.goto(url)
    row(page, "interview/ward 3.mp4").get_by_role("link").focus()
    page.keyboard.press("Enter")
    assert urlsplit(page.url).fragment == "stream/interview%2Fward%203.mp4"
    expect(page.get_by_role("heading", name="interview/ward 3.mp4")).to_be_focused()
    facts = f"cafer-synthfer@{VERSION} · culture: stream header (African 70%, East Asian 30%) · 70 windows · 2 sessions"
    expect(page.locator("#detail-facts")).to_have_text(facts)
    history = [Prediction.model_validate_json(text) for name, text in deployment.events if name.startswith("interview")]
    photograph(page, "detail-light", tmp_path, whole=True)

    chart = page.get_by_role("slider")
    chart.focus()
    for key, place in (("ArrowLeft", -2), ("PageDown", -12), ("ArrowRight", -11), ("Home", 0), ("End", -1)):
        page.keyboard.press(key)
        _shows(page, history[place])
    expect(page.get_by_role("button", name="Follow newest")).to_have_attribute("aria-pressed", "true")

    deployment.play("interview/ward 3.mp4", session=4211)
    newest = Prediction.model_validate_json(deployment.events[-1][1])
    _shows(page, newest)
    expect(page.locator("#detail-table tbody tr").first).to_contain_text(str(newest.window.index))
    page.keyboard.press("ArrowLeft")
    deployment.play("interview/ward 3.mp4", session=4211)
    expect(page.locator("#detail-facts")).to_contain_text("72 windows")
    _shows(page, history[-1])
    expect(page.get_by_role("button", name="Follow newest")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("link", name="All streams").click()
    expect(page.locator("#stream-table")).to_be_visible()


def _shows(page: Page, prediction: Prediction) -> None:
    """The card beside the chart says all that the prediction does."""
    card = page.locator("#detail-card")
    assert prediction.expression is not None
    expect(card.locator(".card-title")).to_contain_text(f"Window {prediction.window.index} ·")
    expect(card.locator(".answer-name")).to_have_text(prediction.expression)
    tables = card.get_by_role("table")
    for name, share in prediction.probabilities.items():
        expect(tables.nth(0).get_by_role("row", name=name)).to_contain_text(f"{share:.0%}")
    assert tables.nth(1).locator("tbody th").all_inner_texts() == list(prediction.action_units)
    assert tables.nth(1).locator(".number").all_inner_texts() == [f"{v:.2f}" for v in prediction.action_units.values()]
    expect(card).to_contain_text(f"in {prediction.window.faces} of 16 frames looked at")
    expect(card).to_contain_text("stream header: African 70%, East Asian 30%")


def test_the_chart_draws_the_probabilities(page: Page, url: str, deployment: Deployment) -> None:
    page.goto(f"{url}#stream/reception")
    expect(page.locator("#detail-facts")).to_contain_text("70 windows")
    newest = [Prediction.model_validate_json(text) for name, text in deployment.events if name == "reception"][-3]
    # Colours down the middle of the third column from the right, in the lane of the probabilities.
    column = page.locator("#detail-chart canvas").evaluate(
        """canvas => {
            const context = canvas.getContext('2d'), step = (canvas.width - 126) / 70;
            const x = Math.floor(118 + 67.5 * step);
            const data = context.getImageData(x, 13, 1, 234).data;
            return Array.from({length: 234}, (_, y) => [...data.slice(4 * y, 4 * y + 3)]);
        }"""
    )
    for name, share in newest.probabilities.items():
        found = sum(tuple(pixel) == OKABE_ITO[name] for pixel in column) / len(column)
        assert found == pytest.approx(share, abs=0.02)


def test_names_that_are_markup_stay_names(watched: Watched, url: str, deployment: Deployment) -> None:
    page = watched.page
    for stream_id in HOSTILE:
        deployment.play(stream_id, 12, status="no_face")
    page.goto(url)
    expect(page.locator("#alerts")).to_contain_text("streams")
    for stream_id in HOSTILE:
        link = row(page, stream_id).get_by_role("link")
        assert link.text_content() == stream_id
        link.click()
        expect(page.locator("#detail-title")).to_have_text(re.compile(re.escape(stream_id)))
        expect(page.locator("#detail-facts")).to_contain_text("12 windows")
        assert page.evaluate("location.hash") == f"#stream/{quote(stream_id, safe=chr(33) + chr(39) + '()*-_.~')}"
        page.goto(f"{url}#live")
    assert page.evaluate("window.hit") is None
    assert page.locator("main img:visible, main script").count() == 0
    assert watched.refusals == []


def test_alerts_say_what_to_do(page: Page, url: str, deployment: Deployment, tmp_path: Path) -> None:
    page.goto(url)
    expect(page.locator("#streams tr")).to_have_count(12)
    expect(page.locator("#alerts")).to_be_hidden()
    deployment.statistics["lag_records"] = {0: 4000, 1: 210}
    deployment.statistics["dead_letters"] += 3
    deployment.workers = 0
    deployment.play("car park", 2, status="no_face")
    alerts = page.locator("#alerts .alert")
    expect(alerts).to_have_count(4)
    expect(page.locator("#alerts")).to_have_attribute("aria-live", "polite")
    for key, text, advice in (
        ("lag", "4,210 records wait to be read.", "ray-fer serve --workers"),
        ("dead-letters", "3 records went to the dead-letter topic.", "ray-fer stream tail --dead-letters"),
        ("workers", "No stream worker answers.", "serve status"),
        ("faceless", "No face for 10 windows or longer in 1 stream: car park", "See where the camera looks"),
    ):
        expect(page.locator(f".alert[data-key={key}]")).to_contain_text(text)
        expect(page.locator(f".alert[data-key={key}]")).to_contain_text(advice)
    photograph(page, "alerts", tmp_path)

    page.get_by_role("button", name="Dismiss: 3 records").click()
    page.get_by_role("button", name="Dismiss: No face").click()
    expect(alerts).to_have_count(2)
    deployment.statistics["dead_letters"] += 1
    expect(page.locator(".alert[data-key=dead-letters]")).to_contain_text("1 record went")
    deployment.workers, deployment.statistics["lag_records"] = 2, {0: 3}
    expect(alerts).to_have_count(1)

    # What was put away comes back for a stream that joins, and not because one of several has a face again.
    deployment.play("reception", 10, status="no_face")
    faceless = page.locator(".alert[data-key=faceless]")
    expect(faceless).to_contain_text("in 2 streams: car park, reception")
    page.get_by_role("button", name="Dismiss: No face").click()
    deployment.play("car park")
    expect(row(page, "car park").locator(".name")).not_to_have_text("No face")
    page.wait_for_timeout(1_500)
    expect(faceless).to_be_hidden()


def test_a_lag_that_grows_is_told_before_it_is_large(page: Page, url: str, deployment: Deployment) -> None:
    page.goto(url)
    # Faster than life: each look at the figures finds more.
    page.clock.install()
    page.reload()
    expect(page.locator("#streams tr")).to_have_count(12)
    for look in range(12):
        deployment.statistics["lag_records"] = {0: 20 + 10 * look}
        with page.expect_response("**/v1/statistics"):
            page.clock.run_for(2_000)
    expect(page.locator(".alert[data-key=lag]")).to_contain_text("the lag grows")


def test_thresholds_are_kept(page: Page, url: str, deployment: Deployment) -> None:
    deployment.workers = 1
    page.goto(url)
    page.get_by_role("button", name="Settings").click()
    dialog = page.get_by_role("dialog", name="Alert settings")
    dialog.get_by_label("Fewer stream workers than").fill("2")
    dialog.get_by_label("Windows of a stream without a face").fill("8")
    dialog.get_by_role("button", name="Save").click()
    for _ in range(2):
        expect(page.locator(".alert[data-key=workers]")).to_contain_text("1 of 2 stream workers answer.")
        expect(page.locator(".alert[data-key=faceless]")).to_contain_text("car park")
        page.reload()
    page.get_by_role("button", name="Settings").click()
    dialog.get_by_role("button", name="Defaults").click()
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("#alerts")).to_be_hidden()


def test_a_key_is_asked_for_once(watched: Watched, url: str, deployment: Deployment, tmp_path: Path) -> None:
    page, deployment.key = watched.page, "open sesame"
    page.goto(url)
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog.get_by_label("Key")).to_be_focused()
    expect(dialog.get_by_role("alert")).to_be_hidden()
    dialog.get_by_label("Key").fill("guess")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("This key was refused: no such key")
    photograph(page, "key", tmp_path)
    dialog.get_by_label("Key").fill("open sesame")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#streams tr")).to_have_count(12)
    page.goto(f"{url}#stream/reception")
    page.reload()
    expect(page.locator("#detail-facts")).to_contain_text("70 windows")
    expect(dialog).to_be_hidden()
    assert set(watched.refusals) == {"401"}
    assert page.evaluate("localStorage.length") == 0


def test_without_a_key_the_page_waits(watched: Watched, url: str, deployment: Deployment) -> None:
    page, deployment.key = watched.page, "open sesame"
    page.goto(url)
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("API key needed")
    expect(page.locator("#alerts")).to_contain_text("This deployment asks for an API key.")
    refused = len(watched.refusals)
    page.get_by_role("button", name="API key", exact=True).click()
    assert len(watched.refusals) == refused
    page.get_by_label("Key", exact=True).fill("open sesame")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#streams tr")).to_have_count(12)
    expect(page.locator("#alerts")).to_be_hidden()


def test_without_kafka_uploads_come_first(page: Page, url: str, deployment: Deployment) -> None:
    deployment.stream = False
    page.goto(url)
    expect(page.locator("#panel-upload")).to_be_visible()
    assert page.get_by_role("tab").all_inner_texts() == ["Upload", "Webcam", "Live"]
    page.get_by_role("tab", name="Live").click()
    expect(page.get_by_text("This deployment reads no Kafka")).to_be_visible()
    expect(page.locator("#status")).to_have_text("No Kafka here")


def test_below_a_prefix(browser: Browser, deployment: Deployment) -> None:
    with serving(deployment, prefix="/team/faces") as url, watched_page(browser) as seen:
        seen.page.goto(f"{url}#stream/reception")
        expect(seen.page.locator("#detail-facts")).to_contain_text("70 windows")
        seen.page.goto(f"{url}#live")
        expect(seen.page.locator("#streams tr")).to_have_count(12)
        assert (seen.errors, seen.refusals) == ([], [])
