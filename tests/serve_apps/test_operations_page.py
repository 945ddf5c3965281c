"""The operations page as a person sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import Visit, visit
from tests.serve_apps.site import Site, opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as site:
        for exchange, symbol in (("kraken", "XBT/USD"), ("binance", "BTCUSDT"), ("binance", "ETHUSDT")):
            await site.history(symbol, [1.0, 2.0], exchange=exchange)
        yield site


@asynccontextmanager
async def on_operations(site: Site, **options: Any) -> AsyncIterator[Visit]:
    async with visit(**options) as here:
        await here.page.goto(f"{site.address}/operations")
        yield here


async def expect_text(page: Page, selector: str, text: str, within: float = 5000) -> None:
    await expect(page.locator(selector)).to_have_text(text, timeout=within)


async def test_feeds_actors_and_caches_are_shown_and_what_is_wrong_is_said(site: Site) -> None:
    async with on_operations(site) as here:
        page = here.page
        await expect_text(page, "#status", "Everything works")
        await expect(page.locator("#feed-rows tr")).to_have_count(2)
        first = page.locator("#feed-rows tr").first
        await expect(first).to_contain_text("binance")
        await expect(first.locator("td").nth(1)).to_have_text("12 ms")
        await expect(page.locator("#actor-rows th")).to_have_text(
            ["collector:binance", "collector:kraken", "metrics", "shard:0"]
        )
        await expect(page.locator("#replicas div")).to_have_text(
            ["Serving data2", "Serving pages1", "Ready for requestsyes", "Not answeringnobody"]
        )
        await expect(page.locator("#cache")).to_contain_text("Hit rate")
        site.feeds["kraken"] |= {"state": "waiting", "last_error": "<i>refused</i>"}
        await expect_text(page, "#status", "Something is away or late")
        await expect(page.locator("#reasons li")).to_have_text("kraken: <i>refused</i>")
        await expect(page.locator("#feed-rows tr").nth(1)).to_contain_text("waiting")
        assert here.errors == []


async def test_who_is_sent_away_is_not_told_that_the_feeds_are(site: Site) -> None:
    async with on_operations(site) as here:
        page = here.page
        await expect_text(page, "#status", "Everything works")
        await expect(page.locator("#feed-rows tr")).to_have_count(2)
        problem = {"type": "about:blank", "status": 429, "detail": "Too many requests."}
        await page.route("**/api/v1/health", lambda route: route.fulfill(status=429, json=problem))
        await expect_text(page, "#status", "The server does not answer")
        await expect(page.locator("#feed-rows tr")).to_have_count(2)


async def test_a_fault_is_seen_to_happen_and_to_heal(site: Site) -> None:
    async with on_operations(site) as here:
        page = here.page
        rows = page.locator("#integrity-rows tr")
        await expect_text(page, "#integrity-summary", "All 3 symbols are synced")
        await expect(page.locator("#integrity-strip li")).to_have_text(["binance", "kraken"])
        await expect(rows.locator("th")).to_have_text(["BTCUSDT", "ETHUSDT", "XBT/USD"])
        colour = (
            await page.locator("#integrity-strip i").nth(1).evaluate("cell => getComputedStyle(cell).backgroundColor")
        )
        since = 1_763_640_000_000_000_000  # 2025-11-20 12:00 UTC
        site.trust("ETHUSDT", "gapped", "<b>connection lost</b>", since=since, gaps_open=1)
        await expect_text(page, "#integrity-summary", "1 gapped, 2 synced")
        cells = ["binance", "ETHUSDT", "gapped", "Nov 20, 2025, 12:00", "1", "0", "<b>connection lost</b>"]
        await expect(rows.first.locator("td, th")).to_have_text(cells)
        cell = page.locator("#integrity-strip i[data-state=gapped]")
        await expect(cell).to_have_attribute("title", "ETHUSDT gapped: <b>connection lost</b>")
        await expect(cell).not_to_have_css("background-color", colour)
        site.trust("ETHUSDT", "synced", gaps_closed=1)
        await expect_text(page, "#integrity-summary", "All 3 symbols are synced")
        await expect(page.locator("#integrity-rows .healed th")).to_have_text("ETHUSDT")
        await expect(rows.nth(1).locator("td").nth(4)).to_have_text("1")
        assert here.errors == []


async def test_without_an_answer_the_page_says_that_what_it_shows_is_old(site: Site) -> None:
    async with on_operations(site) as here:
        await expect_text(here.page, "#integrity-summary", "All 3 symbols are synced")
        await site.stop()
        await expect(here.page.locator("#integrity-summary")).to_contain_text("what it said last")
        await expect(here.page.locator("#integrity-summary")).to_have_attribute("data-state", "unknown")
        await expect_text(here.page, "#status", "The server does not answer")
        await expect(here.page.locator("#feed-rows tr")).to_have_count(2)
        await site.start()
        await expect_text(here.page, "#integrity-summary", "All 3 symbols are synced", within=20_000)
        await expect_text(here.page, "#status", "Everything works")


async def test_rows_that_are_not_understood_and_those_beyond_what_anybody_reads_are_left_out(site: Site) -> None:
    site.integrity_rows.clear()
    for number in range(300):
        site.trust(f"S{number:03}USDT", "synced")
    site.trust("BTC-USDT", "strange", exchange="okx")
    site.trust("X", "stale", exchange="okx")
    site.integrity_rows["none", "none"] = {"exchange": "none"}
    async with on_operations(site) as here:
        await expect_text(here.page, "#integrity-summary", "1 stale, 300 synced")
        await expect(here.page.locator("#integrity-strip i")).to_have_count(301)
        await expect(here.page.locator("#integrity-rows tr")).to_have_count(200)
        await expect(here.page.locator("#integrity-rows tr").first).to_contain_text("stale")
        assert here.errors == []
