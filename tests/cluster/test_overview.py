"""The overview of a running instance: prices of its own feed, and of nobody else."""

import json
import urllib.error
import urllib.request
from typing import Any

from websockets.sync.client import connect

from tests.cluster.running import Instance
from tests.polling import wait_until

SUMMARY = "/api/crypto/dashboard-summary"
COINS = {"btc": "BTCUSDT", "eth": "ETHUSDT", "sol": "SOLUSDT", "xrp": "XRPUSDT"}


def told(instance: Instance) -> dict[str, Any]:
    """The summary once all coins that are collected have a price of now."""
    summary: dict[str, Any] = {}

    def known() -> bool:
        nonlocal summary
        status, _, body = instance.get(SUMMARY)
        summary = json.loads(body) if status == 200 else {}
        return status == 200 and not any(summary["fields"][f"{coin}_price_usd"]["stale"] for coin in COINS)

    wait_until(known, 60.0)
    return summary


def test_prices_are_those_of_the_simulated_market_and_nothing_else_is_made_up(simulated: Instance) -> None:
    summary = told(simulated)
    for coin, symbol in COINS.items():
        chart = simulated.json(f"/api/v1/charts/{symbol}?exchange=binance&timeframe=1m&limit=1")
        price = summary[f"{coin}_price_usd"]
        assert abs(chart["bars"][-1]["close"] / price - 1) < 0.05
        assert summary["fields"][f"{coin}_price_usd"]["source"] == "own:binance"
    assert (summary["market_cap_usd"], summary["fng_value"], summary["fng_band"]) == (None, None, None)
    limits = simulated.json("/api/crypto/rate-limit-status")
    assert (limits["role"], limits["providers"], limits["server_info"]["total_requests"]) == ("leader", {}, 0)
    refreshed = simulated.json(f"{SUMMARY}/refresh")
    assert refreshed["data"]["timestamp"] >= summary["timestamp"]


def test_the_edge_keeps_it_for_a_moment_and_a_browser_does_not_get_it_twice(simulated: Instance) -> None:
    told(simulated)

    def kept() -> bool:
        _, headers, _ = simulated.get("/api/dashboard/data")
        return "age" in headers and headers["cache-control"] == "public, max-age=1, s-maxage=5"

    wait_until(kept)

    def unchanged() -> bool:
        etag = simulated.get(SUMMARY)[1]["etag"]
        request = urllib.request.Request(simulated.url + SUMMARY, headers={"If-None-Match": etag})
        try:
            with urllib.request.urlopen(request, timeout=10):
                return False
        except urllib.error.HTTPError as answer:
            return answer.code == 304

    wait_until(unchanged)


def test_the_live_feed_tells_it_as_it_changes(simulated: Instance) -> None:
    with connect(simulated.url.replace("http", "ws") + "/ws") as client:
        client.send(json.dumps({"type": "subscribe", "topics": ["dashboard:summary"]}))
        seen: list[str] = []
        while len(seen) < 2:
            message = json.loads(client.recv(timeout=20))
            if message["type"] == "update":
                (row,) = message["data"]
                assert row["kind"] == "summary"
                seen.append(row["summary"]["timestamp"])
    assert seen == sorted(seen)
