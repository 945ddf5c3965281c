"""The simulated exchanges as ccxt and cryptofeed see them: every trade as it was made, every book as it is.

Both run in environments of their own, as cryptofeed does in the benchmarks: ccxt pins packages of which
rayfeed has newer versions. What they cannot do, and what they are told to do otherwise:

| client | exchange | |
|---|---|---|
| cryptofeed | all | connects with TLS only: its `connect` is given the address without |
| cryptofeed | Coinbase | is left out: it speaks Advanced Trade, another protocol than Coinbase Exchange |
| cryptofeed | Kraken | speaks version 1, where trades have no ids; BTC is XBT there, so it follows others |
| cryptofeed | OKX | verifies nothing: checksums have been 0 since June 2026, and it ignores sequence numbers |
| ccxt | Binance | follows aggTrade instead of trade, which is not simulated |
| ccxt | Bitfinex | asks for 100 levels instead of 25, and over REST for P0 instead of single orders |
| ccxt | Bybit | asks for 200 levels instead of 50 |
| ccxt | Coinbase | signs for books, which nobody verifies |
| ccxt | Kraken | cannot verify checksums: it loses the zeros that numbers end with |
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import pytest_asyncio

from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from benchmarks.peers import environment
from benchmarks.table import UnavailableError
from storage.column_layout import join_time
from storage.column_reader import ColumnReader
from tests.polling import until

# Installing both takes its time, once.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PACKAGES = {"cryptofeed": "2.4.1", "ccxt": "4.5.90"}
#: What each client calls the symbols.
SYMBOLS: dict[str, dict[str, dict[str, str]]] = {
    "cryptofeed": {
        "binance": {"BTCUSDT": "BTC-USDT", "ETHUSDT": "ETH-USDT"},
        "bitfinex": {"tBTCUSD": "BTC-USD", "tBTCF0:USTF0": "BTC-USDT-PERP"},
        "bybit": {"linear:BTCUSDT": "BTC-USDT-PERP", "spot:BTCUSDT": "BTC-USDT"},
        "deribit": {"BTC-PERPETUAL": "BTC-USD-PERP", "ETH-PERPETUAL": "ETH-USD-PERP"},
        "kraken": {"ETH/USD": "ETH-USD", "SOL/USD": "SOL-USD"},
        "okx": {"BTC-USDT": "BTC-USDT", "BTC-USDT-SWAP": "BTC-USDT-PERP"},
    },
    "ccxt": {
        "binance": {"BTCUSDT": "BTC/USDT", "ETHUSDT": "ETH/USDT"},
        "bitfinex": {"tBTCUSD": "BTC/USD", "tBTCF0:USTF0": "BTC/USDT:USDT"},
        "bybit": {"linear:BTCUSDT": "BTC/USDT:USDT", "spot:BTCUSDT": "BTC/USDT"},
        "coinbase": {"BTC-USD": "BTC/USD", "ETH-USD": "ETH/USD"},
        "deribit": {"BTC-PERPETUAL": "BTC/USD:BTC", "ETH-PERPETUAL": "ETH/USD:ETH"},
        "kraken": {"BTC/USD": "BTC/USD", "ETH/USD": "ETH/USD"},
        "okx": {"BTC-USDT": "BTC/USDT", "BTC-USDT-SWAP": "BTC/USDT:USDT"},
    },
}
FOLLOWED = [(client, name) for client, own in SYMBOLS.items() for name in own]
#: Version 1 of Kraken's protocol has none.
WITHOUT_IDS = {("cryptofeed", "kraken")}
RATE = 100.0
#: Trades of each symbol, and levels of each side of a book, that a client has to see at least.
TRADES = 30
LEVELS = 100
#: For a client to import what it needs, and then to see as much.
PATIENCE_S = 120.0

#: Id (0 where the client has none), ms, price, size, side.
Row = tuple[int, int, float, float, str]


class Client:
    """A process that follows all the exchanges."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._speaking = asyncio.Lock()

    async def ask(self, what: str, name: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._speaking:
            self._process.stdin.write(f"{what} {name}\n".encode())
            try:
                line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
            except TimeoutError:
                # Nobody may take the late answer for his own.
                self._process.kill()
                raise
        if not line:
            raise ConnectionResetError("the client has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Exchanges:
    """All seven, and the clients that follow them."""

    def __init__(self, truth: Path) -> None:
        self._truth = truth
        self.clients: dict[str, Client] = {}
        self.servers: dict[str, ExchangeServer] = {}
        for name, dialect in DIALECTS.items():
            symbols = {symbol for own in SYMBOLS.values() for symbol in own.get(name, ())}
            listings = {symbol: dialect.listing(symbol) for symbol in sorted(symbols)}
            self.servers[name] = ExchangeServer(dialect(listings), 7, RATE, truth)

    async def start(self, pythons: dict[str, Path]) -> None:
        addresses = {name: await server.start() for name, server in self.servers.items()}
        await asyncio.gather(*(server.halt() for server in self.servers.values()))
        # What they import is compiled once, not each time.
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        for client, python in pythons.items():
            # Clients know the paths of the protocols themselves.
            endpoints = {
                name: (f"ws://{urlsplit(addresses[name][0]).netloc}", addresses[name][1], symbols)
                for name, symbols in SYMBOLS[client].items()
            }
            process = await asyncio.create_subprocess_exec(
                python,
                Path(__file__).with_name(f"{client}_client.py"),
                json.dumps(endpoints),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=surroundings,
                limit=2**24,
            )
            self.clients[client] = Client(process)

    async def run(self) -> None:
        """All markets, once the clients can listen, until they have seen enough or never will."""
        await asyncio.gather(*(client.ask("seen", "binance") for client in self.clients.values()))
        await asyncio.gather(*(server.halt(False) for server in self.servers.values()))

        async def enough(client: str, name: str) -> bool:
            # An answer has whole books.
            await asyncio.sleep(0.3)
            answer = await self.clients[client].ask("seen", name)
            trades = [len(answer["trades"][symbol]) for symbol in SYMBOLS[client][name]]
            return bool(answer["failure"]) or (min(trades) >= TRADES and len(answer["books"]) == len(trades))

        seeing = (until(partial(enough, client, name), PATIENCE_S) for client, name in FOLLOWED)
        await asyncio.gather(*seeing, return_exceptions=True)
        await asyncio.gather(*(server.halt() for server in self.servers.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(client.end() for client in self.clients.values()))
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    def made(self, name: str, symbol: str) -> list[Row]:
        columns = ("id", "time", "nanos", "price64", "size64", "side")
        stored = ColumnReader(self._truth).select(name, symbol, "TRADES", 0, 2**62, columns)
        ids, times, nanos, prices, sizes, sides = (stored.column(column) for column in columns)
        ms = join_time(times, nanos) // 1_000_000
        names = [("buy", "sell")[side] for side in sides.tolist()]
        return list(zip(ids.tolist(), ms.tolist(), prices.tolist(), sizes.tolist(), names, strict=True))

    def book(self, name: str, symbol: str, levels: int) -> list[list[list[float]]]:
        server = self.servers[name]
        listed = server.dialect.listings[symbol]
        price, size = 10**listed.price_decimals, 10**listed.size_decimals
        return [[[ticks / price, units / size] for ticks, units in side] for side in server.book(symbol, levels)]


@pytest.fixture(scope="module")
def pythons() -> dict[str, Path]:
    try:
        with ThreadPoolExecutor() as pool:
            folders = (f"{name}-{version}" for name, version in PACKAGES.items())
            packages = (f"{name}=={version}" for name, version in PACKAGES.items())
            return dict(zip(PACKAGES, pool.map(environment, folders, packages), strict=True))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exchanges(pythons: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Exchanges]:
    exchanges = Exchanges(tmp_path_factory.mktemp("truth"))
    try:
        await exchanges.start(pythons)
        await exchanges.run()
        yield exchanges
    finally:
        await exchanges.stop()


def rows(answer: dict[str, Any], symbol: str) -> list[Row]:
    """What comes on subscribing has the newest first."""
    return sorted((number(text), ms, price, size, side) for text, ms, price, size, side in answer["trades"][symbol])


def number(text: str) -> int:
    """Trades of Bybit's contracts have UUIDs, of which our ids are the first 63 bits."""
    if text == "None":
        return 0
    return UUID(text).int >> 65 if "-" in text else int(text)


def problems(answer: dict[str, Any], client: str, name: str, exchanges: Exchanges) -> list[str]:
    """What is not as it is at the exchange."""
    found = [answer["failure"]] if answer["failure"] else []
    for symbol in SYMBOLS[client][name]:
        trades, made = rows(answer, symbol), exchanges.made(name, symbol)
        if (client, name) in WITHOUT_IDS:
            made = [(0, *row[1:]) for row in made]
        if len(trades) < TRADES or trades != sorted(made[-len(trades) :]):
            found.append(f"{len(trades)} trades of {symbol}: {trades[-3:]} for {made[-3:]}")
        book = answer["books"].get(symbol, [[], []])
        levels = min(map(len, book))
        if levels < LEVELS or book != exchanges.book(name, symbol, levels):
            found.append(f"a book of {symbol} with {levels} levels: {[side[:3] for side in book]}")
    return found


@pytest.mark.parametrize(("client", "name"), FOLLOWED)
async def test_a_client_sees_every_trade_as_it_was_made_and_the_books(
    client: str, name: str, exchanges: Exchanges
) -> None:
    answer: dict[str, Any] = {}

    async def is_right() -> bool:
        answer.update(await exchanges.clients[client].ask("seen", name))
        return bool(answer["failure"]) or not problems(answer, client, name, exchanges)

    # The last frames may still be on their way.
    with suppress(AssertionError):
        await until(is_right)
    assert problems(answer, client, name, exchanges) == []
    assert answer["wrong"] == 0


@pytest.mark.parametrize("name", SYMBOLS["ccxt"])
async def test_ccxt_fetches_the_newest_trades_and_the_books(name: str, exchanges: Exchanges) -> None:
    answer = await exchanges.clients["ccxt"].ask("fetched", name)
    assert problems(answer, "ccxt", name, exchanges) == []
