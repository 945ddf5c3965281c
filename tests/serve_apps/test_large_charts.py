"""A million trades on the chart: how soon they are there, and how smoothly they are moved."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Page, expect

from storage.column_writer import ColumnWriter
from tests.browser import visit
from tests.serve_apps.conftest import made_rows
from tests.serve_apps.site import Site, opened

TRADES = 1_000_000
#: The target is 50 on a machine that does nothing else. Tests share theirs: the best of a few rounds has to reach this.
LEAST_FRAMES_PER_S = 30
ROUNDS = 5

#: Frames while `step` is done once in each, for so many of them: the mean rate, and the longest between two (ms).
_FRAMES = """async ([kind, frames]) => {
    const chart = document.getElementById("chart");
    const box = chart.getBoundingClientRect();
    const at = { clientX: box.left + box.width * 0.4, clientY: box.top + 100, bubbles: true, cancelable: true };
    const next = () => new Promise(requestAnimationFrame);
    const steps = {
        pan: (frame) => chart.dispatchEvent(new WheelEvent("wheel", { ...at, deltaX: frame % 120 < 60 ? -40 : 40 })),
        zoom: (frame) => chart.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: frame % 160 < 80 ? 60 : -60 })),
    };
    await next();
    let before = await next();
    const first = before;
    let longest = 0;
    const factors = new Set();
    for (let frame = 0; frame < frames; frame++) {
        steps[kind](frame);
        const now = await next();
        longest = Math.max(longest, now - before);
        before = now;
        factors.add(chart.dataset.factor);
    }
    const perSecond = frames * 1000 / (before - first);
    return { perSecond, longest, factors: [...factors].map(Number), held: +chart.dataset.held };
}"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path / "data") as site:
        await site.history("BTCUSDT", [60000.0] * 5)
        ended = int(time.time()) - 3600
        rows = made_rows("TRADES", np.sort(ended - np.random.default_rng(1).integers(0, 80_000, TRADES)).astype("<u4"))
        prices = 60000 + np.cumsum(np.random.default_rng(2).normal(0, 1, TRADES)).round(2)
        rows |= {"price": prices.astype("<f4"), "price64": prices, "size64": np.full(TRADES, 0.25)}
        writer = ColumnWriter(site.settings.columns, 64)
        writer.append("binance", "ETHUSDT", "TRADES", rows)
        writer.close()
        site.collected.append(("binance", "ETHUSDT"))
        yield site


async def smoothest(page: Page, kind: str, count: int) -> dict[str, Any]:
    """What `_FRAMES` says, of the first round that is good enough, or the best of all."""
    best: dict[str, Any] = {"perSecond": 0.0}
    for _ in range(ROUNDS):
        best = max(best, await page.evaluate(_FRAMES, [kind, count]), key=lambda said: said["perSecond"])
        if best["perSecond"] > LEAST_FRAMES_PER_S:
            break
    return best


async def test_a_million_trades_are_moved_and_zoomed_smoothly(site: Site, record_property: Any) -> None:
    async with visit(viewport={"width": 1440, "height": 900}) as here:
        page = here.page
        begin = time.monotonic()
        await page.goto(f"{site.address}/chart?symbol=ETHUSDT&exchange=binance&timeframe=trades")
        chart = page.locator("#chart")
        await expect(chart).to_have_attribute("data-bars", str(TRADES), timeout=30_000)
        loaded_s = time.monotonic() - begin
        await page.locator("#chart").focus()
        await page.keyboard.press("Home")
        # All of them at once, in no more candles than fit.
        await expect(page.locator("#of")).to_have_text("Each candle is 4096 trades")
        assert int(await chart.get_attribute("data-held") or 0) < 5000
        zoom = await smoothest(page, "zoom", 160)
        pan = await smoothest(page, "pan", 240)
        said = {"loaded_s": loaded_s, "zoom": zoom, "pan": pan}
        print(said)
        record_property("frames", said)
        assert len(zoom["factors"]) > 2, "it went from all to some and back"
        assert min(zoom["perSecond"], pan["perSecond"]) > LEAST_FRAMES_PER_S, said
        assert here.errors == []
        assert await page.evaluate("performance.memory ? performance.memory.usedJSHeapSize : 0") < 300_000_000
