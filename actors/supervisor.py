"""Supervisor: I turn the settings into running actors and keep them running. I own no data; when I die, I find the
others by name again. Ray restarts a process that died, I start its work again and say in `status` what I saw.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import ray

from actors import surveys
from actors.accounts import Accounts
from actors.alerter import Alerter
from actors.alerting.definitions import placed
from actors.backups import Backups
from actors.chronicle import Chronicle
from actors.collector import Collector
from actors.configuration import Configuration
from actors.data_node import DataNode
from actors.database import Database, stored_kinds
from actors.directory import (
    ACCOUNTS,
    ALERTER,
    BACKUPS,
    DATABASE,
    LIVE_HUB,
    MARKET_OVERVIEW,
    MARKET_WATCH,
    METRICS,
    NAMESPACE,
    PUBLISHER,
    REPORTS,
    SIMULATOR,
    SUPERVISOR,
    collector_name,
    find_actor,
    node_name,
    placement_now,
    shard_name,
)
from actors.endpoint import Endpoint
from actors.health import components
from actors.live_asked import AskedActors
from actors.live_hub import LiveHub
from actors.live_offers import ReceivedOffers
from actors.market_poller import MarketPoller
from actors.market_watch import WATCHED, Collectors, MarketWatch
from actors.metrics import Metrics
from actors.nodes import stays_on, this_node
from actors.offers import Offers, WantedOffers
from actors.overview_start import add_overview
from actors.own_process import COLLECTOR, TOLD, in_own_process
from actors.placement import Series
from actors.places import Places, Progress
from actors.published_books import CollectorBooks
from actors.publisher import Publisher
from actors.reports import Reports
from actors.roster import NO_ANSWER_YET
from actors.simulator.simulator import Simulator
from actors.sinks import Sinks
from actors.surveys import ANSWER_TIMEOUT_S, answer_or_none
from actors.symbol_shard import SymbolShard
from config import Settings, SettingsError
from storage.symbol_changes import SymbolChanges

WATCH_INTERVAL_S = 0.5
#: How everything is goes to Redis this often.
HEALTH_INTERVAL_S = 2.0
STOP_TIMEOUT_S = 3.0
#: Tables of quotes a shard keeps for a market watch that is away: only the newest matter once it is back.
QUOTES_WAITING = 8
STOP_ORDER = (
    ("collector:", "poller:", BACKUPS, ACCOUNTS, MARKET_OVERVIEW, REPORTS),
    ("shard:",),
    (MARKET_WATCH,),
    (DATABASE, PUBLISHER, ALERTER, LIVE_HUB),
    (SIMULATOR,),
)


def start_actor(name: str, actor: type, *arguments: Any, gives_way: int = 0, on: str | None = None) -> Any:
    """The actor of that name, made now if it does not run yet. Restarted for ever; calls to it wait meanwhile.
    `gives_way`: by so many steps of priority, see `actors.own_process`. `on`: the node it stays on, this one if none
    is said."""
    return (
        ray.remote(in_own_process(actor, gives_way))
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=stays_on(on or this_node()),
        )
        .remote(*arguments)
    )


#: Who goes by settings that may change.
CONFIGURED = ("shard:", MARKET_WATCH, DATABASE)


class Supervisor:
    """Starts and watches everything of one instance."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._configuration = Configuration(settings)
        self._settings = settings = self._configuration.settings
        self._redis_url = redis_url
        self._recorded = settings.replay_folder is not None
        self._actors: dict[str, Any] = {}
        self._endpoints: dict[str, Endpoint] = {}
        #: Held while the symbols of an exchange change, or its collector is told of them.
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._changes = SymbolChanges(settings.data / "symbols.json")
        self._status: dict[str, dict[str, Any]] = {}
        self._places: Places | None = None
        self._chronicle: Chronicle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._collecting = False
        if ray.get_runtime_context().was_current_actor_reconstructed:
            # Whoever told me to start does not know that I died.
            find_actor(SUPERVISOR).start.remote()

    def __repr__(self) -> str:
        return f"Supervisor({len(self._actors)} actors)"

    async def start(self) -> None:
        """Start everything, or find it running; returns when all actors have answered.

        Raises `CaptureError` when the captures of a replay cannot be read, `SettingsError` when nothing is to collect.
        """
        settings = self._settings
        self._endpoints = endpoints = await self._find_endpoints()
        if not endpoints:
            raise SettingsError(f"source {settings.source} has none of the exchanges that are switched on")
        add_told = partial(self._add, gives_way=TOLD)
        database = add_told(DATABASE, Database, settings)
        publisher = add_told(PUBLISHER, Publisher, settings, self._redis_url, CollectorBooks())
        watch = add_told(MARKET_WATCH, MarketWatch, settings, Collectors(), publisher, database, self._recorded)
        hub = self._add(LIVE_HUB, LiveHub, settings.live_feed, list(endpoints), AskedActors(), gives_way=COLLECTOR)
        alerter = add_told(ALERTER, Alerter, settings, self._redis_url, self._recorded, database, time.time_ns, hub)
        add_told(BACKUPS, Backups, settings, database)
        self._add(ACCOUNTS, Accounts, settings, self._redis_url, database)
        add_told(REPORTS, Reports, settings, database)
        add_told(METRICS, Metrics, settings)
        offers = (Offers(watch, QUOTES_WAITING, WATCHED), WantedOffers(alerter), WantedOffers(hub))
        sinks = Sinks(ray.put, database, publisher, *offers, stored=stored_kinds(settings))

        def start_shard(number: int, node: str) -> Any:
            given = (number, settings, ray.put, sinks, self._recorded, placement_now)
            return self._add(shard_name(number), SymbolShard, *given, on=node)

        if self._places is None:
            known, collectors = self._known_symbols, lambda: self._collectors
            self._places = Places(settings, start_shard, self._start_node, self._end, collectors, known)
            await self._places.begin()
        shards = [*self._places.shards.values()]
        for exchange, endpoint in endpoints.items():
            name = collector_name(exchange)
            self._add(name, Collector, exchange, endpoint, settings, shards, ReceivedOffers(hub), gives_way=COLLECTOR)
        for provider, poller in (("yahoo", settings.pollers.yahoo), ("polygon", settings.pollers.polygon)):
            if poller.enabled:
                self._add(f"poller:{provider}", MarketPoller, provider, settings, Sinks(ray.put, database, publisher))
        add_overview(self._add, settings, self._redis_url, hub)
        await asyncio.gather(*(actor.status.remote() for actor in self._actors.values()))
        # Who runs already knows the settings of its first start.
        await asyncio.gather(*map(self._tell_settings, self._actors))
        await self._places.go_on()
        self._collecting = True
        if self._chronicle is None:
            self._chronicle = Chronicle(database, time.time_ns)
            self._note("system_started", "supervisor", "collecting", source=settings.source, exchanges=list(endpoints))
        await self._look()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_forever())

    async def status(self) -> dict[str, dict[str, Any]]:
        """By actor name, what each said last, with `age_s` since then and `answers` false if it no longer does."""
        now = time.monotonic()
        return {
            name: {**{k: v for k, v in said.items() if k != "at"}, "age_s": round(now - said["at"], 3)}
            for name, said in self._status.items()
        }

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests can be served, and the state of each feed."""
        spared = (MARKET_OVERVIEW, METRICS)
        needed = [name for name in self._actors if name not in spared and not name.startswith("node:")]
        silent = [name for name in needed if not self._status.get(name, {}).get("answers")]
        feeds = {
            said["exchange"]: {key: said[key] for key in ("state", "lag_ms", "last_error", "failure")}
            for said in self._status.values()
            if "exchange" in said
        }
        ready = bool(self._actors) and not silent and self._watch is not None
        degraded = any(feed["state"] != "streaming" for feed in feeds.values())
        status = "starting" if not ready else "degraded" if degraded else "ready"
        return ready, {"status": status, "feeds": feeds, "not_answering": silent}

    async def add_symbols(self, exchange: str, symbols: Sequence[str]) -> dict[str, str]:
        """Collect further symbols from now on, after a restart too. Says for each why it is not collected; "" where
        it is. A symbol the exchange does not have is not kept. `SettingsError` for an exchange that does not run."""
        async with self._running(exchange) as collector:
            said: dict[str, str] = await collector.add.remote(list(symbols))
            if unknown := [symbol for symbol, reason in said.items() if reason and reason != NO_ANSWER_YET]:
                await collector.remove.remote(unknown)
            added = [symbol for symbol in said if symbol not in unknown]
            self._change(exchange, self._changes.add, added)
        self._note("symbols_added", "symbols", "collected from now on", exchange=exchange, symbols=added)
        return said

    async def remove_symbols(self, exchange: str, symbols: Sequence[str]) -> list[str]:
        """Stop collecting symbols, after a restart too; returns those that were collected. What was stored stays."""
        async with self._running(exchange) as collector:
            removed: list[str] = await collector.remove.remote(list(symbols))
            self._change(exchange, self._changes.remove, removed)
        self._note("symbols_removed", "symbols", "no longer collected", exchange=exchange, symbols=removed)
        return removed

    async def symbols(self) -> list[dict[str, Any]]:
        """Where every symbol of every exchange stands; see `Roster.rows`."""
        exchanges = list(self._endpoints)
        rows = await asyncio.gather(*(self._collector(exchange).symbols.remote() for exchange in exchanges))
        return [{"exchange": exchange, **row} for exchange, own in zip(exchanges, rows, strict=True) for row in own]

    async def integrity(self) -> list[dict[str, Any]]:
        """See `actors.surveys.integrity`; nothing before anything is collected."""
        if not self._collecting:
            return []
        symbols = {exchange: endpoint.symbols for exchange, endpoint in self._endpoints.items()}
        assert self._places is not None
        return await surveys.integrity(self._collectors, self._places.shards, self._places.placement, symbols)

    async def gaps(
        self, exchange: str | None = None, symbol: str | None = None, open_only: bool = True
    ) -> list[dict[str, Any]]:
        """See `actors.surveys.gaps`."""
        return await surveys.gaps(self._shards, exchange, symbol, open_only)

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        """See `actors.surveys.quality`."""
        return await surveys.quality(self._shards, exchange, symbol, hours)

    async def backfill(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> int:
        """Fetch past trades of a symbol (both ends included), also after a restart; the number of the job, which is
        unique within its exchange. `SettingsError` when that cannot be."""
        async with self._running(exchange) as collector:
            job: int = await collector.backfill.remote(symbol, from_ns, to_ns)
        span = {"job": job, "from_ns": from_ns, "to_ns": to_ns}
        self._note("backfill_begun", "backfill", "past trades", exchange=exchange, symbols=[symbol], **span)
        return job

    async def backfills(self) -> list[dict[str, Any]]:
        """What `backfill` began, with `exchange`; see `actors.backfill.records.Job`."""
        said = await asyncio.gather(*(self._collector(exchange).backfills.remote() for exchange in self._endpoints))
        return [
            {"exchange": exchange, **job} for exchange, own in zip(self._endpoints, said, strict=True) for job in own
        ]

    async def cancel_backfill(self, exchange: str, job: int) -> bool:
        """End a backfill; False when it does not run."""
        cancelled: bool = await self._collector(exchange).cancel_backfill.remote(job)
        if cancelled:
            self._note("backfill_cancelled", "backfill", "ended by a user", exchange=exchange, job=job)
        return cancelled

    async def add_alert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make an alert about a collected symbol; see `Alerter.add`, also for what is raised, here and below."""
        collected = {exchange: endpoint.symbols for exchange, endpoint in self._endpoints.items()}
        alert: dict[str, Any] = await self._actors[ALERTER].add.remote(str(uuid.uuid4()), placed(given, collected))
        self._note_alert("alert_added", alert)
        return alert

    async def change_alert(self, alert_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        alert: dict[str, Any] = await self._actors[ALERTER].change.remote(alert_id, given)
        self._note_alert("alert_changed", alert)
        return alert

    async def remove_alert(self, alert_id: str) -> None:
        await self._actors[ALERTER].remove.remote(alert_id)
        self._note("alert_removed", "alerts", "no longer looked for", alert_id=alert_id)

    async def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._actors[ALERTER].alerts.remote()
        return found

    async def alert(self, alert_id: str) -> dict[str, Any]:
        alert: dict[str, Any] = await self._actors[ALERTER].alert.remote(alert_id)
        return alert

    async def deliveries(self, alert_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._actors[ALERTER].deliveries.remote(alert_id, limit)
        return found

    async def scale(self, shards: int, without: Sequence[str] = ()) -> dict[str, Any]:
        """See `Places.scale`. `SettingsError` before everything runs."""
        if self._places is None or not self._collecting:
            raise SettingsError("the instance is still starting; ask again in a moment")
        said = await self._places.scale(shards, without=without)
        self._note("scaled", "placement", f"{shards} shards", shards=shards, to_move=said["symbols"])
        return said

    async def scaling(self) -> dict[str, Any]:
        """See `Places.progress`; nothing is done while it is not known."""
        if self._places is None or not self._collecting:
            return {**asdict(Progress()), "done": False}
        return self._places.progress()

    async def configuration(self) -> dict[str, Any]:
        """See `actors.configuration.Configuration.now`."""
        return self._configuration.now()

    async def configuration_versions(self) -> list[dict[str, Any]]:
        """See `Configuration.versions`."""
        return self._configuration.versions()

    async def configure(self, values: Mapping[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]:
        """See `Configuration.change`, also for what is raised; `version`, and what has `changed`."""
        return await self._configured(self._configuration.change(values, note, user, expected), note, user)

    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]:
        """See `Configuration.rollback`, also for what is raised; `version`, and what has `changed`."""
        return await self._configured(self._configuration.rollback(version, note, user), note, user)

    async def backup(self, to: str | None, journal: bool, secrets: bool) -> int:
        """Begin a backup; the number of the job, see `Backups.job`. `SettingsError` while another is under way."""
        job: int | None = await self._actors[BACKUPS].make.remote(to, journal, secrets)
        if job is None:
            raise SettingsError("a backup is under way; look with: rayfeed status")
        return job

    async def backup_job(self) -> dict[str, Any]:
        """See `Backups.job`."""
        job: dict[str, Any] = await self._actors[BACKUPS].job.remote()
        return job

    async def record(self, on: bool, exchanges: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Switch the raw journal of all (or these) exchanges on or off; says what each has taken."""
        wanted = list(self._endpoints) if exchanges is None else list(exchanges)
        said = await asyncio.gather(*(self._collector(exchange).record.remote(on) for exchange in wanted))
        self._note("journal_switched", "journal", "on" if on else "off", exchanges=wanted)
        return dict(zip(wanted, said, strict=True))

    async def journals(self) -> dict[str, dict[str, Any]]:
        """What the journal of each exchange has taken; see `Recorder.status`."""
        said = await asyncio.gather(*(self._collector(exchange).journal.remote() for exchange in self._endpoints))
        return dict(zip(self._endpoints, said, strict=True))

    async def stop(self) -> None:
        """Stop in the order of the data: nothing received is left behind. Before it was up, nothing was received."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._places is not None:
            await self._places.end()
        self._note("system_stopped", "supervisor", "asked to stop")
        if self._chronicle is not None:
            await self._chronicle.flush(STOP_TIMEOUT_S)
        for kinds in STOP_ORDER if self._collecting else ():
            group = [actor for name, actor in self._actors.items() if name.startswith(kinds)]
            stops = (asyncio.wait_for(actor.stop.remote(), STOP_TIMEOUT_S) for actor in group)
            await asyncio.gather(*stops, return_exceptions=True)
        for actor in self._actors.values():
            ray.kill(actor, no_restart=True)
        self._actors.clear()

    @property
    def _shards(self) -> list[Any]:
        return [] if self._places is None else [*self._places.shards.values()]

    async def _known_symbols(self) -> set[Series]:
        """Every symbol that is stored or collected."""
        stored = await asyncio.gather(*(shard.stored.remote() for shard in self._shards))
        collected = {(exchange, symbol) for exchange, own in self._endpoints.items() for symbol in own.symbols}
        return collected.union(*stored)

    def _start_node(self, disk: str, node: str) -> Any:
        return self._add(node_name(disk), DataNode, self._settings, on=node)

    async def _end(self, name: str) -> None:
        """It is not needed any more."""
        actor = self._actors.pop(name)
        self._status.pop(name, None)
        if name.startswith("shard:"):
            with suppress(TimeoutError, ray.exceptions.RayError):
                await asyncio.wait_for(actor.stop.remote(), STOP_TIMEOUT_S)
        ray.kill(actor, no_restart=True)

    @property
    def _collectors(self) -> dict[str, Any]:
        return {exchange: self._actors[collector_name(exchange)] for exchange in self._endpoints}

    def _collector(self, exchange: str) -> Any:
        if exchange not in self._endpoints:
            raise SettingsError(f"no exchange called {exchange!r} runs here; there are {', '.join(self._endpoints)}")
        return self._actors[collector_name(exchange)]

    @asynccontextmanager
    async def _running(self, exchange: str) -> AsyncIterator[Any]:
        """Its collector, at work with the symbols it should have: a new process knows those of its first start only.
        Held while they change, so that it is never started with what they were before."""
        collector = self._collector(exchange)
        async with self._changing[exchange]:
            if not (await collector.status.remote())["running"]:
                if self._places is not None:
                    await self._places.introduce(exchange)
                await collector.relocate.remote(self._endpoints[exchange])
            yield collector

    def _change(self, exchange: str, change: Callable[[str, Iterable[str]], None], symbols: Sequence[str]) -> None:
        if symbols:
            change(exchange, symbols)
            self._endpoints[exchange] = self._changed(exchange, self._endpoints[exchange])

    def _note(self, event: str, component: str, message: str, **about: Any) -> None:
        """See `Chronicle.note`; nothing happens before anything runs."""
        if self._chronicle is not None:
            self._chronicle.note(event, component, message, **about)

    def _note_alert(self, event: str, alert: Mapping[str, Any]) -> None:
        # Where its messages lead is a secret.
        said = {key: alert[key] for key in ("alert_id", "timeframe", "condition", "threshold", "is_active")}
        self._note(event, "alerts", alert["note"], exchange=alert["exchange"], symbols=[alert["symbol"]], **said)

    async def _configured(self, changed: dict[str, Any], note: str, user: str) -> dict[str, Any]:
        version = self._configuration.now()["version"]
        if changed:
            self._settings = self._configuration.settings
            self._note(
                "configuration_changed", "configuration", note or "changed", user=user, version=version, changed=changed
            )
            # One that does not answer is told when it is back.
            tells = (asyncio.wait_for(self._tell_settings(name), STOP_TIMEOUT_S) for name in self._actors)
            await asyncio.gather(*tells, return_exceptions=True)
        return {"version": version, "changed": changed}

    async def _tell_settings(self, name: str) -> None:
        if name.startswith(CONFIGURED):
            await self._actors[name].configure.remote(self._settings)

    async def _tell_symbols(self, exchange: str, symbols: Sequence[str]) -> None:
        if self._chronicle is not None and self._chronicle.is_due(exchange, symbols):
            instruments = await answer_or_none(self._collector(exchange).instruments.remote())
            if instruments is not None:
                self._chronicle.list_is(exchange, instruments, symbols)

    def _add(self, name: str, actor: type, *arguments: Any, gives_way: int = 0, on: str | None = None) -> Any:
        self._actors[name] = handle = start_actor(name, actor, *arguments, gives_way=gives_way, on=on)
        return handle

    async def _find_endpoints(self) -> dict[str, Endpoint]:
        """Where each exchange is, outside or in our own simulator, and its symbols."""
        wanted = {name: exchange for name, exchange in self._settings.exchanges.items() if exchange.enabled}
        if self._settings.source == "live":
            return {
                name: self._changed(name, Endpoint(exchange.websocket, exchange.rest, tuple(exchange.symbols)))
                for name, exchange in wanted.items()
            }
        simulator = self._add(SIMULATOR, Simulator, self._settings, gives_way=COLLECTOR)
        endpoints: dict[str, Endpoint] = await simulator.start.remote()
        return {name: self._changed(name, endpoint) for name, endpoint in endpoints.items() if name in wanted}

    def _changed(self, exchange: str, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, symbols=self._changes.applied_to(exchange, endpoint.symbols))

    async def _relocate(self, endpoints: dict[str, Endpoint]) -> None:
        """A restarted simulator listens on other ports."""
        for exchange, endpoint in endpoints.items():
            if exchange in self._endpoints:
                async with asyncio.timeout(ANSWER_TIMEOUT_S), self._changing[exchange]:
                    self._endpoints[exchange] = self._changed(exchange, endpoint)
                    await self._collector(exchange).relocate.remote(self._endpoints[exchange])

    async def _watch_forever(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_health_forever())
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                await self._look()

    async def _tell_health_forever(self) -> None:
        """However long the publisher is away, it is told once when it is back."""
        while True:
            with suppress(ray.exceptions.RayError):
                await self._actors[PUBLISHER].publish_health.remote(components(await self.status(), time.time_ns()))
            await asyncio.sleep(HEALTH_INTERVAL_S)

    async def _look(self) -> None:
        await asyncio.gather(
            *(self._ask(name, actor) for name, actor in list(self._actors.items())),
            *(self._tell_symbols(exchange, endpoint.symbols) for exchange, endpoint in self._endpoints.items()),
        )

    async def _ask(self, name: str, actor: Any) -> None:
        try:
            said = await asyncio.wait_for(actor.status.remote(), ANSWER_TIMEOUT_S)
            if self._status.get(name, said).get("pid") != said.get("pid"):
                await asyncio.wait_for(self._tell_settings(name), ANSWER_TIMEOUT_S)
                self._note("actor_restarted", name, "its process had died", severity="warning")
            if name not in self._actors:
                return  # a shard that has ended meanwhile
            self._status[name] = {**said, "answers": True, "at": time.monotonic()}
            if said.get("running") is False:
                # Its process was restarted, or its work failed.
                if said.get("exchange") in self._endpoints:
                    async with asyncio.timeout(ANSWER_TIMEOUT_S), self._running(said["exchange"]):
                        pass
                else:
                    answer = await asyncio.wait_for(actor.start.remote(), ANSWER_TIMEOUT_S)
                    if name == SIMULATOR:
                        await self._relocate(answer)
        except (TimeoutError, ray.exceptions.RayError) as error:
            if name not in self._actors:
                return
            before = self._status.get(name, {"at": time.monotonic()})
            self._status[name] = {**before, "answers": False, "failure": str(error) or "does not answer"}
