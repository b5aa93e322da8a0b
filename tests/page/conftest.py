"""A page that runs, and a browser that looks at it: the Chromium of this system, driven by Playwright."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

START_SECONDS = 300  # the model may have to be compiled
WAIT_MS = 30_000  # for what a loaded machine takes its time over


class Watched:
    """Notes what a page must never do: throw, fail to load, or ask another machine."""

    def __init__(self, page: Page) -> None:
        self.page, self.faults = page, []
        page.on("pageerror", lambda error: self.faults.append(f"error in the page: {error}"))
        page.on("console", self._said)
        page.on("request", self._asked)
        page.on("response", self._answered)

    def _said(self, message) -> None:
        # What fails as an answer is taken, Shiny catches and says there.
        if message.type == "error":
            self.faults.append(f"error in the console: {message.text}")

    def _asked(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.faults.append(f"asked another machine: {request.url}")

    def _answered(self, response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail("no Chromium on this system. Install it: `apt-get install chromium` (.ci/run does so).")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where `mscrenal app` answers, started as a user starts it."""
    command = [sys.executable, "-u", "-m", "mscrenal.app.cli", "app", "--no-open"]
    said: queue.Queue[str] = queue.Queue()
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    ) as process:

        def listen() -> None:
            for line in process.stdout:
                lines.append(line)
                said.put(line)

        threading.Thread(target=listen, daemon=True).start()
        try:
            while True:
                line = said.get(timeout=START_SECONDS)
                if "http://127.0.0.1:" in line:
                    yield next(word for word in line.split() if word.startswith("http://"))
                    break
        except queue.Empty:
            pytest.fail(f"the page did not start; it said: {''.join(lines)}")
        finally:
            process.terminate()
    assert not [line for line in lines if "Traceback" in line or "ERROR" in line], "".join(lines)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Containers run tests as root, where Chromium's own sandbox cannot start; all it opens is our page.
        made = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A fresh page; the test fails if it throws, fails to load something, or asks another machine."""
    made = context.new_page()
    watched = Watched(made)
    yield made
    assert not watched.faults, "\n".join(watched.faults)
