"""The page for everyone: keyboard, screen reader, contrast, dark scheme, a phone, classes that nobody has seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ray_fer.datasets.synthfer import media_folder
from tests.integration.browser import chromium, photograph, watched_page
from tests.integration.canned_predictions import prediction
from tests.integration.dashboard_server import Deployment, busy_deployment, serving

VIEWS = ("#live", "#stream/interview%2Fward%203.mp4", "#upload", "#webcam")

# Text whose contrast with what lies behind it is below WCAG 2's 4.5 (3 for large text), as [ratio, text].
POOR_CONTRAST = """() => {
    const parse = text => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const luminance = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = node => {
        const layers = [];
        for (let one = node; one; one = one.parentElement) layers.unshift(parse(getComputedStyle(one).backgroundColor));
        return layers.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
    };
    const poor = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim(), node = walker.currentNode.parentElement;
        if (!text || !node.checkVisibility() || node.closest('.unseen, option, :disabled')) continue;
        const style = getComputedStyle(node), ground = behind(node);
        const [dark, light] = [luminance(over(parse(style.color), ground)), luminance(ground)].sort((a, b) => a - b);
        const ratio = (light + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio < (large ? 3 : 4.5)) poor.push([ratio, text, node.className]);
    }
    return poor;
}"""

FOCUSED = """() => {
    const node = document.activeElement;
    return (node.ariaLabel || node.innerText || node.id).trim();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


@pytest.fixture
def deployment() -> Deployment:
    """Busy, and with something to complain of."""
    deployment = busy_deployment()
    deployment.play("car park", 3, status="no_face")
    deployment.play("a camera with a name that is far too long for any phone and even for a desk" * 2)
    deployment.statistics["lag_records"] = {0: 4210}
    return deployment


@pytest.fixture
def url(deployment: Deployment) -> Iterator[str]:
    with serving(deployment) as address:
        yield address


def settled(page: Page) -> None:
    """Wait until the page has what it shows: its streams, its alerts, and a view."""
    expect(page.locator("#status")).to_have_text("Live")
    expect(page.locator("#alerts .alert")).to_have_count(2)
    if page.evaluate("location.hash").startswith("#stream"):
        expect(page.locator("#detail-facts")).to_contain_text("windows")
    if page.evaluate("location.hash") == "#live":
        expect(page.locator("#streams .answer .name").first).not_to_be_empty()


def test_tabs_are_tabs(browser: Browser, url: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(url)
        settled(page)
        expect(page.get_by_role("tablist")).to_match_aria_snapshot(
            """
            - tablist "Views":
              - tab "Live" [selected]
              - tab "Upload"
              - tab "Webcam"
            """
        )
        page.get_by_role("tab", name="Live").focus()
        for key, name in (("ArrowRight", "Upload"), ("End", "Webcam"), ("ArrowRight", "Live"), ("ArrowLeft", "Webcam")):
            page.keyboard.press(key)
            tab = page.get_by_role("tab", name=name)
            expect(tab).to_be_focused()
            expect(tab).to_have_attribute("aria-selected", "true")
            expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
            assert page.get_by_role("tabpanel").count() == 1
            assert page.url.endswith(f"#{name.lower()}")
            assert page.title().endswith(" · ray_fer")
        page.go_back()
        expect(page.get_by_role("tabpanel", name="Live")).to_be_visible()


def test_the_way_of_the_tab_key(browser: Browser, url: str) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(url)
        settled(page)
        names = []
        for _ in range(10):
            page.keyboard.press("Tab")
            names.append(page.evaluate(FOCUSED))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert names[:3] == ["Skip to the content", "Live", "Settings"]
        assert sorted(name[:8] for name in names[3:6]) == ["Dismiss:", "Dismiss:", "car park"]
        assert names[6] == "filter"
        assert names[8:] == page.locator("#streams .stream-id").all_inner_texts()[:2]


def test_a_screen_reader_hears_the_table(browser: Browser, url: str, deployment: Deployment) -> None:
    deployment.events = [event for event in deployment.events if event[0] == "entrance-1"]
    with watched_page(browser) as seen:
        seen.page.goto(url)
        expect(seen.page.get_by_role("table", name="Live streams")).to_match_aria_snapshot(
            """
            - table "Live streams":
              - rowgroup:
                - row:
                  - columnheader "Stream"
                  - columnheader "Now"
                  - columnheader "Timeline"
                  - columnheader "Top Action Units"
                  - columnheader "Latency"
              - rowgroup:
                - row:
                  - rowheader /entrance-1/:
                    - link "entrance-1"
                  - cell /Happy \\d+%/
                  - cell /Last \\d+ windows/:
                    - img /Last \\d+ windows/
                  - cell /AU\\d+ \\d.\\d+/
                  - cell /ms/
            """
        )


def test_live_regions_do_not_chatter(browser: Browser, url: str, deployment: Deployment) -> None:
    with watched_page(browser) as seen:
        page = seen.page
        page.goto(f"{url}#stream/reception")
        settled(page)
        page.get_by_role("slider").focus()
        page.evaluate(
            """() => {
                window.spoken = [];
                const watch = node => new MutationObserver(list => spoken.push(...list.map(one => node.id)))
                    .observe(node, {subtree: true, childList: true, characterData: true});
                document.querySelectorAll('[aria-live], [role=status], [role=alert]').forEach(watch);
                new MutationObserver(() => spoken.push('slider')).observe(document.activeElement, {attributes: true,
                    attributeFilter: ['aria-valuetext', 'aria-valuenow', 'aria-valuemax']});
            }"""
        )
        for _ in range(5):
            deployment.play("reception")
            page.wait_for_timeout(200)
        expect(page.locator("#detail-facts")).to_contain_text("75 windows")
        assert page.evaluate("spoken") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser: Browser, url: str, scheme: str, tmp_path: Path) -> None:
    with watched_page(browser, color_scheme=scheme, reduced_motion="reduce") as seen:
        page = seen.page
        for view in VIEWS:
            page.goto(url + view)
            settled(page)
            assert page.evaluate(POOR_CONTRAST) == [], view
            if scheme == "dark":
                photograph(page, f"dark-{view[1:5]}", tmp_path)
        page.get_by_role("button", name="Settings").click()
        assert page.evaluate(POOR_CONTRAST) == []
        page.keyboard.press("Escape")
        page.goto(f"{url}#upload")
        page.locator("#upload-files").set_input_files(media_folder() / "single_face.mp4")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#upload-state")).to_contain_text("Done")
        assert page.evaluate(POOR_CONTRAST) == []


def test_canvases_follow_the_scheme(browser: Browser, url: str) -> None:
    pixel = "canvas => [...canvas.getContext('2d').getImageData(118, 248, 1, 1).data].slice(0, 3)"
    with watched_page(browser) as seen:
        seen.page.goto(f"{url}#stream/reception")
        settled(seen.page)
        chart = seen.page.locator("#detail-chart canvas")
        before = chart.evaluate(pixel)
        seen.page.emulate_media(color_scheme="dark")
        seen.page.wait_for_timeout(100)
        assert chart.evaluate(pixel) != before


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_it_all(browser: Browser, url: str, deployment: Deployment, view: str, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    deployment.key = "open sesame"
    with watched_page(browser, **phone) as seen:
        page = seen.page
        page.goto(url + view)
        page.get_by_label("Key", exact=True).fill("open sesame")
        page.get_by_role("button", name="Use this key").tap()
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        cut = page.evaluate(
            """() => [...document.querySelectorAll('main *, header *')].filter(node => node.checkVisibility()
                && !node.closest('.unseen, thead, .skip, .stream-id') && node.getBoundingClientRect().right > 361)
                .map(node => node.tagName + ' ' + node.textContent.trim())"""
        )
        assert cut == []
        photograph(page, f"phone-{view[1:5]}", tmp_path)


def test_nothing_moves_for_those_who_want_that(browser: Browser, url: str) -> None:
    moving = "() => document.getAnimations({subtree: true}).length"
    durations = """() => [...document.querySelectorAll('*')].map(node => getComputedStyle(node))
        .filter(style => parseFloat(style.transitionDuration) > 0 || style.animationName !== 'none').length"""
    with watched_page(browser, reduced_motion="reduce") as seen:
        seen.page.goto(url)
        settled(seen.page)
        assert (seen.page.evaluate(moving), seen.page.evaluate(durations)) == (0, 0)


def test_unknown_classes_keep_their_colours(browser: Browser) -> None:
    """A model with other classes: the same colours on each page, no two alike, and letters that tell them apart."""
    deployment = Deployment()
    names = ("Anxiety", "Contempt", "Disappointment", "Helplessness", "Repression", "Anger", "<b>odd</b>", "é")
    for name in names:
        shares = {one: 0.65 if one == name else 0.05 for one in names}
        deployment.events.append((name, prediction(f"shows {name}", shares).model_dump_json()))
    seen_colours = []
    with serving(deployment) as url:
        for order in (1, -1):
            deployment.events = deployment.events[::order]
            with watched_page(browser) as seen:
                seen.page.goto(url)
                expect(seen.page.locator("#streams tr")).to_have_count(len(names))
                expect(seen.page.locator("#streams .name").filter(has_text=re.compile("."))).to_have_count(len(names))
                seen_colours.append(
                    seen.page.evaluate(
                        """() => Object.fromEntries([...document.querySelectorAll('#streams tr')].map(row =>
                            [row.querySelector('.name').textContent, [row.querySelector('.swatch').style.background,
                             row.querySelector('.swatch').textContent]]))"""
                    )
                )
                assert seen.errors == []
    assert seen_colours[0] == seen_colours[1]
    assert set(seen_colours[0]) == set(names)
    assert seen_colours[0]["Anger"][0] == "rgb(213, 94, 0)"
    assert len({colour for colour, _ in seen_colours[0].values()}) == len(names)
    assert len({code for _, code in seen_colours[0].values()}) == len(names)
