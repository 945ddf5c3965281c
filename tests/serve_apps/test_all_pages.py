"""What holds for every page: it can be used by everybody, in both languages, at every size, and quickly."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import visit
from tests.page_checks import SIZES, serious_violations, texts
from tests.serve_apps.site import Site, opened

PAGES = ("/", "/chart?symbol=BTCUSDT&exchange=binance", "/operations", "/nope")
#: Interactive within this (ms), on a machine of two processors that does nothing else.
INTERACTIVE_MS = 1500
#: Names that are the same in both languages.
SAME = {
    "API",
    "Actor",
    "SMA",
    "EMA",
    "RSI",
    "MACD",
    "VWAP",
    "Bollinger",
    "Stochastic",
    "BTC",
    "ETH",
    "ms",
    "Token",
    "rayfeed",
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as site:
        await site.history("BTCUSDT", [60000.12 + minute % 7 * 64 for minute in range(300)])
        await site.history("BTC/USD", [60002.5 + minute for minute in range(60)], exchange="kraken")
        site.book("BTCUSDT", [(60000.5 - n, 1) for n in range(25)], [(60001.5 + n, 2) for n in range(25)])
        site.summary = {"btc_price_usd": 60000.0, "fng_value": 61, "btc_rsi_14": 75.5, "market_cap_usd": 3.1e12}
        now = time.time_ns()
        gap = {"exchange": "kraken", "symbol": "BTC/USD", "gap_id": 1, "first_id": 1, "last_id": 2, "missing": 2}
        gap |= {"from_ns": now - 10**10, "to_ns": now, "reason": "connection lost", "opened": now, "closed": None}
        site.gaps_rows = [gap | {"evidence": ""}]
        site.trust("BTC/USD", "gapped", "connection lost", exchange="kraken", gaps_open=1)
        yield site


async def settled(page: Page) -> None:
    """All that comes at first is there."""
    if await page.locator("#connection").count():
        await expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        await expect(page.locator("#feeds li")).to_have_count(2)
    for waiting in ("#chart[data-loading]", "#book.without", "#tape.without"):
        await expect(page.locator(waiting)).to_have_count(0)
    if await page.locator("#coins").count():
        await expect(page.locator("#coins .stroke").first).to_be_attached()
        await expect(page.locator("#symbols tr")).to_have_count(2)
        await expect(page.locator("[data-tile=fng_value]")).to_contain_text("61")
    if await page.locator("#gap-rows").count():
        await expect(page.locator("#gap-rows .badge, #actor-rows .badge").first).to_be_visible()
        await expect(page.locator("#cache div").nth(2)).to_be_attached()


def same(one: set[str], other: set[str]) -> set[str]:
    """Texts that are in both, though they have words."""
    return {text for text in one & other if any(word.isalpha() and word not in SAME for word in text.split())}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
async def test_axe_finds_nothing_serious(site: Site, page: str, theme: Any) -> None:
    async with visit(color_scheme=theme) as here:
        await here.page.goto(site.address + page)
        await settled(here.page)
        assert await serious_violations(here.page) == []


@pytest.mark.parametrize("page", PAGES)
async def test_every_text_is_in_the_language_that_is_chosen(site: Site, page: str) -> None:
    async with visit() as here:
        said = {}
        for language in ("en", "vi"):
            await here.page.goto(f"{site.address}{page}{'&' if '?' in page else '?'}lang={language}")
            await settled(here.page)
            said[language] = await texts(here.page)
        both = {
            text
            for text in said["en"] & said["vi"]
            if not all(word in SAME or not word.isalpha() for word in text.split())
        }
        assert both == set()
        assert len(said["vi"]) > 2


async def test_switching_the_language_changes_the_page_at_once(site: Site) -> None:
    async with visit(locale="vi-VN") as here:
        for page in PAGES[:3]:
            await here.page.goto(site.address + page)
            await settled(here.page)
            before = await texts(here.page)
            await here.page.get_by_role("button", name="Switch to English").click()
            await expect(here.page.locator("html")).to_have_attribute("lang", "en")
            await settled(here.page)
            after = await texts(here.page)
            left = {
                text for text in before & after if not all(word in SAME or not word.isalpha() for word in text.split())
            }
            assert left == set(), page
            await here.page.get_by_role("button", name="Đổi sang tiếng Việt").click()
        assert here.errors == []


@pytest.mark.parametrize("size", SIZES)
async def test_no_page_is_wider_than_its_window(site: Site, size: str) -> None:
    width, height = SIZES[size]
    async with visit(viewport={"width": width, "height": height}) as here:
        for page in PAGES:
            await here.page.goto(site.address + page)
            await settled(here.page)
            assert await here.page.evaluate("document.documentElement.scrollWidth") == width, page


@pytest.mark.parametrize("page", PAGES[:3])
async def test_a_page_can_be_used_soon(site: Site, page: str) -> None:
    async with visit() as here:
        took = []
        for _ in range(3):
            await here.page.goto("about:blank")
            await here.page.goto(site.address + page)
            # Its scripts have run then, and listen.
            ended = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            took.append(await here.page.evaluate(ended))
        print(page, took)
        assert min(took) < INTERACTIVE_MS, took


async def test_the_content_is_reached_and_left_by_keyboard_alone(site: Site) -> None:
    async with visit() as here:
        await here.page.goto(f"{site.address}/operations")
        await settled(here.page)
        await here.page.keyboard.press("Tab")
        await expect(here.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await here.page.keyboard.press("Enter")
        await expect(here.page.locator("#main")).to_be_focused()
        await here.page.goto(f"{site.address}/")
        for _ in range(4):
            await here.page.keyboard.press("Tab")
        await here.page.keyboard.press("Enter")
        await expect(here.page).to_have_url(f"{site.address}/chart?symbol=BTCUSDT&exchange=binance")
        await expect(here.page.get_by_role("link", name="Chart", exact=True)).to_have_attribute("aria-current", "page")
