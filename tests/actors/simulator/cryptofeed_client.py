"""cryptofeed at simulated exchanges, run by the Python of an environment that holds it; see `ccxt_client.py`, from
which it differs in asking nothing of REST but symbols and snapshots."""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import cryptofeed.connection
from cryptofeed.defines import KRAKEN, L2_BOOK, TRADES
from cryptofeed.exchanges import EXCHANGE_MAP
from cryptofeed.types import OrderBook, Trade

OPTIONS: dict[str, dict[str, Any]] = {
    # Its trades and books need a login; nobody verifies it.
    "deribit": {"config": {"deribit": {"key_id": "key", "key_secret": "secret"}, "log": {"disabled": True}}},
    # It cuts its books to what it asked for, unless that is the most there is.
    "kraken": {"checksum_validation": True, "max_depth": 100},
}


class Client:
    def __init__(self, name: str, websocket: str, rest: str, symbols: Mapping[str, str]) -> None:
        self._symbols = symbols
        self._trades: dict[str, list[list[Any]]] = {native: [] for native in symbols}
        self._native = {own: native for native, own in symbols.items()}
        self._wrong = 0
        exchange = EXCHANGE_MAP[name.upper()]
        exchange.websocket_endpoints = [
            replace(one, address=moved(one.address, websocket), options=None) for one in exchange.websocket_endpoints
        ]
        exchange.rest_endpoints = [replace(one, address=rest) for one in exchange.rest_endpoints]
        self._feed = exchange(
            symbols=list(symbols.values()),
            channels=[TRADES, L2_BOOK],
            callbacks={TRADES: self._trade, L2_BOOK: self._book},
            cross_check=True,
            **OPTIONS.get(name, {}),
        )

    def start(self) -> None:
        self._feed.start(asyncio.get_running_loop())

    def seen(self) -> dict[str, Any]:
        books = self._feed._l2_book
        return {
            "failure": "; ".join(COMPLAINTS.of(self._feed.id)),
            "wrong": self._wrong,
            "trades": self._trades,
            "books": {native: sides(books[own]) for native, own in self._symbols.items() if own in books},
        }

    async def _trade(self, trade: Trade, received: float) -> None:
        ms = round(trade.timestamp * 1_000_000) // 1000
        values = [str(number_of(trade)), ms, float(trade.price), float(trade.amount), trade.side]
        self._trades[self._native[trade.symbol]].append(values)

    async def _book(self, book: OrderBook, received: float) -> None:
        # Of a change of both sides it would look for the checksum in the first part alone.
        if self._feed.id == KRAKEN and "c" in book.raw[-1]:
            self._wrong += book.book.checksum() != int(book.raw[-1]["c"])


class Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def of(self, feed: str) -> list[str]:
        return [text for text in self.texts if text.startswith(feed)]


COMPLAINTS = Complaints()


def moved(url: str, websocket: str) -> str:
    return websocket.replace("ws:", "wss:", 1) + urlsplit(url).path


def number_of(trade: Trade) -> Any:
    """The ids of Deribit are not those of one symbol."""
    return trade.raw["trade_seq"] if isinstance(trade.raw, dict) and "trade_seq" in trade.raw else trade.id


def sides(book: OrderBook) -> list[list[list[float]]]:
    return [[[float(price), float(side[price])] for price in side] for side in (book.book.bids, book.book.asks)]


async def main(endpoints: Mapping[str, tuple[str, str, dict[str, str]]]) -> None:
    # It connects to addresses with TLS only.
    connect = cryptofeed.connection.connect
    cryptofeed.connection.connect = lambda address, **options: connect(address.replace("wss:", "ws:", 1), **options)
    logging.getLogger("feedhandler").addHandler(COMPLAINTS)
    clients = {name: Client(name, *endpoint) for name, endpoint in endpoints.items()}
    for client in clients.values():
        client.start()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(clients[line.split()[1]].seen()), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
