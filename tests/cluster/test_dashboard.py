"""The pages of a whole instance, as people meet them at its door."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import websockets
from playwright.async_api import Page, expect

from tests.browser import visit
from tests.cluster.running import Instance
from tests.page_checks import SIZES, serious_violations
from tests.polling import until

CHART = "/chart?symbol=BTCUSDT&exchange=binance"
PAGES = {"home": "/", "chart": CHART, "operations": "/operations"}
SUMMARY = "/api/crypto/dashboard-summary"
#: A trade is seen within this (ms) after the live feed told it.
SEEN_MS = 250
AWAY_S = 60


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Where screenshots are kept: RAYFEED_ARTIFACTS, else with what the test leaves."""
    folder = Path(os.environ.get("RAYFEED_ARTIFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def settled(page: Page) -> None:
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=15_000)
    for waiting in ("#chart[data-loading]", "#book.without", "#tape.without"):
        await expect(page.locator(waiting)).to_have_count(0, timeout=15_000)
    if await page.locator("#coins").count():
        await expect(page.locator("#symbols tr")).to_have_count(4, timeout=15_000)
        await expect(page.locator("[data-coin=btc] strong")).not_to_have_text("—", timeout=15_000)
    if await page.locator("#overall").count():
        await expect(page.locator("#actor-rows tr").first).to_be_visible(timeout=15_000)
        await expect(page.locator("#cache div").first).to_be_attached(timeout=15_000)


def unexpected(instance: Instance, errors: list[str]) -> list[str]:
    """Without what is said of an address that this instance does not serve."""
    return [error for error in errors if SUMMARY not in error or instance.get(SUMMARY)[0] == 200]


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_loads_without_errors_or_outside_requests(simulated: Instance, name: str) -> None:
    async with visit() as here:
        await here.page.goto(simulated.url + PAGES[name])
        await settled(here.page)
        assert unexpected(simulated, here.errors) == []
        assert here.origins - {simulated.url.replace("http", "ws")} == {simulated.url}
        assert await serious_violations(here.page) == []


@pytest.mark.parametrize("size", SIZES)
async def test_pages_look_right_at_every_size(simulated: Instance, artifacts: Path, size: str) -> None:
    width, height = SIZES[size]
    for theme in ("light", "dark"):
        async with visit(viewport={"width": width, "height": height}, color_scheme=theme) as here:
            for name, path in PAGES.items():
                await here.page.goto(simulated.url + path)
                await settled(here.page)
                picture = artifacts / f"{name}-{size}-{theme}.png"
                await here.page.screenshot(path=picture, full_page=True)
                assert picture.stat().st_size > 10_000
                assert await here.page.evaluate("document.documentElement.scrollWidth") == width, name


async def test_language_and_theme_survive_a_reload_on_every_page(simulated: Instance) -> None:
    async with visit(color_scheme="light") as here:
        page = here.page
        await page.goto(f"{simulated.url}/")
        await page.get_by_role("button", name="Switch to the dark theme").click()
        await page.get_by_role("button", name="Đổi sang tiếng Việt").click()
        for path in (*PAGES.values(), *PAGES.values()):
            await page.goto(simulated.url + path)
            await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
            await expect(page.locator("html")).to_have_attribute("lang", "vi")
            await expect(page.locator("#connection")).to_have_text("Trực tiếp", timeout=15_000)
            await page.reload()
        cookies = {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}
        assert cookies == {"preferred_language": "vi"}


async def test_a_trade_moves_the_chart_within_250_ms(simulated: Instance) -> None:
    """From when another client of the live feed was told it, and by the exchange's clock."""
    async with visit() as here:
        page = here.page
        await page.goto(simulated.url + CHART)
        await settled(page)
        await page.evaluate(
            """() => {
                const chart = document.getElementById("chart");
                window.seen = new Map();
                new MutationObserver(() => {
                    const { close } = chart.dataset;
                    if (!window.seen.has(close)) window.seen.set(close, Date.now());
                }).observe(chart, { attributes: true });
            }"""
        )
        delays: list[float] = []

        # Of prices that come within one frame, the last is drawn.
        async def drawn() -> bool:
            seen = await page.evaluate("() => Object.fromEntries(window.seen)")
            delays[:] = [seen[price] - at for price, at in told.items() if price in seen]
            return len(delays) > 3

        async with trades_told(simulated, "trades:binance:BTCUSDT") as told:
            await until(drawn, 30)
        assert sorted(delays)[len(delays) // 2] < SEEN_MS, delays
        assert max(delays) < 4 * SEEN_MS, delays


async def test_an_alert_made_beside_the_chart_fires_there(simulated: Instance) -> None:
    async with visit() as here:
        page = here.page
        await page.goto(simulated.url + CHART)
        await settled(page)
        await page.get_by_label("Token of the instance").fill((simulated.data / "secrets" / "api_token").read_text())
        await page.keyboard.press("Enter")
        await page.get_by_label("Threshold").fill("1.5")
        await page.get_by_label("once only").check()
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.locator("#alerts .fired li")).to_contain_text(["BTCUSDT: price"], timeout=15_000)
        await expect(page.locator("#alerts .defined li > span")).to_have_text(["price above 1.5 inactive"])
        await page.get_by_role("button", name="Remove: price above 1.5").click()
        await expect(page.locator("#alerts .note")).to_have_text("No alert is defined for this symbol.")
        assert unexpected(simulated, here.errors) == []


@asynccontextmanager
async def trades_told(instance: Instance, topic: str) -> AsyncIterator[dict[str, float]]:
    """By the price of the last trade of each update, when (ms) it was told; more as they come."""
    found: dict[str, float] = {}

    async def listen(socket: websockets.ClientConnection) -> None:
        async for message in socket:
            said = json.loads(message)
            if said["type"] == "update":
                price = f"{said['data'][-1]['price']}".removesuffix(".0")
                found.setdefault(price, time.time() * 1000)

    async with websockets.connect(f"{instance.url.replace('http', 'ws')}/ws") as socket:
        await socket.send(json.dumps({"type": "subscribe", "topics": [topic]}))
        listening = asyncio.create_task(listen(socket))
        try:
            yield found
        finally:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening


async def test_the_chart_goes_on_by_itself_after_its_server_was_gone_for_a_minute(simulated: Instance) -> None:
    """Gone for this browser: what stands between it and the instance breaks every connection and takes no new one."""
    async with Between(simulated.port) as between, visit() as here:
        page = here.page
        await page.goto(f"http://127.0.0.1:{between.port}{CHART}")
        await settled(page)
        await page.evaluate("window.mark = 'the same page'")
        bars = int(await page.locator("#chart").get_attribute("data-bars") or 0)
        await between.cut()
        await expect(page.locator("#connection")).to_have_text("Reconnecting", timeout=10_000)
        await expect(page.locator("#message")).to_contain_text("The server does not answer", timeout=15_000)
        await asyncio.sleep(AWAY_S)
        await between.mend()
        await expect(page.locator("#connection")).to_have_text("Live", timeout=30_000)
        await expect(page.locator("#message")).to_be_hidden(timeout=30_000)
        known = simulated.json("/api/v1/charts/BTCUSDT?exchange=binance&limit=5000")["bars"]
        await page.wait_for_function(f"+document.getElementById('chart').dataset.bars >= {len(known)}")
        assert len(known) > bars, "a minute has gone by"
        price = await page.locator("#chart").get_attribute("data-close")
        await expect(page.locator("#chart")).not_to_have_attribute("data-close", price or "", timeout=15_000)
        assert await page.evaluate("window.mark") == "the same page"


class Between:
    """Hands on bytes between clients and a port of this machine, until it is cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Between":
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
