"""Headless Chromium through Playwright, and what a page did in it that it should not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.integration.conftest import need

INSECURE_HOST = "dashboard.test"
"""Leads to this machine, and is no secure context as 127.0.0.1 is."""

_REFUSED = "Failed to load resource: the server responded with a status of "
_VIOLATION = "document.addEventListener('securitypolicyviolation', e => console.error('CSP: ' + e.violatedDirective))"


@contextmanager
def chromium(webcam: Path | None = None) -> Iterator[Browser]:
    """The system's Chromium, which finds no host but this machine; `webcam` is an .mjpeg file that its camera shows.

    Playwright's event loop stays on this thread until the end, so nothing else can use asyncio here meanwhile.
    """
    program = shutil.which("chromium")
    need([] if program else ["chromium"], "the page is looked at in a real browser")
    flags = [
        "--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
        f"--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]  # fmt: skip
    if webcam is not None:
        flags.append(f"--use-file-for-fake-video-capture={webcam}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def camera_file(video: Path, target: Path, frames: int = 72) -> Path:
    """A video's first frames as JPEGs one after the other, which Chromium plays as a camera."""
    with av.open(str(video)) as source, target.open("wb") as out:
        for frame, _ in zip(source.decode(video=0), range(frames), strict=False):
            codec = av.CodecContext.create("mjpeg", "w")
            codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
            codec.time_base = source.streams.video[0].time_base
            for packet in (*codec.encode(frame.reformat(format="yuvj420p")), *codec.encode(None)):
                out.write(bytes(packet))
    return target


@dataclass
class Watched:
    """A page and what it did: errors of its scripts and its policy, refused requests, hosts that it asked."""

    page: Page
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def heard(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        if message.text.startswith(_REFUSED):
            self.refusals.append(message.text.removeprefix(_REFUSED)[:3])
        else:
            self.errors.append(message.text)

    def asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("blob", "data"):
            self.hosts.add(address.netloc)


@contextmanager
def watched_page(browser: Browser, **context: Any) -> Iterator[Watched]:
    """A page of its own, with the options of a browser context."""
    options = {"viewport": {"width": 1400, "height": 900}, "locale": "en-US", **context}
    with browser.new_context(**options) as room:
        room.set_default_timeout(15_000)
        room.add_init_script(_VIOLATION)
        page = room.new_page()
        watched = Watched(page)
        page.on("console", watched.heard)
        page.on("pageerror", lambda error: watched.errors.append(str(error)))
        page.on("request", watched.asked)
        page.on("websocket", lambda one: watched.hosts.add(urlsplit(one.url).netloc))
        yield watched


def photograph(page: Page, name: str, folder: Path, whole: bool = False) -> None:
    """Save what the page shows as PNG: in the folder of RAY_FER_SCREENSHOTS, if it is set, else in `folder`."""
    folder = Path(os.environ.get("RAY_FER_SCREENSHOTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.png"
    page.screenshot(path=str(target), full_page=whole)
    if not target.read_bytes().startswith(b"\x89PNG"):
        pytest.fail(f"{target} is no picture")
