"""The home page as a person sees it: what is known of the market, and what is not."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser import Visit, visit
from tests.polling import until
from tests.serve_apps.site import Site, opened

STALE = {"source": "coingecko", "as_of": "2025-11-20T12:00:00Z", "stale": True}
SUMMARY = {
    "btc_price_usd": 60123.5,
    "btc_change_24h": -1.25,
    "sol_price_usd": 150.25,
    "sol_change_24h": None,
    "xrp_price_usd": None,
    "market_cap_usd": 3.34e12,
    "market_cap_change_percentage_24h_usd": 0.5,
    "volume_24h_usd": None,
    "btc_market_cap_percentage": 54.2,
    "eth_market_cap_percentage": 12.1,
    "fng_value": 24,
    "btc_rsi_14": 70.0,
    "us_stock_indices": {"SPY": {"price": 512.3, "change": -2.1, "change_percent": -0.41, "status": "closed"}},
    "partial_failure": True,
    "last_updated": "2025-11-20T12:00:00Z",
    "fields": {"sol_price_usd": {"source": "binance", "stale": False}, "market_cap_usd": STALE},
}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as site:
        await site.history("BTCUSDT", [60000 + minute % 7 * 64 for minute in range(300)])
        await site.history("BTC/USD", [60002.5] * 60, exchange="kraken")
        site.summary = dict(SUMMARY)
        yield site


@asynccontextmanager
async def at_home(site: Site, **options: Any) -> AsyncIterator[Visit]:
    async with visit(**options) as here:
        await here.page.goto(f"{site.address}/")
        yield here


async def test_what_is_known_is_shown_and_what_is_not_says_so(site: Site) -> None:
    async with at_home(site) as here:
        page = here.page
        tile = page.locator("[data-tile]")
        await expect(tile.nth(0)).to_contain_text("$3.34T +0.50%")
        await expect(tile.nth(0).locator(".age")).to_have_text("Stale since Nov 20, 2025, 12:00")
        await expect(tile.nth(1)).to_contain_text("Not known")
        await expect(tile.nth(1).locator(".age")).to_have_text("No source answers")
        await expect(tile.nth(2).locator("dd")).to_have_text(["54.2%", "12.1%", "33.7%"])
        await expect(tile.nth(3)).to_contain_text("24 Extreme fear")
        await expect(tile.nth(3).get_by_role("img")).to_have_accessible_name("Fear & greed: 24 of 100, Extreme fear")
        await expect(tile.nth(4)).to_contain_text("70.0 Overbought")
        await expect(page.locator("[data-tile=SPY]")).to_contain_text("$512.30 -2.10 (-0.41%)")
        await expect(page.locator("[data-tile=DIA]")).to_contain_text("Not known")
        await expect(page.locator("[data-coin=sol]")).to_contain_text("$150.25")
        await expect(page.locator("[data-coin=sol] .age")).to_have_text("binance")
        await expect(page.locator("[data-coin=xrp] strong")).to_have_text("—")
        await expect(page.locator("#notice")).to_contain_text("Some figures could not be had")
        assert here.errors == []
        assert here.origins - {site.address.replace("http", "ws")} == {site.address}


async def test_figures_follow_the_summary(site: Site) -> None:
    async with at_home(site) as here:
        gauge = here.page.locator("[data-tile=fng_value]")
        await expect(gauge).to_contain_text("24 Extreme fear")
        assert site.summary is not None
        site.summary |= {"fng_value": 61, "partial_failure": False}
        await expect(gauge).to_contain_text("61 Greed", timeout=8000)
        await expect(here.page.locator("#notice")).to_be_hidden()


async def test_a_coin_of_our_own_feed_is_live_and_leads_to_its_chart(site: Site) -> None:
    async with at_home(site) as here:
        card = here.page.locator("[data-coin=btc]")
        await expect(card.get_by_role("img")).to_have_accessible_name(
            re.compile(
                r"Price of Bitcoin over \d\.\d h: from \$60,000.00 to \$60,320.00, lowest .*, highest \$60,384.00"
            )
        )
        await site.trade("BTCUSDT", 61000.5)
        await expect(card).to_contain_text("$61,000.50")
        await expect(card.locator(".change")).to_have_text("-1.25%")
        await expect(card.locator(".age")).to_have_text("Own feed")
        await card.click()
        await expect(here.page).to_have_url(f"{site.address}/chart?symbol=BTCUSDT&exchange=binance")
        assert here.errors == []


async def test_a_price_of_our_own_that_is_old_says_so(site: Site) -> None:
    noon = 1_763_640_000_000_000_000  # 2025-11-20 12:00 UTC
    await site.history("ETHUSDT", [3000.5] * 60, until_ns=noon)
    async with at_home(site) as here:
        card = here.page.locator("[data-coin=eth]")
        await expect(card).to_contain_text("$3,000.50")
        await expect(card.locator(".age")).to_have_text(re.compile("^Stale since Nov 20, 2025, 11:"))
        await site.trade("ETHUSDT", 3100.5)
        await expect(card).to_contain_text("$3,100.50")
        await expect(card.locator(".age")).to_have_text("Own feed")
        assert here.errors == []


async def test_every_symbol_is_listed_with_its_price_its_day_and_how_far_it_can_be_trusted(site: Site) -> None:
    async with at_home(site) as here:
        page = here.page
        rows = page.locator("#symbols tr")
        await expect(rows).to_have_count(2)
        # What is not in view is not asked for.
        await rows.nth(1).scroll_into_view_if_needed()
        await expect(rows.nth(1)).to_contain_text("60,002.50")
        await expect(rows.nth(1).locator(".badge")).to_have_text("synced")
        await expect(rows.nth(1).locator(".stroke")).to_have_attribute("d", re.compile(r"^M0,14(L[\d.]+,14)+$"))
        site.trust("BTC/USD", "gapped", "connection lost", exchange="kraken")
        await expect(rows.nth(1).locator(".badge")).to_have_text("gapped")
        await site.trade("BTC/USD", 60602.5, exchange="kraken")
        await expect(rows.nth(1)).to_contain_text("60,602.50")
        await expect(rows.nth(1).locator(".change")).to_have_text("+1.00%")
        await page.get_by_label("Filter symbols").fill("btcusdt")
        await expect(rows).to_have_count(1)
        await expect(page.locator("#symbols-summary")).to_have_text("1 of 2")
        await page.get_by_label("Filter symbols").fill("nothing like it")
        await expect(page.locator("#symbols-note")).to_have_text("Nothing matches “nothing like it”.")
        await page.get_by_label("Filter symbols").fill("")
        await rows.nth(1).get_by_role("link", name="BTC/USD").click()
        await expect(page).to_have_url(f"{site.address}/chart?symbol=BTC%2FUSD&exchange=kraken")
        assert here.errors == []


async def test_a_reader_who_types_and_scrolls_stays_connected(site: Site) -> None:
    site.collected += [("binance", f"S{number}USDT") for number in range(60)]
    async with visit() as here:
        page, closed = here.page, list[Any]()
        page.on("websocket", lambda socket: socket.on("close", lambda gone: closed.append(gone)))
        await page.goto(f"{site.address}/")
        await expect(page.locator("#symbols tr")).to_have_count(62)
        await page.locator("#filter").scroll_into_view_if_needed()
        await expect(page.locator("#connection")).to_have_text("Live")
        await page.evaluate(
            """async () => {
                const filter = document.getElementById("filter");
                for (let round = 0; round < 20; round++)
                    for (const typed of ["nothing", ""]) {
                        filter.value = typed;
                        filter.dispatchEvent(new Event("input"));
                        for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
                    }
            }"""
        )
        # What is in view at last is followed.
        await until(lambda: any(one.topic == "bars" and one.symbol == "BTCUSDT" for one in site.followed))
        await site.trade("BTCUSDT", 60700.5)
        await expect(page.locator("#symbols tr").first).to_contain_text("60,700.50")
        assert closed == []


async def test_while_the_server_is_gone_the_last_figures_stay_and_are_said_to_be_old(site: Site) -> None:
    async with at_home(site) as here:
        await expect(here.page.locator("[data-tile]").nth(0)).to_contain_text("$3.34T")
        await site.stop()
        await expect(here.page.locator("#notice")).to_contain_text("does not answer", timeout=10_000)
        await expect(here.page.locator("#connection")).to_have_text("Reconnecting")
        await expect(here.page.locator("[data-tile]").nth(0)).to_contain_text("$3.34T")
        await site.start()
        await expect(here.page.locator("#notice")).to_contain_text("Some figures", timeout=20_000)
        await expect(here.page.locator("#connection")).to_have_text("Live", timeout=20_000)
