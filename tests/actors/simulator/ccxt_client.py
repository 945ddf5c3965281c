"""ccxt at simulated exchanges, run by the Python of an environment that holds it:
`python ccxt_client.py '{"binance": [WEBSOCKET, REST, {"BTCUSDT": "BTC/USDT"}], ...}'`, symbols as the exchange and as
ccxt names them.

It follows trades and books of all of them. Each line of input, `seen NAME` or `fetched NAME`, is answered with a line
of JSON: what has come over the WebSocket so far, or what REST says now.
"""

import asyncio
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

CLASSES = {"coinbase": "coinbaseexchange"}
#: Only what is simulated is asked for; every checksum that ccxt can verify is.
OPTIONS: dict[str, dict[str, Any]] = {
    "binance": {"fetchMarkets": {"types": ["spot"]}, "watchTrades": {"name": "aggTrade"}},
    "bitfinex": {"watchOrderBook": {"checksum": True}},
    "bybit": {"fetchMarkets": {"types": ["spot", "linear"]}},
    "okx": {"fetchMarkets": {"types": ["spot", "swap"]}},
}
#: Its books need a signature; nobody verifies it.
KEYS = {"coinbase": {"apiKey": "key", "secret": "c2VjcmV0", "password": "password"}}
#: Levels of a book to subscribe to and to fetch, where ccxt would choose fewer than are simulated.
WATCHED = {"bitfinex": 100, "bybit": 200, "kraken": 1000}
FETCHED = {"bitfinex": 100, "bybit": 200, "deribit": 100, "kraken": 500, "okx": 400}
#: Bitfinex's single orders, ccxt's choice, are not simulated.
PARAMETERS = {"bitfinex": {"precision": "P0"}}


class LeftOut(MetaPathFinder, Loader):
    """Exchanges besides the `wanted` are imported as nothing: all hundred would take five seconds of processor time."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = wanted

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        package, _, exchange = name.rpartition(".")
        is_exchange = package in ("ccxt", "ccxt.async_support", "ccxt.pro") and exchange not in self._wanted
        return ModuleSpec(name, self) if is_exchange and path and Path(path[0], f"{exchange}.py").exists() else None

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, module.__name__.rpartition(".")[2], None)


class Kept(dict[str, Any]):
    """The lists of trades of each symbol: with every message of Deribit ccxt begins a new one."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[Any]] = {}

    def __setitem__(self, symbol: str, trades: Any) -> None:
        if trades is not self.get(symbol):
            self.lists.setdefault(symbol, []).append(trades)
        super().__setitem__(symbol, trades)

    def all(self, symbol: str) -> Iterator[Mapping[str, Any]]:
        return chain.from_iterable(self.lists.get(symbol, ()))


class Client:
    def __init__(self, name: str, websocket: str, rest: str, symbols: Mapping[str, str]) -> None:
        self._name = name
        self._symbols = symbols
        settings = {"enableRateLimit": False, "options": {"tradesLimit": 1_000_000, **OPTIONS.get(name, {})}}
        self._exchange = getattr(import_module("ccxt.pro"), CLASSES.get(name, name))(settings | KEYS.get(name, {}))
        self._exchange.urls["api"] = moved(self._exchange.urls["api"], websocket, rest)
        self._exchange.trades = self._trades = Kept()
        self._exchange.has["fetchCurrencies"] = False
        self._crossed = 0
        self._following = asyncio.create_task(self._follow())

    def seen(self) -> dict[str, Any]:
        books = self._exchange.orderbooks
        return {
            "failure": self._failure(),
            "wrong": self._crossed,
            "trades": {native: [row(one) for one in self._trades.all(name)] for native, name in self._symbols.items()},
            "books": {native: sides(books[name]) for native, name in self._symbols.items() if name in books},
        }

    async def fetched(self) -> dict[str, Any]:
        trades, books, parameters = {}, {}, PARAMETERS.get(self._name, {})
        for native, name in self._symbols.items():
            trades[native] = [row(one) for one in await self._exchange.fetch_trades(name, limit=50)]
            books[native] = sides(await self._exchange.fetch_order_book(name, FETCHED.get(self._name), parameters))
        return {"failure": self._failure(), "trades": trades, "books": books}

    def _failure(self) -> str:
        return repr(self._following.exception()) if self._following.done() else ""

    async def _follow(self) -> None:
        await self._exchange.load_markets()
        async with asyncio.TaskGroup() as tasks:
            for symbol in self._symbols.values():
                tasks.create_task(self._follow_trades(symbol))
                tasks.create_task(self._follow_book(symbol))

    async def _follow_trades(self, symbol: str) -> None:
        while True:
            await self._exchange.watch_trades(symbol)

    async def _follow_book(self, symbol: str) -> None:
        while True:
            book = await self._exchange.watch_order_book(symbol, WATCHED.get(self._name))
            self._crossed += book["bids"][0][0] >= book["asks"][0][0]


def moved(urls: Any, websocket: str, rest: str) -> Any:
    """The same paths at other addresses."""
    if isinstance(urls, dict):
        return {name: moved(url, websocket, rest) for name, url in urls.items()}
    parts = urlsplit(urls)
    return (websocket if parts.scheme.startswith("ws") else rest) + parts.path


def row(trade: Mapping[str, Any]) -> list[Any]:
    # The ids of Deribit are not those of one symbol.
    number = trade["info"]["trade_seq"] if "trade_seq" in trade["info"] else trade["id"]
    return [str(number), trade["timestamp"], trade["price"], trade["amount"], trade["side"]]


def sides(book: Mapping[str, Any]) -> list[list[list[float]]]:
    return [[level[:2] for level in book[side]] for side in ("bids", "asks")]


async def main(endpoints: Mapping[str, tuple[str, str, dict[str, str]]]) -> None:
    sys.meta_path.insert(0, LeftOut([CLASSES.get(name, name) for name in endpoints]))
    clients = {name: Client(name, *endpoint) for name, endpoint in endpoints.items()}
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, name = line.split()
        client = clients[name]
        print(json.dumps(client.seen() if what == "seen" else await client.fetched()), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
