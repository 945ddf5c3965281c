"""The simulated exchanges of an instance: a replay of recorded ones, or made-up markets.

I own their servers, on ports nobody but this host reaches or, where several have the collectors, on its address among
them, and every task behind them. Of a market I keep every trade below
DATA/simulator/columns, and in DATA/simulator/symbols.json what it listed later: started again, it goes on from there. A
replay plays from the beginning.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from actors.endpoint import Endpoint
from actors.nodes import address_here
from actors.simulator.captures import read_captures, recordings
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from actors.simulator.fault_kinds import FaultError
from actors.simulator.loopback import LOOPBACK
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import shared_clocks
from config import Settings, SettingsError
from storage.symbol_changes import SymbolChanges


class Simulator:
    """The exchanges for a `settings.source` of `replay:DIR` or `sim`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: dict[str, ReplayServer | ExchangeServer] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._skipped: list[str] = []
        self._truth = settings.data / "simulator" / "columns"
        self._listed = SymbolChanges(settings.data / "simulator" / "symbols.json")

    def __repr__(self) -> str:
        return f"<Simulator {self._settings.source}: {', '.join(map(repr, self._servers.values())) or 'stopped'}>"

    async def start(self) -> dict[str, Endpoint]:
        """Start the servers, if they do not run yet; returns the endpoint of each exchange.

        Raises `CaptureError` for captures that cannot be played and `SettingsError` for symbols no market can have.
        """
        if self._servers:
            return self._endpoints
        symbols = await self._prepare()
        try:
            host = _host(self._settings)
            addresses = {exchange: await server.start(host) for exchange, server in self._servers.items()}
        except BaseException:
            await self.stop()
            raise
        self._endpoints = {name: Endpoint(*addresses[name], symbols[name]) for name in addresses}
        return self._endpoints

    async def stop(self) -> None:
        """Close all servers and connections."""
        servers, self._servers = self._servers, {}
        for result in await asyncio.gather(*(one.stop() for one in servers.values()), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    @property
    def servers(self) -> Mapping[str, ReplayServer | ExchangeServer]:
        """By exchange; for whoever runs in the same process."""
        return self._servers

    async def fault(self, exchange: str, kind: str, **options: object) -> str:
        """Let something go wrong (see `actors.simulator.fault_kinds`); says what. `SettingsError` for what cannot."""
        try:
            return self._server(exchange).faults.inject(kind, **options)
        except FaultError as error:
            raise SettingsError(str(error)) from None

    async def faults(self) -> list[dict[str, Any]]:
        """What goes wrong now, with `exchange`; see `Injected.row`."""
        return [{"exchange": name, **row} for name, server in self._servers.items() for row in server.faults.active()]

    async def halt(self, exchange: str | None, on: bool) -> None:
        """No new trades or changes at an exchange (None: at all of them): returns when everything that happened is
        published. Heartbeats and REST go on."""
        chosen = self._markets() if exchange is None else [self._market_at(exchange)]
        await asyncio.gather(*(server.halt(on) for server in chosen))

    async def book(self, exchange: str, symbol: str, levels: int) -> dict[str, list[tuple[float, float]]]:
        """`bids` and `asks`, best first, as (price, size), at most as many as the exchange shows."""
        server = self._market_at(exchange)
        listed = server.dialect.listings.get(symbol)
        if listed is None:
            raise SettingsError(f"{exchange} does not list {symbol!r}")
        book = server.book(symbol, min(levels, server.dialect.depth))
        price, size = 10.0**listed.price_decimals, 10.0**listed.size_decimals
        sides = (("bids", book.bids), ("asks", book.asks))
        return {name: [(ticks / price, units / size) for ticks, units in side] for name, side in sides}

    async def list_symbol(self, exchange: str, symbol: str) -> None:
        """See `ExchangeServer.relist`; it stays listed after a restart. `SettingsError` for what no symbol can be."""
        market = self._market_at(exchange)
        try:
            market.relist(symbol)
        except ValueError as error:
            raise SettingsError(f"{exchange} cannot list {symbol!r}: {error}") from None
        self._listed.add(exchange, [symbol])

    async def progress(self) -> dict[str, Mapping[str, int | bool]]:
        """For each exchange `frames`, `sent` (on the connection that has come furthest), `connections` and
        `finished`."""
        return {exchange: server.progress() for exchange, server in self._servers.items()}

    async def status(self) -> dict[str, Any]:
        """`running`, `skipped` (captures of exchanges that cannot be played), `failure` (why one does not trade) and
        the progress of each exchange."""
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "running": bool(self._servers),
            "skipped": self._skipped,
            "truth": str(self._truth),
            "failure": "; ".join(f"{one.dialect.exchange} {one.failure}" for one in self._markets() if one.failure),
            "progress": await self.progress(),
        }

    def _markets(self) -> Sequence[ExchangeServer]:
        return [server for server in self._servers.values() if isinstance(server, ExchangeServer)]

    def _market_at(self, exchange: str) -> ExchangeServer:
        server = self._server(exchange)
        if not isinstance(server, ExchangeServer):
            raise SettingsError(f"{exchange} is a replay: only a made-up market can do that")
        return server

    def _server(self, exchange: str) -> ReplayServer | ExchangeServer:
        if exchange not in self._servers:
            names = ", ".join(self._servers) or "none"
            raise SettingsError(f"no exchange called {exchange!r} is simulated; there are {names}")
        return self._servers[exchange]

    async def _prepare(self) -> dict[str, tuple[str, ...]]:
        """Make the servers; returns the symbols of each exchange."""
        folder = self._settings.replay_folder
        if folder is not None:
            captures = await asyncio.to_thread(read_captures, folder)
            self._skipped = [capture.path.name for capture in captures if not capture.playable()]
            played = await asyncio.to_thread(recordings, captures)
            clocks = shared_clocks(played, self._settings.replay.speed)
            self._servers = {
                one.exchange: await asyncio.to_thread(ReplayServer, one, clocks[one.exchange]) for one in played
            }
            return {one.exchange: one.symbols for one in played}
        if self._settings.source != "sim":
            raise ValueError(f"nothing to simulate for source {self._settings.source}")
        exchanges = {str(name): own for name, own in self._settings.exchanges.items() if own.enabled}
        self._servers = {
            name: self._market(name, self._listed.applied_to(name, own.symbols)) for name, own in exchanges.items()
        }
        return {name: tuple(dict.fromkeys(own.symbols)) for name, own in exchanges.items()}

    def _market(self, name: str, symbols: Sequence[str]) -> ExchangeServer:
        dialect, market = DIALECTS[name], self._settings.simulator
        listings = {}
        for symbol in symbols:
            try:
                listings[symbol] = dialect.listing(symbol)
            except ValueError as error:
                raise SettingsError(
                    f"setting 'exchanges.{name}.symbols' has what {name} cannot list: {error}"
                ) from None
        return ExchangeServer(dialect(listings), market.seed, market.trades_per_second, self._truth)


def _host(settings: Settings) -> str:
    return LOOPBACK if settings.ray_address is None else address_here()
