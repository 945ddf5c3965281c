"""The simulated exchanges of an instance: a replay of recorded ones, or a made-up market.

I own their servers on loopback ports and every task behind them. I keep nothing on disk: started again, a replay
plays from the beginning and a market goes on from the present with new trade ids.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from actors.endpoint import Endpoint
from actors.simulator.captures import read_captures, recordings
from actors.simulator.faults import Faults
from actors.simulator.market_server import MarketServer
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import shared_clocks
from config import Settings, SettingsError

_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,20}")


class Simulator:
    """The exchanges for a `settings.source` of `replay:DIR` or `sim`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers: dict[str, ReplayServer | MarketServer] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._skipped: list[str] = []

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
            addresses = {exchange: await server.start() for exchange, server in self._servers.items()}
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
    def faults(self) -> dict[str, Faults]:
        """What goes wrong at each exchange; for whoever runs in the same process."""
        return {exchange: server.faults for exchange, server in self._servers.items()}

    async def progress(self) -> dict[str, Mapping[str, int | bool]]:
        """For each exchange `frames`, `sent` (on the connection that has come furthest), `connections` and
        `finished`."""
        return {exchange: server.progress() for exchange, server in self._servers.items()}

    async def status(self) -> dict[str, Any]:
        """`running`, `skipped` (captures of exchanges that cannot be played) and the progress of each exchange."""
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "running": bool(self._servers),
            "skipped": self._skipped,
            "progress": await self.progress(),
        }

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
        market = self._settings.simulator
        symbols = tuple(dict.fromkeys(market.symbols))
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol):
                raise SettingsError(f"setting 'simulator.symbols' has {symbol!r}: expected letters A-Z and digits")
        self._servers = {"binance": MarketServer(market.seed, symbols, market.trades_per_second)}
        return {"binance": symbols}
