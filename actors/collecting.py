"""The exchanges of an instance: where each is, which of its symbols are collected, and by whom."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from actors import succession
from actors.backfill.records import NotesInFile
from actors.directory import SIMULATOR, collector_name, name_in_ray
from actors.endpoint import Endpoint
from actors.nodes import this_node
from actors.own_process import COLLECTOR
from actors.placement import Series
from actors.roster import NO_ANSWER_YET
from actors.simulator.simulator import Simulator
from actors.surveys import ANSWER_TIMEOUT_S
from config import Settings, SettingsError
from storage.symbol_changes import SymbolChanges


class Collecting:
    """Their collectors are among the `actors`, by name; `add` starts a further one there, and `note` writes down what
    happened (`Chronicle.note`)."""

    def __init__(
        self, settings: Settings, actors: dict[str, Any], add: Callable[..., Any], note: Callable[..., None]
    ) -> None:
        self._settings = settings
        self._actors = actors
        self._add = add
        self._note = note
        self._make: Callable[[str, str, str | None], Any] | None = None
        self._node_of: Callable[[int], str | None] = lambda _: None
        #: Journals are on this host alone, and so is who writes one.
        self._journaled: set[str] = set()
        self.endpoints: dict[str, Endpoint] = {}
        #: Held while the symbols of an exchange change, or its collector is told of them.
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._changes = SymbolChanges(settings.data / "symbols.json")

    async def add_symbols(self, exchange: str, symbols: Sequence[str]) -> dict[str, str]:
        """Collect further symbols from now on, after a restart too. Says for each why it is not collected; "" where
        it is. A symbol the exchange does not have is not kept. `SettingsError` for an exchange that does not run."""
        async with self.running(exchange) as collector:
            said: dict[str, str] = await collector.add.remote(list(symbols))
            unknown = [symbol for symbol, reason in said.items() if reason and reason != NO_ANSWER_YET]
            # What was wanted before may be no more than halted.
            known = self.endpoints[exchange].symbols
            if new := [symbol for symbol in unknown if symbol not in known]:
                await collector.remove.remote(new)
            added = [symbol for symbol in said if symbol not in unknown]
            self._change(exchange, self._changes.add, added)
        self._note("symbols_added", "symbols", "collected from now on", exchange=exchange, symbols=added)
        return said

    async def remove_symbols(self, exchange: str, symbols: Sequence[str]) -> list[str]:
        """Stop collecting symbols, after a restart too; returns those that were collected. What was stored stays."""
        async with self.running(exchange) as collector:
            removed: list[str] = await collector.remove.remote(list(symbols))
            self._change(exchange, self._changes.remove, removed)
        self._note("symbols_removed", "symbols", "no longer collected", exchange=exchange, symbols=removed)
        return removed

    async def symbols(self) -> list[dict[str, Any]]:
        """Where every symbol of every exchange stands; see `Roster.rows`."""
        exchanges = list(self.endpoints)
        rows = await asyncio.gather(*(self.collector(exchange).symbols.remote() for exchange in exchanges))
        return [{"exchange": exchange, **row} for exchange, own in zip(exchanges, rows, strict=True) for row in own]

    async def backfill(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> int:
        """Fetch past trades of a symbol (both ends included), also after a restart; the number of the job, which is
        unique within its exchange. `SettingsError` when that cannot be."""
        async with self.running(exchange) as collector:
            job: int = await collector.backfill.remote(symbol, from_ns, to_ns)
        span = {"job": job, "from_ns": from_ns, "to_ns": to_ns}
        self._note("backfill_begun", "backfill", "past trades", exchange=exchange, symbols=[symbol], **span)
        return job

    async def backfills(self) -> list[dict[str, Any]]:
        """What `backfill` began, with `exchange`; see `actors.backfill.records.Job`."""
        said = await asyncio.gather(*(self.collector(exchange).backfills.remote() for exchange in self.endpoints))
        return [
            {"exchange": exchange, **job} for exchange, own in zip(self.endpoints, said, strict=True) for job in own
        ]

    async def cancel_backfill(self, exchange: str, job: int) -> bool:
        """End a backfill; False when it does not run."""
        cancelled: bool = await self.collector(exchange).cancel_backfill.remote(job)
        if cancelled:
            self._note("backfill_cancelled", "backfill", "ended by a user", exchange=exchange, job=job)
        return cancelled

    async def record(self, on: bool, exchanges: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Switch the raw journal of all (or these) exchanges on or off; says what each has taken. A collector that is
        on another host comes to this one first."""
        wanted = list(self.endpoints) if exchanges is None else list(exchanges)
        (self._journaled.update if on else self._journaled.difference_update)(wanted)
        said = await asyncio.gather(*(self._record(self.collector(exchange), on) for exchange in wanted))
        self._note("journal_switched", "journal", "on" if on else "off", exchanges=wanted)
        return dict(zip(wanted, said, strict=True))

    async def _record(self, collector: Any, on: bool) -> dict[str, Any]:
        if on and (await collector.status.remote())["node"] != this_node():
            # It is misplaced now, and begins when it is here.
            return {**await collector.journal.remote(), "failure": "its collector is on its way to this host"}
        said: dict[str, Any] = await collector.record.remote(on)
        return said

    async def journals(self) -> dict[str, dict[str, Any]]:
        """What the journal of each exchange has taken; see `Recorder.status`."""
        said = await asyncio.gather(*(self.collector(exchange).journal.remote() for exchange in self.endpoints))
        return dict(zip(self.endpoints, said, strict=True))

    def notes(self, exchange: str) -> NotesInFile:
        """What is known of the backfills of an exchange, wherever its collector is."""
        return NotesInFile(self._settings.data / "backfill" / f"{exchange}.json")

    def begin(
        self,
        make: Callable[[str, str, str | None], Any],
        lead: Callable[[str], Awaitable[None]],
        node_of: Callable[[int], str | None],
    ) -> None:
        """Have the collectors; `make` starts that of an exchange on a node, which Ray is to know by this name, or finds
        it, `lead` tells it the shards, and `node_of` gives the node of the exchange of a number, None while that is not
        there."""
        self._make, self._lead, self._node_of = make, lead, node_of
        for exchange in self.endpoints:
            name = collector_name(exchange)
            self._actors[name] = make(exchange, name_in_ray(name), self._home(exchange))

    def misplaced(self, said: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The collectors that are not on the node where they belong, by what each `said` of itself last."""
        found = []
        for exchange in self.endpoints if self._make is not None else ():
            its = said.get(name := collector_name(exchange), {})
            home = self._home(exchange)
            if its.get("answers") and home is not None and its.get("node", home) != home:
                found.append(name)
        return found

    async def go_home(self, name: str) -> None:
        """Have the collector of that name where it belongs, if it is not there by now."""
        said = await self._actors[name].status.remote()
        if said["node"] != self._home(said["exchange"]):
            await self.succeed(name)

    def _home(self, exchange: str) -> str | None:
        if self._settings.journal or exchange in self._journaled:
            return this_node()
        return self._node_of(sorted(self.endpoints).index(exchange))

    async def go_on(self) -> None:
        """With what was half done when the supervisor died."""
        for exchange, collector in self.all.items():
            if (await collector.status.remote())["journal"]:
                self._journaled.add(exchange)
            await succession.go_on(collector_name(exchange), collector, partial(self._lead, exchange))

    async def set_to_work(self, exchange: str) -> None:
        async with self.running(exchange):
            pass

    async def succeed(self, name: str) -> None:
        """Let another process take the place of the collector of that name; see `actors.succession`."""
        exchange, make = name.partition(":")[2], self._make
        assert make is not None
        async with self._changing[exchange]:
            await succession.succeed(
                name,
                self._actors[name],
                lambda known_as: make(exchange, known_as, self._home(exchange)),
                partial(self._actors.__setitem__, name),
                partial(self._lead, exchange),
            )
            if exchange in self._journaled:
                await self._record(self._actors[name], True)

    async def find(self) -> None:
        """Where each exchange is, outside or in our own simulator, and its symbols. `SettingsError` when there is none,
        `CaptureError` when the captures of a replay cannot be read."""
        wanted = {name: exchange for name, exchange in self._settings.exchanges.items() if exchange.enabled}
        if self._settings.source == "live":
            found = {
                name: Endpoint(exchange.websocket, exchange.rest, tuple(exchange.symbols))
                for name, exchange in wanted.items()
            }
        else:
            simulator = self._add(SIMULATOR, Simulator, self._settings, gives_way=COLLECTOR)
            found = await simulator.start.remote()
        self.endpoints = {name: self._changed(name, endpoint) for name, endpoint in found.items() if name in wanted}
        if not self.endpoints:
            raise SettingsError(f"source {self._settings.source} has none of the exchanges that are switched on")

    def _changed(self, exchange: str, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, symbols=self._changes.applied_to(exchange, endpoint.symbols))

    async def relocate(self, endpoints: dict[str, Endpoint]) -> None:
        """A restarted simulator listens on other ports."""
        for exchange, endpoint in endpoints.items():
            if exchange in self.endpoints:
                async with asyncio.timeout(ANSWER_TIMEOUT_S), self._changing[exchange]:
                    self.endpoints[exchange] = self._changed(exchange, endpoint)
                    await self.collector(exchange).relocate.remote(self.endpoints[exchange])

    @property
    def collected(self) -> set[Series]:
        """Every symbol that is collected."""
        return {(exchange, symbol) for exchange, own in self.endpoints.items() for symbol in own.symbols}

    @property
    def all(self) -> dict[str, Any]:
        """By exchange its collector."""
        return {exchange: self._actors[collector_name(exchange)] for exchange in self.endpoints}

    def collector(self, exchange: str) -> Any:
        """That of an exchange; `SettingsError`."""
        if exchange not in self.endpoints:
            raise SettingsError(f"no exchange called {exchange!r} runs here; there are {', '.join(self.endpoints)}")
        return self._actors[collector_name(exchange)]

    @asynccontextmanager
    async def running(self, exchange: str) -> AsyncIterator[Any]:
        """Its collector, at work with the symbols it should have: a new process knows those of its first start only.
        Held while they change, so that it is never started with what they were before."""
        self.collector(exchange)
        async with self._changing[exchange]:
            # Another may have taken its place meanwhile.
            collector = self.collector(exchange)
            if not (await collector.status.remote())["running"]:
                await self._lead(exchange)
                await collector.relocate.remote(self.endpoints[exchange])
            yield collector

    def _change(self, exchange: str, change: Callable[[str, Iterable[str]], None], symbols: Sequence[str]) -> None:
        if symbols:
            change(exchange, symbols)
            self.endpoints[exchange] = self._changed(exchange, self.endpoints[exchange])
