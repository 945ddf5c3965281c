"""The pages as a client gets them over ASGI, and as a person sees them in a real browser."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
import uvicorn
from playwright.async_api import Page, expect

import serve_apps
from serve_apps.pages import PagesApp
from tests.browser import Visit, visit

DIST = Path(serve_apps.__file__).parent / "web" / "dist"
MINUTE = 60_000
START = 1_763_640_000_000  # 2025-11-20 12:00 UTC

# The application, directly.


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>home</h1>")
    (folder / "404.html").write_text("<h1>not here</h1>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-abc.js").write_text("let a")
    (folder / "assets" / "style-abc.css").write_text("p{}")
    (tmp_path / "secret").write_text("secret")
    return folder


async def ready() -> tuple[bool, dict[str, Any]]:
    return True, {"status": "ready", "feeds": {"binance": {"state": "live", "lag_ms": 12}}}


async def not_ready() -> tuple[bool, dict[str, Any]]:
    return False, {"status": "starting"}


async def ask(app: PagesApp, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": encoded}, receive, send)
    start, body = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], answered, body["body"]


async def test_the_home_page_is_revalidated_and_not_sent_twice(dist: Path) -> None:
    app = PagesApp(dist, ready)
    status, headers, body = await ask(app, "/")
    assert (status, body) == (200, b"<h1>home</h1>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "public, max-age=1, s-maxage=10"
    assert headers["content-length"] == str(len(body))
    for known in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
        status, again, body = await ask(app, "/", if_none_match=known)
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert (await ask(app, "/", if_none_match='"other"'))[0] == 200


async def test_assets_are_kept_for_ever(dist: Path) -> None:
    app = PagesApp(dist, ready)
    for path, content_type in (
        ("/assets/index-abc.js", "javascript; charset=utf-8"),
        ("/assets/style-abc.css", "text/css; charset=utf-8"),
    ):
        status, headers, _ = await ask(app, path)
        assert status == 200
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["content-type"].endswith(content_type)


@pytest.mark.parametrize("path", ["/", "/assets/index-abc.js", "/favicon.ico", "/healthz", "/readyz", "/nope"])
async def test_every_answer_has_the_security_headers(dist: Path, path: str) -> None:
    _, headers, _ = await ask(PagesApp(dist, ready), path)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/assets/index-abc.js", "/readyz", "/nope"])
async def test_head_answers_like_get_without_a_body(dist: Path, path: str) -> None:
    app = PagesApp(dist, ready)
    status, headers, _ = await ask(app, path)
    assert await ask(app, path, "HEAD") == (status, headers, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/assets",
        "/assets/",
        "/assets/../../secret",
        "/assets/..%2f..%2fsecret",
        "//secret",
        "/../secret",
        "/assets/\x00",
        "/index.html/",
        "/404.html",
    ],
)
async def test_a_path_that_was_not_built_is_a_styled_404(dist: Path, path: str) -> None:
    status, headers, body = await ask(PagesApp(dist, ready), path)
    assert (status, body) == (404, b"<h1>not here</h1>")
    assert headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
async def test_other_methods_are_refused_and_told_what_is_allowed(dist: Path, method: str) -> None:
    status, headers, _ = await ask(PagesApp(dist, ready), "/", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_without_a_build_the_pages_say_how_to_build_them_and_the_probes_work(tmp_path: Path) -> None:
    app = PagesApp(tmp_path / "dist", ready)
    status, _, body = await ask(app, "/")
    assert status == 503
    assert b"make web" in body
    assert str(tmp_path).encode() not in body
    assert (await ask(app, "/healthz"))[0] == 200
    assert (await ask(app, "/readyz"))[0] == 200


async def test_the_probes_tell_alive_and_ready_apart(dist: Path) -> None:
    app = PagesApp(dist, not_ready)
    status, headers, body = await ask(app, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    status, headers, body = await ask(app, "/readyz")
    assert (status, json.loads(body)) == (503, {"status": "starting"})
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", "no-store")
    status, _, body = await ask(PagesApp(dist, ready), "/readyz")
    assert (status, json.loads(body)["status"]) == (200, "ready")


# The page, in a browser.


def bar_at(minute: int, close: float) -> dict[str, Any]:
    prices = {"open": close * 0.5, "high": close * 2, "low": close * 0.5, "close": close}
    return {"time": START + minute * MINUTE, **prices, "volume": 1.5, "closed": True, "revision": 0}


class Site:
    """The pages and a small market behind one origin; tests change `bars`, stop and start it."""

    def __init__(self) -> None:
        self._pages = PagesApp(DIST, ready)
        self._port = 0
        rising_and_falling = [bar_at(minute, 60000.12 + minute % 7 * 64) for minute in range(40)]
        for before, bar in pairwise(rising_and_falling):
            bar["open"] = before["close"]
        self.bars: dict[tuple[str, str], list[dict[str, Any]]] = {
            ("binance", "BTCUSDT"): rising_and_falling,
            ("binance", "SHIBUSDT"): [bar_at(minute, 0.0000125) for minute in range(5)],
            ("coinbase", "BTC-USD"): [bar_at(minute, 60002.5) for minute in range(5)],
            ("coinbase", "SOL-USD"): [],
        }
        #: What `/api/v1/integrity` says.
        self.integrity: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        config = uvicorn.Config(self, port=self._port, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._running = asyncio.create_task(self._server.serve())
        while not self._server.started:
            assert not self._running.done()
            await asyncio.sleep(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            return await self._pages(scope, receive, send)
        status, body = self._answer(scope)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    def _answer(self, scope: Any) -> tuple[int, Any]:
        if scope["path"] == "/api/symbols":
            exchanges: dict[str, list[str]] = {}
            for exchange, symbol in self.bars:
                exchanges.setdefault(exchange, []).append(symbol)
            return 200, {"exchanges": exchanges, "symbols": sorted(symbol for _, symbol in self.bars)}
        if scope["path"] == "/api/v1/integrity":
            return 200, self.integrity
        query = parse_qs(scope["query_string"].decode(), strict_parsing=True)
        symbol = unquote(scope["path"].removeprefix("/api/v1/charts/"))
        bars = self.bars.get((query["exchange"][0], symbol))
        if not bars:
            return 404, {"type": "about:blank", "title": "No bar yet", "status": 404}
        assert query["timeframe"] == ["1m"]
        return 200, {"symbol": symbol, "bars": bars[-int(query["limit"][0]) :], "indicators": None}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    assert (DIST / "index.html").exists(), "the pages are not built: run `make web`"
    site = Site()
    await site.start()
    yield site
    await site.stop()


@asynccontextmanager
async def at_home(site: Site, fragment: str = "", **options: Any) -> AsyncIterator[Visit]:
    async with visit(**options) as here:
        await here.page.goto(f"{site.address}/{fragment}")
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


async def test_the_page_draws_its_chart_without_errors_or_requests_to_another_origin(site: Site) -> None:
    async with at_home(site) as here:
        await expect_text(here.page, "#connection", "Live")
        await expect_text(here.page, "#name", "BTCUSDT")
        await expect_text(here.page, "#price", "60,256.12")
        await expect(here.page.locator("#feeds li")).to_have_text("binance live · 12 ms")
        assert await here.page.title() == "60,256.12 · BTCUSDT · rayfeed"
        assert await colours_on_canvas(here.page) > 20
        assert here.errors == []
        await here.page.goto(f"{site.address}/nope")
        await expect_text(here.page, "h1", "There is no page here")
        await here.page.get_by_role("link", name="Open the live chart").click()
        await expect_text(here.page, "#connection", "Live")
        assert here.origins == {site.address}


async def test_the_price_follows_changed_new_and_missed_bars_within_two_seconds(site: Site) -> None:
    bars = site.bars["binance", "BTCUSDT"]
    async with at_home(site) as here:
        await expect_text(here.page, "#price", "60,256.12")
        bars[-1] = bars[-1] | {"close": 61000.5}
        await expect_text(here.page, "#price", "61,000.50", within=2000)
        bars.append(bar_at(40, 62000))
        await expect_text(here.page, "#price", "62,000.00", within=2000)
        await expect_text(here.page, "#time", "Nov 20, 12:40 UTC")
        here.requests.clear()
        bars.extend(bar_at(minute, 63000) for minute in range(41, 60))
        await expect_text(here.page, "#price", "63,000.00", within=2000)
        assert [url for url in here.requests if url.endswith("limit=1000")], "missed bars are in no recent three"
        assert here.errors == []


async def test_a_symbol_is_found_and_chosen_by_keyboard(site: Site) -> None:
    async with at_home(site) as here:
        page = here.page
        await expect_text(page, "#price", "60,256.12")
        await page.keyboard.press("/")
        await expect(page.locator("[role=option]")).to_have_count(4)
        await page.keyboard.type("btcusd")
        await expect(page.locator("[role=option]")).to_have_text(["BTCUSDT", "BTC-USD"])
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect_text(page, "#name", "BTC-USD")
        await expect_text(page, "#exchange", "coinbase")
        await expect_text(page, "#price", "60,002.50")
        await expect(page.get_by_role("combobox", name="Symbol")).to_have_value("BTC-USD")
        await page.keyboard.type("nothing like it")
        await expect(page.locator("[role=option]")).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("combobox", name="Symbol")).to_have_value("BTC-USD")
        assert here.errors == []


async def test_symbol_and_theme_survive_a_reload_and_a_bare_address(site: Site) -> None:
    async with at_home(site, color_scheme="dark") as here:
        page = here.page
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("combobox", name="Symbol").click()
        await page.get_by_role("option", name="BTC-USD").click()
        await page.get_by_role("button", name="Switch to the light theme").click()
        await expect(page).to_have_url(f"{site.address}/#coinbase:BTC-USD")
        for go in (page.reload(), page.goto(f"{site.address}/?bare")):
            await go
            await expect_text(page, "#price", "60,002.50")
            await expect(page.locator("html")).to_have_attribute("data-theme", "light")
            await expect(page).to_have_url(page.url.split("#")[0] + "#coinbase:BTC-USD")
        assert here.errors == []


async def test_tiny_prices_keep_their_decimals_and_fit_a_phone_in_local_time(site: Site) -> None:
    phone = {"viewport": {"width": 375, "height": 812}, "timezone_id": "Asia/Ho_Chi_Minh"}
    async with at_home(site, "#binance:SHIBUSDT", **phone) as here:
        await expect_text(here.page, "#price", "0.00001250")
        await expect_text(here.page, "#change", "+0.00000625 (+100.00%) since 19:00")
        await expect_text(here.page, "#time", "Nov 20, 19:04 GMT+7")
        assert await here.page.evaluate("document.documentElement.scrollWidth") == 375
        assert await here.page.evaluate("document.documentElement.scrollHeight") == 812


async def test_a_symbol_without_bars_says_so_and_shows_the_first_one(site: Site) -> None:
    async with at_home(site, "#coinbase:SOL-USD") as here:
        await expect_text(here.page, "#connection", "No data yet")
        await expect(here.page.locator("#message")).to_contain_text("No bar of SOL-USD on coinbase yet")
        site.bars["coinbase", "SOL-USD"].append(bar_at(0, 150.25))
        await expect_text(here.page, "#price", "150.250")
        await expect_text(here.page, "#connection", "Live")
        await expect(here.page.locator("#message")).to_be_hidden()


async def test_the_page_says_that_the_server_is_gone_and_recovers_by_itself(site: Site) -> None:
    async with at_home(site) as here:
        await expect_text(here.page, "#connection", "Live")
        await site.stop()
        await expect_text(here.page, "#connection", "Reconnecting")
        await expect(here.page.locator("#message")).to_contain_text("The server does not answer")
        await expect_text(here.page, "#price", "60,256.12")
        site.bars["binance", "BTCUSDT"].extend(bar_at(minute, 61000) for minute in range(40, 43))
        await site.start()
        await expect_text(here.page, "#connection", "Live", within=9000)
        await expect_text(here.page, "#price", "61,000.00")
        await expect(here.page.locator("#message")).to_be_hidden()


# The integrity of every symbol.


def integrity(exchange: str, symbol: str, state: str = "synced", why: str = "", **more: Any) -> dict[str, Any]:
    counts = {"since": START * 1_000_000, "gaps_open": int(state == "gapped"), "gaps_closed": 0}
    return {"exchange": exchange, "symbol": symbol, "proof": "ids", "state": state, "why": why, **counts, **more}


async def test_a_fault_is_seen_to_happen_and_to_heal(site: Site) -> None:
    site.integrity = [integrity("kraken", "XBT/USD"), integrity("binance", "BTCUSDT"), integrity("binance", "ETHUSDT")]
    async with at_home(site) as here:
        page = here.page
        rows = page.locator("#integrity-rows tr")
        await expect_text(page, "#integrity-summary", "All 3 symbols are synced")
        await expect(page.locator("#integrity-strip li")).to_have_text(["binance", "kraken"])
        await expect(rows.locator("td:nth-child(2)")).to_have_text(["BTCUSDT", "ETHUSDT", "XBT/USD"])
        colour = (
            await page.locator("#integrity-strip i").nth(1).evaluate("cell => getComputedStyle(cell).backgroundColor")
        )
        site.integrity[2] = integrity("binance", "ETHUSDT", "gapped", "<b>connection lost</b>")
        await expect_text(page, "#integrity-summary", "1 gapped, 2 synced", within=2500)
        cells = ["binance", "ETHUSDT", "gapped", "Nov 20, 2025, 12:00", "1", "0", "<b>connection lost</b>"]
        await expect(rows.first.locator("td")).to_have_text(cells)
        cell = page.locator("#integrity-strip i[data-state=gapped]")
        await expect(cell).to_have_attribute("title", "ETHUSDT gapped: <b>connection lost</b>")
        await expect(cell).not_to_have_css("background-color", colour)
        site.integrity[2] = integrity("binance", "ETHUSDT", gaps_closed=1)
        await expect_text(page, "#integrity-summary", "All 3 symbols are synced", within=2500)
        await expect(page.locator("#integrity-rows .healed td:nth-child(2)")).to_have_text("ETHUSDT")
        await expect(rows.nth(1).locator("td:nth-child(6)")).to_have_text("1")
        assert here.errors == []


async def test_without_an_answer_the_page_says_that_what_it_shows_is_old(site: Site) -> None:
    site.integrity = [integrity("kraken", "XBT/USD")]
    async with at_home(site) as here:
        await expect_text(here.page, "#integrity-summary", "The symbol is synced")
        await site.stop()
        await expect(here.page.locator("#integrity-summary")).to_contain_text("what it said last")
        await expect(here.page.locator("#integrity-summary")).to_have_attribute("data-state", "unknown")
        await site.start()
        await expect_text(here.page, "#integrity-summary", "The symbol is synced")


async def test_rows_that_are_not_understood_and_those_beyond_what_anybody_reads_are_left_out(site: Site) -> None:
    site.integrity = [integrity("binance", f"S{number:03}USDT") for number in range(300)]
    site.integrity += [{"exchange": "binance"}, integrity("okx", "BTC-USDT", "strange"), integrity("okx", "X", "stale")]
    async with at_home(site) as here:
        await expect_text(here.page, "#integrity-summary", "1 stale, 300 synced")
        await expect(here.page.locator("#integrity-strip i")).to_have_count(301)
        await expect(here.page.locator("#integrity-rows tr")).to_have_count(200)
        await expect(here.page.locator("#integrity-rows tr").first).to_contain_text("stale")
        assert here.errors == []


async def test_on_a_phone_integrity_is_read_below_the_chart_without_scrolling_sideways(site: Site) -> None:
    site.integrity = [integrity("bitfinex", f"tLONG{n}:USTF0", "gapped", "connection lost " * 5) for n in range(12)]
    async with at_home(site, viewport={"width": 375, "height": 812}) as here:
        await expect_text(here.page, "#integrity-summary", "12 gapped")
        assert await here.page.evaluate("document.documentElement.scrollWidth") == 375
