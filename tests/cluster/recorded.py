"""What the recordings hold, read with nothing of the project, so that what users get can be compared with it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

EXCHANGES = ("binance", "bitfinex", "coinbase", "deribit", "kraken", "okx")
#: Of all that was received, by exchange: trades that are no history, and best bids and asks.
LIVE_TRADES = {"binance": 2, "bitfinex": 0, "coinbase": 97, "deribit": 0, "kraken": 10, "okx": 71}
QUOTES = {"binance": 84, "bitfinex": 21, "coinbase": 107, "deribit": 89, "kraken": 18, "okx": 28}
BOOKS = {"binance": 4, "bitfinex": 7, "coinbase": 10, "deribit": 10, "kraken": 10, "okx": 3}
#: Exchange and native symbol.
Market = tuple[str, str]


@dataclass(frozen=True)
class Trade:
    """`trade_id` is None where the exchange gives none."""

    time: int
    trade_id: int | None
    price: float
    size: float
    side: int


@dataclass(frozen=True)
class Quote:
    """None where the exchange does not say; `time` is the local one where it gives none."""

    time: int
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None


@dataclass(frozen=True)
class Derivative:
    time: int
    mark_price: float
    index_price: float
    open_interest: float


@dataclass(frozen=True)
class Book:
    """All levels, best first, after the message received at `time`."""

    time: int
    bids: list[list[float]]
    asks: list[list[float]]


@cache
def recorded_trades(recordings: Path) -> dict[Market, list[Trade]]:
    trades: dict[Market, list[Trade]] = defaultdict(list)
    for _, message in _received(recordings, "binance"):
        if message.get("stream", "").endswith("@aggTrade"):
            data = message["data"]
            trade = Trade(data["T"] * 10**6, data["a"], float(data["p"]), float(data["q"]), int(data["m"]))
            trades["binance", data["s"]].append(trade)
    for _, message in _received(recordings, "coinbase"):
        if message["type"] == "match":
            # The feed says the maker's side.
            side = {"sell": 0, "buy": 1}[message["side"]]
            price, size = float(message["price"]), float(message["size"])
            trade = Trade(_iso(message["time"]), message["trade_id"], price, size, side)
            trades["coinbase", message["product_id"]].append(trade)
    for _, message in _received(recordings, "kraken"):
        if isinstance(message, list) and message[-2] == "trade":
            for price, size, time, side, *_ in message[1]:
                trade = Trade(int(Decimal(time) * 10**9), None, float(price), float(size), "bs".index(side))
                trades["kraken", message[-1]].append(trade)
    first = set()
    for _, message in _received(recordings, "okx"):
        if "data" in message and message["arg"]["channel"] == "trades":
            symbol = message["arg"]["instId"]
            # The first message of each symbol says what traded last before it was subscribed.
            if symbol in first:
                for row in message["data"]:
                    side = ("buy", "sell").index(row["side"])
                    price, size = float(row["px"]), float(row["sz"])
                    trade = Trade(int(row["ts"]) * 10**6, int(row["tradeId"]), price, size, side)
                    trades["okx", symbol].append(trade)
            first.add(symbol)
    return dict(trades)


@cache
def recorded_quotes(recordings: Path) -> dict[Market, list[Quote]]:
    quotes: dict[Market, list[Quote]] = defaultdict(list)
    for received, message in _received(recordings, "binance"):
        if message.get("stream", "").endswith("@bookTicker"):
            data = message["data"]
            numbers = (float(data[name]) for name in "bBaA")
            quotes["binance", data["s"]].append(Quote(received, *numbers))
    for _, message in _received(recordings, "coinbase"):
        if message["type"] == "ticker":
            bid, ask = float(message["best_bid"]), float(message["best_ask"])
            quotes["coinbase", message["product_id"]].append(Quote(_iso(message["time"]), bid, None, ask, None))
    for received, message in _received(recordings, "kraken"):
        if isinstance(message, list) and message[-2] == "ticker":
            bid, ask = message[1]["b"], message[1]["a"]
            quote = Quote(received, float(bid[0]), float(bid[2]), float(ask[0]), float(ask[2]))
            quotes["kraken", message[-1]].append(quote)
    for _, message in _received(recordings, "okx"):
        if "data" in message and message["arg"]["channel"] == "tickers":
            for row in message["data"]:
                numbers = (float(row[name]) for name in ("bidPx", "bidSz", "askPx", "askSz"))
                quotes["okx", row["instId"]].append(Quote(int(row["ts"]) * 10**6, *numbers))
    for ticker in _deribit_tickers(recordings):
        numbers = (ticker[f"best_{name}"] for name in ("bid_price", "bid_amount", "ask_price", "ask_amount"))
        # It writes 0 where there is no order.
        quote = Quote(ticker["timestamp"] * 10**6, *(number or None for number in numbers))
        quotes["deribit", ticker["instrument_name"]].append(quote)
    tickers = {}
    for received, message in _received(recordings, "bitfinex"):
        if isinstance(message, dict):
            if message["event"] == "subscribed" and message["channel"] == "ticker":
                tickers[message["chanId"]] = message["symbol"]
        elif message[0] in tickers and message[1] != "hb":
            # Its sizes are sums over 25 levels: https://docs.bitfinex.com/reference/ws-public-ticker
            bid, _, ask, *_ = message[1]
            quotes["bitfinex", tickers[message[0]]].append(Quote(received, bid, None, ask, None))
    return dict(quotes)


def recorded_derivatives(recordings: Path) -> dict[str, list[Derivative]]:
    """By Deribit's symbols."""
    found: dict[str, list[Derivative]] = defaultdict(list)
    for ticker in _deribit_tickers(recordings):
        derivative = Derivative(
            ticker["timestamp"] * 10**6, ticker["mark_price"], ticker["index_price"], ticker["open_interest"]
        )
        found[ticker["instrument_name"]].append(derivative)
    return dict(found)


