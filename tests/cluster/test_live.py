"""The live feed of a running instance, through its front door."""

import json
import time
import urllib.request
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.cluster.running import Instance


def read(client: ClientConnection, kind: str, within_s: float = 60) -> Any:
    """The next message of a type."""
    deadline = time.monotonic() + within_s
    while (said := json.loads(client.recv(deadline - time.monotonic())))["type"] != kind:
        assert time.monotonic() < deadline
    return said


def test_trades_books_and_bars_come_as_they_happen_and_are_resumed(simulated: Instance) -> None:
    url = f"ws://127.0.0.1:{simulated.port}/ws"
    topics = ["trades:binance:BTCUSDT", "book:binance:BTCUSDT", "bars:binance:BTCUSDT:1s", "quotes:binance"]
    with connect(url) as client:
        assert "trades" in read(client, "welcome")["topics"]
        client.send(json.dumps({"type": "subscribe", "topics": topics, "rate": 0}))
        seen: dict[str, Any] = {}
        while len(seen) < len(topics):
            update = read(client, "update")
            seen[update["topic"]] = update
        assert seen["book"]["data"][0]["bids"]
        assert seen["bars"]["timeframe"] == "1s"
        trade = seen["trades"]["data"][-1]
        while (update := read(client, "update"))["topic"] != "trades":
            pass
        assert update["data"][-1]["trade_id"] > trade["trade_id"]
        client.send(json.dumps({"type": "subscribe", "topics": ["quotes:binance:ETHUSDT"]}))
        while (snapshot := read(client, "snapshot"))["topic"] != "quotes":
            pass
        (quote,) = snapshot["data"]
        assert 0 < quote["bid_price"] < quote["ask_price"]
    with connect(url) as client:
        client.send(json.dumps({"type": "subscribe", "topics": topics[:1], "since": seen["trades"]["seq"]}))
        again = read(client, "update")
        assert again["data"] == update["data"]
        assert read(client, "resumed")["seq"] >= again["seq"]


def test_a_chart_begins_with_its_bars_and_goes_on(simulated: Instance) -> None:
    with connect(f"ws://127.0.0.1:{simulated.port}/ws/BTCUSDT?timeframe=1s") as client:
        initial = read(client, "initial")
        assert (initial["exchange"], initial["symbol"]) == ("binance", "BTCUSDT")
        updates = [read(client, "update") for _ in range(3)]
        assert updates[-1]["time"] >= initial["bars"][-1]["time"]
        assert updates[-1]["bar"]["high"] >= updates[-1]["bar"]["low"]


def test_events_are_streamed_through_the_front_door(simulated: Instance) -> None:
    path = "/api/v1/stream?topics=trades:binance:BTCUSDT,integrity:binance"
    with urllib.request.urlopen(simulated.url + path, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data: ") and json.loads(line[6:])["type"] == "update":
                break
        else:
            raise AssertionError("the stream has ended")
