"""A real browser for tests of pages: Debian's Chromium, headless, driven by Playwright.

A `Visit` is one page in a browser of its own; it writes down what a page must not do unseen: errors on
the console and requests to other origins.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from shutil import which
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import ConsoleMessage, Page, Request, async_playwright

CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page and what it did: console errors (and uncaught exceptions), and every address it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    @property
    def origins(self) -> set[str]:
        """Scheme, host and port of everything the page asked for."""
        parts = [urlsplit(url) for url in self.requests]
        return {f"{part.scheme}://{part.netloc}" for part in parts}


@asynccontextmanager
async def visit(**options: Any) -> AsyncIterator[Visit]:
    """A blank page in a browser of its own, closed at the end; fails the test when Chromium is not installed.

    English and in UTC, unless `options` of Playwright's `Browser.new_context` say else.
    """
    if which(CHROMIUM) is None:
        pytest.fail(f"{CHROMIUM} is missing: the browser tests need the Debian package `chromium`", pytrace=False)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield Visit(await browser.new_page(**{"locale": "en-US", "timezone_id": "UTC"} | options))
        finally:
            await browser.close()
