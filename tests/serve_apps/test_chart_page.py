"""The chart page as a person sees it: a real browser, and the real applications over real column files."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from actors.live_hub import LiveHub
from tests.browser import Visit, visit
from tests.page_checks import serious_violations
from tests.polling import until
from tests.serve_apps.site import MINUTE, TOKEN, Site, opened

BTC = "?symbol=BTCUSDT&exchange=binance"
#: A trade is seen within this (ms).
SEEN_MS = 250


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as site:
        await site.history("BTCUSDT", [60000.12 + minute % 7 * 64 for minute in range(124)])
        await site.history("ETHUSDT", [3000 + minute % 5 for minute in range(120)])
        await site.history("BTC/USD", [60002.5 + minute for minute in range(60)], exchange="kraken")
        yield site


@asynccontextmanager
async def on_chart(site: Site, query: str = BTC, **options: Any) -> AsyncIterator[Visit]:
    async with visit(**options) as here:
        await here.page.goto(f"{site.address}/chart{query}")
        yield here


async def expect_text(page: Page, selector: str, text: str, within: float = 5000) -> None:
    await expect(page.locator(selector)).to_have_text(text, timeout=within)


async def colours_on_canvas(page: Page) -> int:
    count: int = await page.evaluate(
        """() => {
            const colours = new Set();
            for (const canvas of document.querySelectorAll("#chart canvas")) {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                for (const pixel of new Uint32Array(data.buffer)) colours.add(pixel);
            }
            return colours.size;
        }"""
    )
    return count


async def watch_for(page: Page, price: float) -> None:
    """Let `shown_at` tell when the chart had this price."""
    await page.evaluate(
        """(price) => void (window.shown = new Promise((resolve) => {
            const chart = document.getElementById("chart");
            const look = () => {
                if (chart.dataset.close !== String(price)) return false;
                watcher.disconnect();
                resolve(performance.timeOrigin + performance.now());
                return true;
            };
            const watcher = new MutationObserver(look);
            watcher.observe(chart, { attributes: true });
            look();
        }))""",
        price,
    )


async def shown_at(page: Page) -> float:
    """In seconds since the epoch."""
    at: float = await page.evaluate("() => window.shown")
    return at / 1000


async def test_the_page_draws_its_chart_without_errors_or_requests_to_another_origin(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#connection", "Live")
        await expect_text(page, "#name", "BTCUSDT")
        await expect_text(page, "#price", "60,256.12")
        await expect(page.locator("#feeds li")).to_have_text(["binance streaming · 12 ms", "kraken streaming · 12 ms"])
        assert await page.title() == "60,256.12 · BTCUSDT · rayfeed"
        await expect(page.locator("#chart")).to_have_attribute("data-bars", "124")
        assert await colours_on_canvas(page) > 20
        assert here.errors == []
        await page.goto(f"{site.address}/nope")
        await expect_text(page, "h1", "There is no page here")
        await page.get_by_role("link", name="Open the live chart").click()
        await expect_text(page, "#connection", "Live")
        assert here.origins - {site.address.replace("http", "ws")} == {site.address}


async def test_a_trade_moves_the_chart_within_250_ms(site: Site) -> None:
    async with on_chart(site) as here:
        await expect_text(here.page, "#connection", "Live")
        await expect_text(here.page, "#price", "60,256.12")
        # What was asked for is followed once the first one is seen.
        await site.trade("BTCUSDT", 60100.5)
        await expect_text(here.page, "#price", "60,100.50")
        took = []
        for price in (61000.25, 59000.75, 62000.5, 61500.25, 60500.75):
            await watch_for(here.page, price)
            begin = time.time()
            await site.trade("BTCUSDT", price)
            took.append((await asyncio.wait_for(shown_at(here.page), 10) - begin) * 1000)
        assert max(took) < SEEN_MS, took
        await expect_text(here.page, "#price", "60,500.75")
        await expect(here.page.locator("#tape tbody tr").first).to_contain_text("60,500.75")
        assert here.errors == []


async def test_the_newest_bars_are_there_before_those_that_take_long_to_load(site: Site) -> None:
    async with visit() as here:
        held = asyncio.Event()

        async def hold(route: Any) -> None:
            await held.wait()
            await route.continue_()

        await here.page.route("**/api/v1/charts/**", hold)
        await here.page.goto(f"{site.address}/chart{BTC}")
        # As many as the live feed gives at first.
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "100")
        await site.trade("BTCUSDT", 60700.5)
        await expect_text(here.page, "#price", "60,700.50")
        held.set()
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "125")
        await expect_text(here.page, "#price", "60,700.50")
        assert here.errors == []


async def test_the_open_bar_is_that_of_the_server_and_a_closed_one_has_its_indicators(site: Site) -> None:
    async with on_chart(site) as here:
        await expect_text(here.page, "#price", "60,256.12")
        now = time.time_ns()
        await site.trade("BTCUSDT", 60000, 61000, 60500)
        await expect_text(here.page, "#high", "61,000.00")
        await expect_text(here.page, "#volume", "1.5")
        # The next minute begins, which closes this one.
        await site.trade("BTCUSDT", 60600, at_ns=now + MINUTE)
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "126")
        await expect(here.page.locator("#legend li").first).to_contain_text("SMA 20 6")
        assert here.errors == []


async def test_a_symbol_is_found_and_chosen_by_keyboard(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await page.keyboard.press("/")
        await expect(page.locator("#symbols [role=option]")).to_have_count(3)
        await page.keyboard.type("btcusd")
        await expect(page.locator("#symbols [role=option]")).to_have_text(["BTCUSDT", "BTC/USD"])
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect_text(page, "#name", "BTC/USD")
        await expect_text(page, "#exchange", "kraken")
        await expect_text(page, "#price", "60,061.50")
        await expect(page).to_have_url(f"{site.address}/chart?symbol=BTC%2FUSD&exchange=kraken")
        await page.keyboard.type("nothing like it")
        await expect(page.locator("#symbols [role=option]")).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("combobox", name="Symbol")).to_have_value("BTC/USD")
        assert here.errors == []


async def test_a_list_that_comes_while_one_chooses_leaves_the_choice_where_it_was(site: Site) -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def later(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await told.wait()
        listed = await answer.json()
        listed["exchanges"]["binance"].insert(0, {**listed["exchanges"]["binance"][0], "symbol": "BTCUSD_PERP"})
        await route.fulfill(response=answer, json=listed)

    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await page.route("**/api/v1/symbols", later)
        await page.keyboard.press("/")
        await asked.wait()
        await page.keyboard.type("btcusd")
        await page.keyboard.press("ArrowDown")
        chosen = page.locator("#symbols [aria-selected=true]")
        await expect(chosen).to_have_text("BTC/USD")
        told.set()
        await expect(page.locator("#symbols [role=option]")).to_have_count(3)
        await expect(chosen).to_have_text("BTC/USD")
        await page.keyboard.press("Enter")
        await expect_text(page, "#name", "BTC/USD")
        assert here.errors == []


async def test_settings_survive_a_reload_and_a_bare_address(site: Site) -> None:
    async with on_chart(site, color_scheme="dark") as here:
        page = here.page
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="Switch to the light theme").click()
        await page.get_by_role("button", name="5m", exact=True).click()
        await page.locator("#indicators summary").click()
        await page.get_by_role("checkbox", name="SMA 20", exact=True).uncheck()
        await page.get_by_role("checkbox", name="VWAP 200").check()
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Đổi sang tiếng Việt").click()
        await expect_text(page, "#chooser label", "Mã giao dịch")
        for go in (page.reload, lambda: page.goto(f"{site.address}/chart")):
            await go()
            await expect(page.locator("html")).to_have_attribute("data-theme", "light")
            await expect(page.locator("html")).to_have_attribute("lang", "vi")
            await expect_text(page, "#connection", "Trực tiếp")
            await expect_text(page, "#name", "BTCUSDT")
            await expect(page.locator("#timeframes [aria-pressed=true]")).to_have_text("5m")
            await expect(page.locator("#legend .name")).to_have_text(
                ["SMA 50", "Bollinger 20", "VWAP 200", "Khối lượng", "RSI 14", "MACD 12 26 9"]
            )
        cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
        assert (cookies["preferred_language"]["value"], cookies["preferred_language"]["sameSite"]) == ("vi", "Lax")
        assert here.errors == []


async def test_a_browser_that_forbids_storage_only_loses_the_memory(site: Site) -> None:
    async with visit() as here:
        await here.page.add_init_script(
            """for (const name of ["localStorage", "sessionStorage"])
                Object.defineProperty(window, name, { get() { throw new DOMException("", "SecurityError"); } });"""
        )
        await here.page.goto(f"{site.address}/chart{BTC}")
        await expect_text(here.page, "#price", "60,256.12")
        await here.page.get_by_label("Token of the instance").fill(TOKEN)
        await here.page.get_by_role("button", name="Show", exact=True).click()
        await expect_text(here.page, "#alerts .note", "No alert is defined for this symbol.")
        assert here.errors == []


async def test_an_address_with_no_timeframe_of_ours_shows_the_one_that_was_chosen(site: Site) -> None:
    async with on_chart(site, f"{BTC}&timeframe=constructor") as here:
        await expect(here.page.locator("#timeframes [aria-pressed=true]")).to_have_text("1m")
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "124")


async def test_all_six_timeframes_and_thirteen_indicators_are_drawn(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await page.locator("#indicators summary").click()
        await page.get_by_role("button", name="All", exact=True).click()
        await page.keyboard.press("Escape")
        await expect(page.locator("#legend li")).to_have_count(13)
        for timeframe, least in (("5m", 24), ("15m", 8), ("1h", 2), ("4h", 1), ("1d", 1), ("1m", 124)):
            await page.get_by_role("button", name=timeframe, exact=True).click()
            await expect(page.locator("#chart:not([data-loading])")).to_be_visible()
            await page.wait_for_function(f"+document.getElementById('chart').dataset.bars >= {least}")
        values = await page.locator("#legend li").all_text_contents()
        # 124 bars are too few for one of them.
        assert sum("—" in value for value in values) == 1, values
        # Candles, volume, RSI, MACD and stochastic on one axis.
        assert await page.locator("#chart table tr").count() >= 6
        assert here.errors == []


async def test_the_chart_is_moved_and_zoomed_by_keys(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        chart = page.get_by_role("application")
        await chart.focus()
        latest = page.get_by_role("button", name="Latest bar")
        await expect(latest).to_be_hidden()
        for _ in range(4):
            await page.keyboard.press("ArrowLeft")
        await expect(latest).to_be_visible()
        await latest.click()
        await expect(latest).to_be_hidden()
        await chart.focus()
        await page.keyboard.press("Home")
        since = await page.locator("#since").text_content()
        for _ in range(8):
            await page.keyboard.press("+")
        await expect(page.locator("#since")).not_to_have_text(since or "")
        assert here.errors == []


async def test_two_symbols_are_compared(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await page.keyboard.press("c")
        await page.keyboard.type("eth")
        await page.keyboard.press("Enter")
        await expect_text(page, "#compared-name", "binance ETHUSDT")
        await expect(page).to_have_url(f"{site.address}/chart{BTC}&with=ETHUSDT&with_exchange=binance")
        await page.reload()
        await expect_text(page, "#compared-name", "binance ETHUSDT")
        await page.get_by_role("button", name="Remove").click()
        await expect(page.locator("#comparison")).to_be_hidden()
        await expect(page).to_have_url(f"{site.address}/chart{BTC}")
        assert here.errors == []


async def test_the_newest_trades_stay_the_newest_when_older_ones_are_told_again(site: Site) -> None:
    async with on_chart(site) as here:
        newest = here.page.locator("#tape tbody tr").first
        await expect(newest).to_contain_text("60,256.12")
        await here.page.evaluate(
            """() => {
                window.first = new Set();
                new MutationObserver(() => first.add(document.querySelector("#tape tbody tr").textContent))
                    .observe(document.querySelector("#tape"), { subtree: true, childList: true, characterData: true });
            }"""
        )
        before = await newest.text_content()
        # Another look at the same trades, which begins with a hundred of them.
        await here.page.get_by_role("button", name="5m", exact=True).click()
        await expect(here.page.locator("#chart:not([data-loading])")).to_be_visible()
        await site.trade("BTCUSDT", 60700.5)
        await expect(newest).to_contain_text("60,700.5")
        after = await newest.text_content()
        assert set(await here.page.evaluate("() => [...first]")) <= {before, after}
        assert here.errors == []


async def test_a_book_is_shown_while_it_can_be_trusted(site: Site) -> None:
    site.book("BTCUSDT", [(60000.5 - n, 1 + n) for n in range(25)], [(60001.5 + n, 2) for n in range(5)])
    async with on_chart(site) as here:
        rows = here.page.locator("#book tbody[data-side=bids] tr")
        await expect(rows.first.locator("td")).to_have_text(["60,000.5", "1", "1"])
        await expect(rows.nth(2).locator("td")).to_have_text(["59,998.5", "3", "6"])
        await expect(here.page.locator("#book tbody[data-side=asks] tr").last).to_contain_text("60,001.5")
        await expect_text(here.page, ".spread", "Spread 1.0 · 0.002%")
        site.book("BTCUSDT", [], [], "gapped")
        await expect(here.page.locator("#book .note")).to_contain_text("not shown until it can be trusted")
        await expect(here.page.locator("#book table")).to_be_hidden()
        assert here.errors == []


async def test_what_was_trusted_is_not_while_nobody_says_so(site: Site) -> None:
    site.book("BTCUSDT", [(60000.5, 1)], [(60001.5, 2)])
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#badge", "synced")
        await expect(page.locator("#book table")).to_be_visible()
        await site.stop()
        await expect_text(page, "#connection", "Reconnecting")
        await expect(page.locator("#book .note")).to_contain_text("not shown until it can be trusted")
        await expect(page.locator("#book table")).to_be_hidden()
        await expect_text(page, "#badge", "unknown")
        await site.start()
        await expect_text(page, "#badge", "synced", within=20_000)
        await expect(page.locator("#book table")).to_be_visible()


async def test_the_badge_and_the_gaps_of_the_symbol_are_shown(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#badge", "synced")
        now = time.time_ns()
        gap = {"exchange": "binance", "symbol": "BTCUSDT", "gap_id": 1, "first_id": 10, "last_id": 12, "missing": 3}
        gap |= {"from_ns": now - 5_000_000_000, "to_ns": now, "reason": "<b>connection lost</b>", "opened": now}
        site.gaps_rows = [gap | {"closed": None, "evidence": ""}]
        site.trust("BTCUSDT", "gapped", "<b>connection lost</b>", gaps_open=1)
        await expect_text(page, "#badge", "gapped")
        await expect(page.locator("#trust .summary")).to_contain_text("<b>connection lost</b>")
        cells = page.locator("#trust tbody td")
        await expect(cells.nth(1)).to_have_text("5.0 s")
        await expect(cells.nth(2)).to_have_text("3")
        await expect(cells.nth(3)).to_have_text("open")
        site.gaps_rows = [gap | {"closed": now, "evidence": "every id is stored"}]
        site.trust("BTCUSDT", "synced", gaps_closed=1)
        await expect_text(page, "#badge", "synced")
        await expect(cells.nth(3)).to_have_text("closed")
        await expect(cells.nth(4)).to_contain_text("every id is stored")
        assert here.errors == []


async def test_alerts_appear_when_they_fire_and_those_defined_with_the_token(site: Site) -> None:
    alert = {"exchange": "binance", "symbol": "BTCUSDT", "condition": "price_above", "threshold": 1.0}
    for symbol in ("BTCUSDT", "ETHUSDT"):
        await site.add_alert(alert | {"symbol": symbol, "channels": ["websocket"]})
    fired = alert | {"message": "BTCUSDT: price 2 is above 1", "fired_at": time.time_ns(), "delivery_id": "a:1"}
    # Before anybody looks at it.
    await site.hub.tell("alerts", [fired])
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await expect(page.locator("#alerts .fired li")).to_contain_text(["BTCUSDT: price 2 is above 1"])
        await until(lambda: any(one.topic == "alerts" for one in site.followed))
        await site.hub.tell("alerts", [fired | {"message": "BTCUSDT: price 3 is above 1", "delivery_id": "a:2"}])
        await expect(page.locator("#alerts .fired li")).to_contain_text(["price 3 is above 1", "price 2 is above 1"])
        await expect(page.locator("#alerts form")).to_be_hidden()
        assert here.errors == []
        await show_alerts(page, "wrong")
        await expect(page.locator("#alerts .note")).to_have_text("That token is not accepted.")
        await show_alerts(page, TOKEN)
        await expect(page.locator("#alerts .defined li > span")).to_have_text(["price above 1"])
        await expect(page.locator("#chart")).to_have_attribute("data-marked", "1")
        # Fired by itself, it is inactive if it is one for once.
        await site.change_alert("alert-0", {"is_active": False})
        await site.hub.tell("alerts", [fired | {"message": "BTCUSDT: price 4 is above 1", "delivery_id": "a:3"}])
        await expect(page.locator("#alerts .defined li > span")).to_have_text(["price above 1 inactive"])
        await expect(page.locator("#chart")).to_have_attribute("data-marked", "")


async def test_alerts_are_made_paused_and_removed_beside_the_chart(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await show_alerts(page, TOKEN)
        await expect(page.locator("#alerts .note")).to_have_text("No alert is defined for this symbol.")
        threshold = page.get_by_label("Threshold")
        await expect(threshold).to_have_value("60256.12")
        await threshold.fill("70000.5")
        await page.get_by_label("once only").check()
        # Whatever comes meanwhile, what was typed stays.
        await site.trade("BTCUSDT", 60100.5)
        await expect_text(page, "#price", "60,100.50")
        await page.get_by_role("button", name="Add", exact=True).click()
        said = page.locator("#alerts .defined li > span")
        await expect(said).to_have_text(["price above 70,000.5"])
        await expect(page.locator("#chart")).to_have_attribute("data-marked", "70000.5")
        made = site.defined["alert-0"]
        assert (made.exchange, made.symbol, made.threshold) == ("binance", "BTCUSDT", 70000.5)
        assert (made.channels, made.one_time) == (("websocket",), True)
        await page.get_by_role("button", name="5m", exact=True).click()
        for wanted, begins in (
            ("RSI above", " 70"),
            ("MACD crosses downwards", ""),
            ("close above the upper band", ""),
        ):
            await page.get_by_label("Tell me when").select_option(wanted)
            if begins:
                await expect(threshold).to_have_value(begins.strip())
            else:
                await expect(threshold).to_be_hidden()
            await page.get_by_role("button", name="Add", exact=True).click()
            await expect(said.filter(has_text=wanted)).to_have_text([f"{wanted}{begins} · 5m"])
        assert [(one.condition, one.threshold, one.timeframe) for one in list(site.defined.values())[1:]] == [
            ("rsi_above", 70.0, "5m"),
            ("macd_crossover", 0.0, "5m"),
            ("bollinger_above", None, "5m"),
        ]
        assert await serious_violations(page) == []
        # With the keyboard: who pauses one is still at its button.
        pause = page.get_by_role("button", name="Pause: price above 70,000.5")
        await pause.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Resume: price above 70,000.5")).to_be_focused()
        assert not site.defined["alert-0"].is_active
        await expect(page.locator("#chart")).to_have_attribute("data-marked", "")
        await page.get_by_role("button", name="Remove: price above 70,000.5").click()
        await expect(said).to_have_count(3)
        assert "alert-0" not in site.defined
        assert here.errors == []
        # What cannot be is said as the server says it.
        await page.get_by_label("Tell me when").select_option("RSI below")
        await threshold.fill("101")
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.locator("#alerts .note")).to_contain_text("threshold is 101: expected a number from 0 to 100")
        await expect(said).to_have_count(3)


async def show_alerts(page: Page, token: str) -> None:
    await page.get_by_label("Token of the instance").fill(token)
    await page.keyboard.press("Enter")


async def test_tiny_prices_keep_their_decimals_and_fit_a_phone_in_local_time(site: Site) -> None:
    noon = 1_763_640_000_000_000_000  # 2025-11-20 12:00 UTC
    await site.history("SHIBUSDT", [0.0000125, 0.000025, 0.0000125, 0.000025], until_ns=noon)
    phone = {"viewport": {"width": 375, "height": 812}, "timezone_id": "Asia/Ho_Chi_Minh"}
    async with on_chart(site, "?symbol=SHIBUSDT&exchange=binance", **phone) as here:
        await expect_text(here.page, "#price", "0.0000250")
        await expect_text(here.page, "#change", "+0.0000125 (+100.00%)")
        await expect_text(here.page, "#since", "since 18:56")
        await expect_text(here.page, "#time", "Nov 20, 18:59 GMT+7")
        assert await here.page.evaluate("document.documentElement.scrollWidth") == 375
        assert here.errors == []


async def test_a_symbol_without_bars_says_so_and_shows_the_first_one(site: Site) -> None:
    site.collected.append(("kraken", "SOL/USD"))
    async with on_chart(site, "?symbol=SOL/USD&exchange=kraken") as here:
        await expect(here.page.locator("#message")).to_contain_text("No bar of SOL/USD on kraken yet")
        await site.trade("SOL/USD", 150.25, exchange="kraken")
        await expect_text(here.page, "#price", "150.25")
        await expect(here.page.locator("#message")).to_be_hidden()


async def test_the_chart_of_trades_has_every_trade_of_one_moment(site: Site) -> None:
    now = time.time_ns()
    await site.trade("BTCUSDT", 60700.5, at_ns=now)
    async with on_chart(site, f"{BTC}&timeframe=trades") as here:
        chart = here.page.locator("#chart")
        await expect(chart).to_have_attribute("data-bars", "249")
        await until(lambda: any(one.topic == "trades" for one in site.followed))
        # As an order that is filled by several others, at an exchange that tells microseconds.
        for at_ns in (now, now, now, now + 2_000):
            await site.trade("BTCUSDT", 60700.5, at_ns=at_ns)
        await expect(chart).to_have_attribute("data-bars", "253")
        # And of those that were missed.
        await site.stop()
        await expect_text(here.page, "#connection", "Reconnecting")
        for at_ns in (now + 2_000, now + 5_000_000, now + 5_000_000, now + 5_000_000):
            await site.trade("BTCUSDT", 60800.5, at_ns=at_ns)
        await site.start()
        await expect(chart).to_have_attribute("data-bars", "257", timeout=20_000)


async def test_the_chart_of_trades_shows_those_of_another_day(site: Site) -> None:
    """As those of a replay, or of what is seldom traded."""
    before = time.time_ns() - 3 * 24 * 60 * MINUTE
    await site.history("OLDUSDT", [1.0, 2.0, 3.0], until_ns=before)
    async with on_chart(site, "?symbol=OLDUSDT&exchange=binance&timeframe=trades") as here:
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "6", timeout=10_000)
        await expect(here.page.locator("#message")).to_be_hidden()
        await site.trade("OLDUSDT", 4.0, at_ns=before + MINUTE)
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "7")
        assert here.errors == []


@asynccontextmanager
async def answers_held(page: Page, pattern: str) -> AsyncIterator[asyncio.Event]:
    """Inside, what the server answered comes no sooner than at the end; the event says that it has answered."""
    answered, let = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        answer = await route.fetch()
        answered.set()
        await let.wait()
        await route.fulfill(response=answer)

    await page.route(pattern, hold)
    yield answered
    let.set()


async def test_a_bar_that_closes_while_bars_are_loaded_is_shown_as_it_closed(site: Site) -> None:
    now = time.time_ns()
    await site.trade("BTCUSDT", 60300, at_ns=now)
    async with visit() as here:
        async with answers_held(here.page, "**/api/v1/charts/**") as answered:
            await here.page.goto(f"{site.address}/chart{BTC}")
            await answered.wait()
            await expect_text(here.page, "#price", "60,300.00")
            await site.trade("BTCUSDT", 61000.5, at_ns=now + 1_000_000)
            await expect_text(here.page, "#price", "61,000.50")
            await site.trade("BTCUSDT", 60600, 60600, at_ns=now + MINUTE)
            # The server has told both bars: trades alone do not change the volume.
            await expect_text(here.page, "#price", "60,600.00")
            await expect_text(here.page, "#volume", "1")
        await expect(here.page.locator("#chart:not([data-loading])")).to_be_visible()
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "126")
        box = await here.page.locator("#chart").bounding_box()
        assert box is not None
        # From the newest bar to the left.
        x, closes = box["x"] + box["width"], ["—"]
        while len(set(closes) - {"—", "60,600.00"}) == 0:
            x -= 3
            await here.page.mouse.move(x, box["y"] + box["height"] / 3)
            closes.append(await here.page.locator("#close").text_content() or "")
        assert closes[-1] == "61,000.50"
        assert here.errors == []


async def test_trades_that_come_while_others_are_loaded_are_on_the_chart_of_trades(site: Site) -> None:
    async with visit() as here:
        async with answers_held(here.page, "**/api/data?**") as answered:
            await here.page.goto(f"{site.address}/chart{BTC}&timeframe=trades")
            await answered.wait()
            await until(lambda: any(one.topic == "trades" for one in site.followed))
            await site.trade("BTCUSDT", 60700.5, 60701.5, 60702.5)
            await expect(here.page.locator("#tape tbody tr").first).to_contain_text("60,702.5")
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "251")
        await site.trade("BTCUSDT", 60703.5)
        await expect(here.page.locator("#chart")).to_have_attribute("data-bars", "252")
        assert here.errors == []


async def test_trades_that_nobody_remembers_to_tell_again_are_loaded(site: Site) -> None:
    async with on_chart(site, f"{BTC}&timeframe=trades") as here:
        chart = here.page.locator("#chart")
        await expect(chart).to_have_attribute("data-bars", "248")
        await expect_text(here.page, "#connection", "Live")
        await site.stop()
        await expect_text(here.page, "#connection", "Reconnecting")
        await site.hub.stop()
        site.hub = LiveHub(site.settings.live_feed, ["binance", "kraken"], site)
        # More than a snapshot has.
        await site.trade("BTCUSDT", *(60700.5 + n for n in range(150)))
        async with answers_held(here.page, "**/api/data?**") as answered:
            await site.start()
            await answered.wait()
            await expect(here.page.locator("#tape tbody tr").first).to_contain_text("60,849.5")
        await expect(chart).to_have_attribute("data-bars", "398", timeout=20_000)


async def test_the_page_says_that_the_server_is_gone_and_catches_up_by_itself(site: Site) -> None:
    async with on_chart(site) as here:
        page = here.page
        await expect_text(page, "#connection", "Live")
        await expect_text(page, "#price", "60,256.12")
        await site.stop()
        await expect_text(page, "#connection", "Reconnecting")
        await expect(page.locator("#message")).to_contain_text("The server does not answer")
        await expect_text(page, "#price", "60,256.12")
        now = time.time_ns()
        await site.trade("BTCUSDT", 60700, 61000, at_ns=now)
        await site.trade("BTCUSDT", 61100, at_ns=now + MINUTE)
        await site.start()
        await expect_text(page, "#connection", "Live", within=20_000)
        await expect_text(page, "#price", "61,100.00", within=10_000)
        await expect(page.locator("#chart")).to_have_attribute("data-bars", "126")
        await expect(page.locator("#message")).to_be_hidden()
        # And it goes on.
        await site.trade("BTCUSDT", 61200.5, at_ns=now + MINUTE + 1_000_000)
        await expect_text(page, "#price", "61,200.50")
