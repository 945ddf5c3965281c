"""Simulated exchanges of our own, which go on trading whatever becomes of those who collect from them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from actors.endpoint import Endpoint
from actors.feeds.registry import FEEDS
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from actors.simulator.loopback import LOOPBACK

SYMBOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "binance": ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    "bitfinex": ("tBTCUSD", "tETHUSD"),
    "bybit": ("spot:BTCUSDT", "linear:BTCUSDT"),
    "coinbase": ("BTC-USD", "ETH-USD"),
    "deribit": ("BTC-PERPETUAL", "ETH-PERPETUAL"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "okx": ("BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP"),
}
#: Where the trades of a long time ago cannot be had over REST: a long fault leaves a gap for good, which must say so.
UNREPAIRABLE: Final = frozenset(("bybit",))


class Exchanges:
    """Use as an async context manager. The truth lies below `folder`; those of `UNREPAIRABLE` make `few_trades` a
    second. They listen on `host`."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        trades_per_second: float,
        few_trades: float,
        symbols: Mapping[str, tuple[str, ...]] = SYMBOLS,
        host: str = LOOPBACK,
    ) -> None:
        self._host = host
        self.truth = folder
        self.symbols = symbols
        self.endpoints: dict[str, Endpoint] = {}
        self.servers = {
            exchange: ExchangeServer(
                DIALECTS[exchange]({symbol: DIALECTS[exchange].listing(symbol) for symbol in own}),
                seed,
                few_trades if exchange in UNREPAIRABLE else trades_per_second,
                folder,
            )
            for exchange, own in symbols.items()
        }

    async def __aenter__(self) -> "Exchanges":
        for exchange, server in self.servers.items():
            self.endpoints[exchange] = Endpoint(*await server.start(self._host), self.symbols[exchange])
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.faults.end_all()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))

    async def halt(self) -> None:
        """Nothing happens any more."""
        for server in self.servers.values():
            await server.halt()


@contextmanager
def patient_exchanges() -> Iterator[None]:
    """Exchanges that let everybody connect and ask as often as a campaign makes them, and clients in this process that
    soon miss an answer."""
    before = {exchange: (feed.limits, DIALECTS[exchange].weight_per_minute) for exchange, feed in FEEDS.items()}
    for exchange, feed in FEEDS.items():
        weight = max(feed.limits.rest_weight_per_minute, 6000)
        feed.limits = replace(feed.limits, connects_per_minute=6000, answer_s=3.0, rest_weight_per_minute=weight)
        DIALECTS[exchange].weight_per_minute = weight * 2
    try:
        yield
    finally:
        for exchange, (limits, weight) in before.items():
            FEEDS[exchange].limits = limits
            DIALECTS[exchange].weight_per_minute = weight
