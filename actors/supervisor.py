"""Supervisor: I turn the settings into running actors and keep them running. I own no data; when I die, I find the
others by name again. Ray restarts a process that died, I start its work again and say in `status` what I saw.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
import structlog

from actors import surveys
from actors.accounts import Accounts
from actors.alerter import Alerter
from actors.alerting.definitions import placed
from actors.backups import Backups
from actors.chronicle import Chronicle
from actors.collecting import Collecting
from actors.collector import Collector
from actors.configuration import Configuration
from actors.contract import code, contract
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
    PUBLISHER,
    REPORTS,
    SIMULATOR,
    SUPERVISOR,
    find_actor,
    node_name,
    placement_now,
    shard_name,
)
from actors.health import components
from actors.kept_notes import NotesBySupervisor
from actors.live_asked import AskedActors
from actors.live_hub import LiveHub
from actors.live_offers import ReceivedOffers
from actors.market_overview import MarketOverview
from actors.market_poller import MarketPoller
from actors.market_watch import WATCHED, Collectors, MarketWatch
from actors.metrics import Metrics
from actors.offers import Offers, WantedOffers
from actors.overview_start import add_overview
from actors.own_process import COLLECTOR, TOLD
from actors.placement import Series
from actors.places import Places, Progress
from actors.published_books import CollectorBooks
from actors.publisher import Publisher
from actors.reports import Reports
from actors.settling import Settling
from actors.sinks import Sinks
from actors.starting import start_actor
from actors.surveys import answer_or_none
from actors.symbol_shard import SymbolShard
from actors.upgrade import Upgrade
from actors.watching import Watching
from config import Settings, SettingsError

WATCH_INTERVAL_S = 0.5
#: How everything is goes to Redis this often.
HEALTH_INTERVAL_S = 2.0
STOP_TIMEOUT_S = 3.0
#: A start that failed is tried again after this time, where nobody else would.
RETRY_S = 5.0
#: Tables of quotes a shard keeps for a market watch that is away: only the newest matter once it is back.
QUOTES_WAITING = 8
STOP_ORDER = (
    ("collector:", "poller:", BACKUPS, ACCOUNTS, MARKET_OVERVIEW, REPORTS),
    ("shard:",),
    (MARKET_WATCH,),
    (DATABASE, PUBLISHER, ALERTER, LIVE_HUB),
    (SIMULATOR,),
)


#: Those whose process goes on with other code.
IN_THEIR_PLACE = (
    *(Accounts, Alerter, Backups, DataNode, Database, LiveHub, MarketOverview, MarketPoller, MarketWatch, Metrics),
    *(Publisher, Reports, SymbolShard),
)
#: Who goes by settings that may change.
CONFIGURED = ("shard:", MARKET_WATCH, DATABASE)


log = structlog.get_logger(__name__)


class Supervisor:
    """Starts and watches everything of one instance."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._configuration = Configuration(settings)
        self._settings = settings = self._configuration.settings
        self._redis_url = redis_url
        self._recorded = settings.replay_folder is not None
        self._actors: dict[str, Any] = {}
        self._exchanges = Collecting(settings, self._actors, self._add, self._note)
        self._watching = Watching(self._actors, self._noticed, self._set_to_work)
        self._places: Places | None = None
        self._chronicle: Chronicle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._collecting = False
        self._upgrade = Upgrade(self._actors, self._exchanges.succeed, self._watching.look)
        self._settling = Settling(self._misplaced, self._go_home)
        #: Of this process, whatever is installed later.
        self._code = code()
        self._made_again = ray.get_runtime_context().was_current_actor_reconstructed
        if self._made_again:
            # Whoever told me to start does not know that I died.
            find_actor(SUPERVISOR).start.remote()

    def __repr__(self) -> str:
        return f"Supervisor({len(self._actors)} actors)"

    async def start(self) -> None:
        """Start everything, or find it running; returns when all actors have answered.

        Raises `CaptureError` when the captures of a replay cannot be read, `SettingsError` when nothing is to collect;
        but once everything has run, it is tried until it works: a disk is full, a host is lost just now.
        """
        while True:
            try:
                return await self._begin()
            except Exception as error:
                if not self._made_again:
                    raise
                log.error("not everything can be found again now", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def _begin(self) -> None:
        settings = self._settings
        await self._exchanges.find()
        endpoints = self._exchanges.endpoints
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

        def make_collector(exchange: str, known_as: str, node: str | None) -> Any:
            given = (exchange, endpoints[exchange], self._settings, [*self._shards], ReceivedOffers(hub))
            notes = NotesBySupervisor(exchange)
            return start_actor(known_as, Collector, *given, notes, gives_way=COLLECTOR, on=node, stays=False)

        if self._places is None:
            known, collectors = self._known_symbols, lambda: self._exchanges.all
            places = Places(settings, start_shard, self._start_node, self._end, collectors, known)
            await places.begin()
            self._places = places
        self._exchanges.begin(make_collector, self._places.introduce, self._places.node_of)
        for provider, poller in (("yahoo", settings.pollers.yahoo), ("polygon", settings.pollers.polygon)):
            if poller.enabled:
                self._add(f"poller:{provider}", MarketPoller, provider, settings, Sinks(ray.put, database, publisher))
        add_overview(self._add, settings, self._redis_url, hub)
        await asyncio.gather(*(actor.status.remote() for actor in self._actors.values()))
        # Who runs already knows the settings of its first start.
        await asyncio.gather(*map(self._tell_settings, self._actors))
        await self._places.go_on()
        await self._exchanges.go_on()
        self._collecting = True
        if self._chronicle is None:
            self._chronicle = Chronicle(database, time.time_ns)
            self._note("system_started", "supervisor", "collecting", source=settings.source, exchanges=list(endpoints))
        await self._look()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_forever())

    async def status(self) -> dict[str, dict[str, Any]]:
        """See `Watching.status`."""
        return self._watching.status()

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """See `Watching.readiness`; nothing is ready before anything is watched."""
        ready, said = self._watching.readiness()
        if self._watch is None:
            return False, {**said, "status": "starting"}
        return ready, said

    async def add_symbols(self, exchange: str, symbols: Sequence[str]) -> dict[str, str]:
        """See `Collecting`, as for all that is asked about exchanges."""
        return await self._exchanges.add_symbols(exchange, symbols)

    async def remove_symbols(self, exchange: str, symbols: Sequence[str]) -> list[str]:
        return await self._exchanges.remove_symbols(exchange, symbols)

    async def symbols(self) -> list[dict[str, Any]]:
        return await self._exchanges.symbols()

    async def backfill(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> int:
        return await self._exchanges.backfill(exchange, symbol, from_ns, to_ns)

    async def backfills(self) -> list[dict[str, Any]]:
        return await self._exchanges.backfills()

    async def backfill_notes(self, exchange: str) -> bytes | None:
        """See `Notes.read`."""
        return await self._exchanges.notes(exchange).read()

    async def write_backfill_notes(self, exchange: str, content: bytes) -> None:
        """See `Notes.write`."""
        self._exchanges.notes(exchange).write(content)

    async def cancel_backfill(self, exchange: str, job: int) -> bool:
        return await self._exchanges.cancel_backfill(exchange, job)

    async def record(self, on: bool, exchanges: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        return await self._exchanges.record(on, exchanges)

    async def journals(self) -> dict[str, dict[str, Any]]:
        return await self._exchanges.journals()

    async def integrity(self) -> list[dict[str, Any]]:
        """See `actors.surveys.integrity`; nothing before anything is collected."""
        if not self._collecting:
            return []
        symbols = {exchange: endpoint.symbols for exchange, endpoint in self._exchanges.endpoints.items()}
        assert self._places is not None
        return await surveys.integrity(self._exchanges.all, self._places.shards, self._places.placement, symbols)

    async def gaps(
        self, exchange: str | None = None, symbol: str | None = None, open_only: bool = True
    ) -> list[dict[str, Any]]:
        """See `actors.surveys.gaps`."""
        return await surveys.gaps(self._shards, exchange, symbol, open_only)

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        """See `actors.surveys.quality`."""
        return await surveys.quality(self._shards, exchange, symbol, hours)

    async def add_alert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make an alert about a collected symbol; see `Alerter.add`, also for what is raised, here and below."""
        collected = {exchange: endpoint.symbols for exchange, endpoint in self._exchanges.endpoints.items()}
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
        """See `Places.progress`; nothing is done while it is not known, or before collectors are where they belong."""
        if self._places is None or not self._collecting:
            return {**asdict(Progress()), "collectors": 0, "done": False}
        said = self._places.progress()
        settling = {"collectors": self._settling.left, "error": said["error"] or self._settling.error}
        return {**said, **settling, "done": said["done"] and self._settling.done}

    async def settings(self) -> Settings:
        """Those that everything goes by."""
        return self._settings

    async def agreed(self) -> tuple[str, dict[str, str]]:
        """The code that this process runs, and what parts of the instance agree on by it; see `actors.contract`."""
        return self._code, contract((Supervisor, *IN_THEIR_PLACE))

    async def upgrade(self) -> dict[str, Any]:
        """Let all actors go on with the code that is installed, see `Upgrade.begin`. `SettingsError` before everything
        runs, and during a backup."""
        if not self._collecting:
            raise SettingsError("the instance is still starting; ask again in a moment")
        if (await self.backup_job()).get("state") == "running":
            raise SettingsError("a backup is under way, which an upgrade would end; look with: rayfeed status")
        self._note("upgrade_begun", "supervisor", "all actors go on with the code that is installed", code=self._code)
        return self._upgrade.begin()

    async def upgrading(self) -> dict[str, Any]:
        """See `Upgrade.progress`."""
        return self._upgrade.progress()

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

    async def stop(self) -> None:
        """Stop in the order of the data: nothing received is left behind. Before it was up, nothing was received."""
        # A start that fails is not tried again.
        self._made_again = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(self._upgrade.end(), self._settling.end())
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
        return self._exchanges.collected.union(*stored)

    def _start_node(self, disk: str, node: str) -> Any:
        return self._add(node_name(disk), DataNode, self._settings, on=node)

    async def _end(self, name: str) -> None:
        """It is not needed any more."""
        actor = self._actors.pop(name)
        self._watching.forget(name)
        if name.startswith("shard:"):
            with suppress(TimeoutError, ray.exceptions.RayError):
                await asyncio.wait_for(actor.stop.remote(), STOP_TIMEOUT_S)
        ray.kill(actor, no_restart=True)

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
            instruments = await answer_or_none(self._exchanges.collector(exchange).instruments.remote())
            if instruments is not None:
                self._chronicle.list_is(exchange, instruments, symbols)

    async def _go_home(self, name: str) -> None:
        await self._exchanges.go_home(name)
        await self._watching.look(name)

    def _misplaced(self) -> list[str]:
        return self._exchanges.misplaced(self._watching.status())

    def _add(self, name: str, actor: type, *arguments: Any, gives_way: int = 0, on: str | None = None) -> Any:
        self._actors[name] = handle = start_actor(name, actor, *arguments, gives_way=gives_way, on=on)
        return handle

    async def _watch_forever(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_health_forever())
            while True:
                await asyncio.sleep(WATCH_INTERVAL_S)
                await self._look()
                if self._places is not None and self._places.progress()["done"] and not self._upgrade.is_under_way:
                    self._settling.look()

    async def _tell_health_forever(self) -> None:
        """However long the publisher is away, it is told once when it is back."""
        while True:
            with suppress(ray.exceptions.RayError):
                await self._actors[PUBLISHER].publish_health.remote(components(await self.status(), time.time_ns()))
            await asyncio.sleep(HEALTH_INTERVAL_S)

    async def _look(self) -> None:
        await asyncio.gather(
            self._watching.look_at_all(),
            *(
                self._tell_symbols(exchange, endpoint.symbols)
                for exchange, endpoint in self._exchanges.endpoints.items()
            ),
        )

    async def _noticed(self, name: str) -> None:
        await self._tell_settings(name)
        if self._upgrade.is_renewing(name):
            self._note("actor_upgraded", name, "goes on with the code that is installed")
        else:
            self._note("actor_restarted", name, "its process had died", severity="warning")

    async def _set_to_work(self, name: str) -> None:
        if (exchange := name.removeprefix("collector:")) in self._exchanges.endpoints:
            await self._exchanges.set_to_work(exchange)
            return
        answer = await self._actors[name].start.remote()
        if name == SIMULATOR:
            await self._exchanges.relocate(answer)