def kraken_book(recordings: Path, symbol: str) -> Book:
    sides: dict[str, dict[float, float]] = {"b": {}, "a": {}}
    last = 0
    for received, message in _received(recordings, "kraken"):
        if not isinstance(message, list) or message[-2:] != ["book-1000", symbol]:
            continue
        last = received
        for part in message[1:-2]:
            for name, levels in part.items():
                if name.endswith("s"):
                    sides[name[0]].clear()
                if name[0] in sides:
                    for price, size, *_ in levels:
                        _set(sides[name[0]], float(price), float(size))
    return _book(last, sides["b"], sides["a"])


def coinbase_book(recordings: Path, symbol: str) -> Book:
    sides: dict[str, dict[float, float]] = {"buy": {}, "sell": {}}
    last = 0
    for received, message in _received(recordings, "coinbase"):
        if message.get("product_id") != symbol or message["type"] not in ("snapshot", "l2update"):
            continue
        last = received
        changes = message.get("changes", [])
        for side, name in (("buy", "bids"), ("sell", "asks")):
            changes += [(side, *level) for level in message.get(name, ())]
        for side, price, size in changes:
            _set(sides[side], float(price), float(size))
    return _book(last, sides["buy"], sides["sell"])


def _set(side: dict[float, float], price: float, size: float) -> None:
    side[price] = size
    if not size:
        del side[price]


def _book(time: int, bids: dict[float, float], asks: dict[float, float]) -> Book:
    best_first = (sorted(bids.items(), reverse=True), sorted(asks.items()))
    return Book(time, *([list(level) for level in side] for side in best_first))


def _deribit_tickers(recordings: Path) -> Iterator[dict[str, Any]]:
    for _, message in _received(recordings, "deribit"):
        if message.get("method") == "subscription" and message["params"]["channel"].startswith("ticker."):
            yield message["params"]["data"]


@cache
def _received(recordings: Path, exchange: str) -> list[tuple[int, Any]]:
    """Local time (ns) and content of everything received, in this order."""
    lines = (recordings / f"{exchange}.jsonl").read_text().splitlines()
    events = (json.loads(line) for line in lines)
    return [(event["t_ns"], json.loads(event["data"])) for event in events if event["kind"] == "recv"]


def _iso(time: str) -> int:
    return (datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000
