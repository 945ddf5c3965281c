"""The market API of a running instance: all parts answer through the front door, and settings change while it runs."""

import json
import urllib.request
from typing import Any

from tests.cluster.running import Instance
from tests.polling import wait_until

SYMBOL = "exchange=binance"


def changed(instance: Instance, method: str, path: str, body: Any) -> Any:
    token = (instance.data / "secrets" / "api_token").read_text()
    request = urllib.request.Request(
        instance.url + path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"}, method=method
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_trades_bars_books_and_exports_come_through_the_front_door(simulated: Instance) -> None:
    wait_until(lambda: len(simulated.json(f"/api/v1/trades/BTCUSDT?{SYMBOL}&limit=50")["trades"]) == 50, 60.0)
    trades = simulated.json(f"/api/v1/trades/BTCUSDT?{SYMBOL}&limit=20")
    older = simulated.json(f"/api/v1/trades/BTCUSDT?{SYMBOL}&limit=20&cursor={trades['next_cursor']}")
    ids = [trade["trade_id"] for page in (trades, older) for trade in page["trades"]]
    assert len(set(ids)) == 40
    assert simulated.json(f"/api/v1/book/BTCUSDT?{SYMBOL}")["bids"]
    chart = simulated.json("/api/v1/charts/BTC-USDT?exchange=all&limit=1")
    assert [(one["exchange"], one["symbol"]) for one in chart["charts"]] == [("binance", "BTCUSDT")]
    status, headers, body = simulated.get(f"/api/v1/export/BTCUSDT/stream?{SYMBOL}&timeframe=1s")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert len(body.splitlines()) > 2
    symbols = simulated.json("/api/v1/symbols")["exchanges"]
    assert {row["symbol"]: row["instrument"] for row in symbols["binance"]}["BTCUSDT"] == "BTC-USDT"
    health = simulated.json("/api/v1/health")
    assert health["components"]["database"]["kind"] in ("embedded", "server")
    assert simulated.json("/openapi.json")["openapi"] == "3.1.0"
    assert simulated.get("/docs")[0] == 200


def test_quality_limits_change_while_it_runs_and_go_back(simulated: Instance) -> None:
    path = f"/api/v1/quality/ETHUSDT?{SYMBOL}&hours=1"
    before = simulated.json(path)["failed"]["volume_sanity"]
    said = changed(simulated, "PUT", "/api/v1/configuration", {"values": {"quality": {"volume_ratio": 1.0}}})
    assert said["changed"] == {"quality": {"volume_ratio": [100.0, 1.0]}}
    # Now every trade larger than the mean fails.
    wait_until(lambda: simulated.json(path)["failed"]["volume_sanity"] > before, 60.0)
    changed(simulated, "POST", "/api/v1/configuration/rollback", {"version": said["version"] - 1})
    token = (simulated.data / "secrets" / "api_token").read_text()

    def noted() -> bool:
        request = urllib.request.Request(
            simulated.url + "/api/v1/audit?event=configuration_changed", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return len(json.load(answer)["rows"]) >= 2

    wait_until(noted, 60.0)
