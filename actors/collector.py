"""Collector: I own the connections to one exchange. Frames become Arrow batches every few milliseconds and go to the
shards of their symbols; a batch is mine until its shard acknowledged it, and while too many are not I stop reading
the sockets. I survive lost connections (back-off, resubscribe, new books) and say what was missed meanwhile, which I
fetch over REST once the shards tell me it is missing; when I fail, the supervisor starts me again.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors import kernels
from actors.aggregation.consolidated import Reception
from actors.backfill.backfill import Backfill
from actors.backfill.records import Notes, NotesInFile
from actors.coverage import ANOTHER, Break, Coverage, breaks_batch
from actors.delivery import KINDS, Delivery
from actors.directory import Succeeded
from actors.endpoint import Endpoint
from actors.exchange_connection import ExchangeConnection, Shared
from actors.feeds.feed import Credentials, Decoded, Proof, RejectedFrame
from actors.feeds.history import TradeHistory
from actors.feeds.registry import FEEDS, HISTORIES
from actors.instrument_list import InstrumentList
from actors.live_offers import ReceivedOffers
from actors.metering.meters import LAG
from actors.nodes import where_it_is
from actors.placement import Placement
from actors.recorder import Recorder
from actors.request_budget import RequestBudget
from actors.rest_client import RestClient
from actors.roster import Roster, answered
from actors.routes import Routes
from config import Settings, SettingsError
from config.node_folder import on_this_node

#: Different reasons counted apart; further ones share a name.
MAX_REASONS: Final = 50
#: Of a frame that cannot be used no more than this is kept.
KEPT_BYTES: Final = 16 * 1024
#: Without frames it is looked this often whether something is due.
IDLE_S: Final = 0.05
#: The list is not waited for longer than this before connecting: the exchange itself refuses what it does not know.
LIST_TIMEOUT_S: Final = 10.0
#: A changed subscription that has no answer within this time is reported as such.
CHANGE_TIMEOUT_S: Final = 5.0


class Collector:
    """Collects the symbols of `exchange` from `endpoint` into `shards`: handles of `SymbolShard`, over which symbols
    are spread until `place` says otherwise. `live` is offered what was received, whatever becomes of it."""

    def __init__(
        self,
        exchange: str,
        endpoint: Endpoint,
        settings: Settings,
        shards: Sequence[Any],
        live: ReceivedOffers | None = None,
        notes: Notes | None = None,
    ) -> None:
        self.exchange = exchange
        self._live = live
        self._endpoint = endpoint
        self._settings = settings
        self._feed = FEEDS[exchange]
        self._roster = Roster(self._feed, endpoint.symbols, self._connect)
        self._routes = Routes(exchange, shards)
        self._delivery = Delivery(
            exchange,
            self._routes,
            settings.collector,
            time.time_ns(),
            self._hold_when_full,
            lambda shard, gaps: self._backfill.acknowledged(shard, gaps),
            self._fail,
        )
        self._backfill = Backfill(
            exchange,
            self._routes,
            self._history,
            notes or NotesInFile(settings.data / "backfill" / f"{exchange}.json"),
            self._delivery.deliver,
            self._compared,
            lambda: int((self._lag_ms or 0.0) * 1e6),
        )
        self._coverage = Coverage()
        self._shared: Shared | None = None
        self._connecting: asyncio.TaskGroup | None = None
        self._names = 0
        #: Nobody else collects this; or somebody else does, from now on.
        self._alone = asyncio.Event()
        self._alone.set()
        self._retired = False
        #: Frames wait to be flushed.
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._counts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._quarantine: deque[RejectedFrame] = deque(maxlen=settings.collector.quarantine)
        self._errors: deque[str] = deque(maxlen=20)
        self._lag_ms: float | None = None
        segment_bytes = settings.collector.journal_segment_bytes
        kernels.warm_up()
        self._recorder = Recorder(on_this_node(settings).journals, exchange, segment_bytes, settings.journal)
        self._list = InstrumentList(self._feed, settings.collector, self._recorder, self._say, self._roster)

    def __repr__(self) -> str:
        return f"Collector({self.exchange}, {len(self._roster.wanted)} symbols, {self._state()})"

    async def start(self) -> None:
        """Begin collecting; does nothing when it runs already."""
        if self._runs:
            return
        await self._backfill.read()
        # Somebody else may have started it meanwhile.
        if not self._runs:
            self._failure = ""
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leave the exchange, decode what was received and wait until the shards have it."""
        await self._end_task()
        await self._delivery.finish()
        await self._backfill.finish()
        self._recorder.close()

    async def received(self) -> Mapping[str, int]:
        """Symbols that are received, and since when (ns) without a break."""
        return dict(self._coverage.received)

    async def begin_beside(self, received: Mapping[str, int]) -> None:
        """Begin to collect while another process, which has `received` its symbols since then, still does: what comes
        is kept until `take_over`."""
        self._alone.clear()
        self._coverage.before(received)
        await self._delivery.hold(self._roster.wanted)
        await self.start()

    async def retire(self) -> Mapping[str, int]:
        """As `stop`, for another process that takes over; until when (ns) each symbol was received. Who asks for
        books or how they are received is told `Succeeded` from now on."""
        self._retired = True
        await self.stop()
        lost = {symbol: self._coverage.lost(symbol) for symbol in self._roster.wanted}
        # What a shard that is away has not taken ends with this process.
        taken_ns = self._delivery.handed_on_ns
        return {symbol: min(until[0], taken_ns) for symbol, until in lost.items() if until is not None}

    async def take_over(self, heard: Mapping[str, int]) -> None:
        """Who was there before has received these symbols until then (ns), and the shards have all of it; `place`
        follows, which lets go what was kept."""
        if self._alone.is_set():
            return
        self._alone.set()
        for symbol in self._roster.wanted:
            left = self._coverage.ended(ANOTHER, heard.get(symbol, 0), "the collector was replaced", [symbol])
            self._broke(left, time.time_ns())

    async def relocate(self, endpoint: Endpoint) -> None:
        """The exchange is elsewhere, or has other symbols, than we were told: collect from there."""
        if endpoint != replace(self._endpoint, symbols=self._roster.wanted):
            await self._end_task()
            self._endpoint = endpoint
            self._roster = Roster(self._feed, endpoint.symbols, self._connect)
            self._list.belongs_to(self._roster)
        await self.start()

    async def hold(self, symbols: Sequence[str]) -> None:
        """See `Delivery.hold`: these are about to move to another shard."""
        await self._delivery.hold(symbols)

    async def place(self, shards: Mapping[int, Any], placement: Placement) -> None:
        """Symbols go to these shards, by their numbers, as the placement says; nothing is held any longer."""
        if placement.version >= self._routes.placement.version:
            self._delivery.place(shards, placement)

    async def add(self, symbols: Sequence[str]) -> dict[str, str]:
        """Collect further symbols, without a new connection where there is room on one. Says for each why it is not
        collected; "" where it is."""
        if self._runs and self._list.may_lack(symbols):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._list.read(symbols), CHANGE_TIMEOUT_S / 2)
        self._roster.add(symbols)
        return await answered(self._roster, symbols, CHANGE_TIMEOUT_S)

    async def remove(self, symbols: Sequence[str]) -> list[str]:
        """Stop collecting these symbols; returns those that were collected."""
        removed = self._roster.remove(symbols)
        self._coverage.forget(removed)
        return removed

    async def symbols(self) -> list[dict[str, Any]]:
        """Where each symbol stands: see `Roster.rows`; and since when (ns) it is `received` without a break, or
        `lost`, and `lost_why`."""
        received = self._coverage.received
        rows = []
        for row in self._roster.rows():
            lost_ns, why = self._coverage.lost(row["symbol"]) or (None, "")
            since = {"received": received.get(row["symbol"]), "lost": lost_ns, "lost_why": why}
            rows.append(row | since)
        return rows

    async def book(self, symbols: Sequence[str] | None = None, levels: int | None = 25) -> list[pa.RecordBatch]:
        """The best levels of books (all levels for None) as `storage.schema.DEPTH`, one batch per connection; only
        rows whose state is `synced` hold levels."""
        self._check_in_office()
        wanted = None if symbols is None else set(symbols)
        mine = [
            (connection, [symbol for symbol in connection.symbols if wanted is None or symbol in wanted])
            for connection in self._roster.connections
        ]
        return [connection.books.depth(names, levels) for connection, names in mine if names]

    async def backfill(self, symbol: str, from_ns: int, to_ns: int) -> int:
        """Fetch past trades of a symbol (both ends included) over REST, also after a restart; the number of the job.
        `SettingsError`, in one line, when that cannot be."""
        if self._settings.replay_folder is not None:
            raise SettingsError("a replay has no past trades but its own")
        if malformed := self._roster.malformed(symbol):
            raise SettingsError(malformed)
        try:
            return await self._backfill.begin(symbol, from_ns, to_ns)
        except ValueError as error:
            raise SettingsError(str(error)) from None

    async def backfills(self) -> list[dict[str, Any]]:
        """The jobs begun with `backfill`, oldest first; see `actors.backfill.records.Job`."""
        return self._backfill.jobs()

    async def cancel_backfill(self, job: int) -> bool:
        """End a job; False when it does not run."""
        return self._backfill.cancel(job)

    async def receptions(self) -> list[Reception]:
        """How the symbols of each connection are received now; nothing is when it does not run."""
        self._check_in_office()
        handed_on_ns = self._delivery.handed_on_ns
        return [connection.reception(handed_on_ns) for connection in self._roster.connections]

    async def instruments(self) -> pa.Table | None:
        """What the exchange lists (`storage.schema.INSTRUMENTS`); None while that is unknown."""
        return self._list.table

    async def record(self, on: bool) -> dict[str, Any]:
        """Write every frame to the journal from now on, or no longer; the setting `journal` holds in any case."""
        wanted = on or self._settings.journal
        if wanted and not self._recorder.on:
            # What is connected already began without a journal: others take over, so that it holds the whole story,
            # subscriptions and book snapshots too.
            self._roster.renew("a journal begins")
            self._list.is_due()
        self._recorder.switch(wanted)
        return self._recorder.status()

    async def journal(self) -> dict[str, Any]:
        """What the journal has taken; see `Recorder.status`."""
        return self._recorder.status()

    async def quarantine(self) -> list[RejectedFrame]:
        """The newest frames that could not be used, with the reason."""
        return list(self._quarantine)

    async def status(self) -> dict[str, Any]:
        now = time.monotonic()
        connections = self._roster.connections
        lives = [connection.life for connection in connections]
        waiting = [connection.waiting for connection in connections]
        counts = [connection.books.counts() for connection in connections]
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            **where_it_is(),
            "exchange": self.exchange,
            "running": self._runs,
            "failure": self._failure,
            "state": self._state(),
            # What can be had comes.
            "complete": all(one.complete or one.had_time for one in connections) and bool(connections),
            "connections": len(connections),
            "names": [connection.name for connection in connections],
            "connects": sum(life.connects for life in lives),
            "last_error": next((life.last_error for life in lives if life.last_error), ""),
            # Of the connection that is worst off: heartbeats prove the socket, not the data.
            "heard_s": round(max((now - life.last_heard for life in lives if life.connects), default=0.0), 3),
            "data_s": round(max((now - life.last_data for life in lives if life.connects), default=0.0), 3),
            "symbols": len(self._roster.wanted),
            "subscribed": sorted(self._roster.granted),
            "refused": self._roster.refused,
            "unanswered": sorted(symbol for life in lives for symbol in life.unanswered),
            "book_states": dict(sum((states for states, _ in counts), Counter())),
            "book_gaps": sum(gaps for _, gaps in counts),
            "lag_ms": self._lag_ms,
            "frames_waiting": sum(frames for frames, _ in waiting),
            "bytes_waiting": sum(size for _, size in waiting),
            "batches_in_flight": len(self._delivery),
            "rejected": dict(self._rejected),
            "errors": list(self._errors),
            "journal": self._recorder.on,
            **self._backfill.status(),
            **{name: self._counts[name] for name in ("frames", *KINDS, "books", "ignored", "breaks")},
        }

    @property
    def _proof(self) -> Proof:
        return self._feed((), self._endpoint.websocket).proof

    def _history(self) -> TradeHistory | None:
        """Where past trades come from that can be compared with live ones."""
        return None if self._proof == "none" else HISTORIES[self.exchange]

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        limits, own = self._feed.limits, self._settings.exchange(self.exchange)
        self._delivery.proof = self._proof
        credentials = Credentials(own.credentials.key, own.credentials.secret) if own.credentials else None
        try:
            async with RestClient(self._endpoint.rest, RequestBudget(limits.rest_weight_per_minute)) as rest:
                self._shared = Shared(
                    self.exchange,
                    self._endpoint.websocket,
                    self._settings.collector,
                    frozenset(own.channels),
                    credentials,
                    self._settings.replay_folder is not None,
                    rest,
                    RequestBudget(limits.connects_per_minute),
                    self._deliver,
                    self._arrived.set,
                    lambda: len(self._roster.connections),
                    self._recorder,
                    self._coverage,
                    self._broke,
                )
                async with asyncio.TaskGroup() as self._connecting:
                    listed = asyncio.Event()
                    self._connecting.create_task(self._list.follow(rest, self._shared.recorded, listed))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(listed.wait(), LIST_TIMEOUT_S)
                    # What is lost with a process is everything since the last trade a shard stored.
                    self._coverage.unknown(self._roster.wanted, "the collector was started")
                    self._roster.place_all()
                    self._connecting.create_task(self._flush_forever())
                    if not self._shared.recorded:
                        self._connecting.create_task(self._backfill_alone(rest))
        except* Exception as failures:
            self._failure = "; ".join(repr(failure) for failure in failures.exceptions)
            # What was being read is lost, and with it the knowledge of what was received.
            self._coverage.forget_all()
            raise
        finally:
            self._roster.leave("the collector stops")

    async def _backfill_alone(self, rest: RestClient) -> None:
        # Two would do the same work, and write the same file.
        await self._alone.wait()
        await self._backfill.run(rest)

    def _connect(self, symbols: Sequence[str]) -> ExchangeConnection:
        assert self._shared is not None and self._connecting is not None
        self._names += 1
        connection = ExchangeConnection(f"ws-{self._names}", self._shared, dict.fromkeys(symbols))
        connection.task = self._connecting.create_task(connection.run())
        connection.hold(self._delivery.full)
        return connection

    async def _flush_forever(self) -> None:
        """Flush as soon as something comes, and what comes during the interval after that together."""
        interval = self._settings.collector.flush_interval_ms / 1000
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), IDLE_S)
            self._arrived.clear()
            self._roster.flush()
            self._recorder.flush()
            await asyncio.sleep(interval)

    def _deliver(self, decoded: Decoded, frames: int, clock_ns: int) -> None:
        self._count(decoded, frames)
        self._delivery.send(decoded, clock_ns)
        if self._live is not None:
            self._live.received(self.exchange, decoded)

    def _broke(self, breaks: Sequence[Break], clock_ns: int) -> None:
        if "trades" in self._settings.exchange(self.exchange).channels:
            self._counts["breaks"] += len(breaks)
            self._delivery.put({"breaks": breaks_batch(breaks)}, clock_ns)

    def _compared(self) -> dict[str, int]:
        """Symbols whose trades want a second look, and since when they are received, on the exchange's clock."""
        if self._delivery.proof != "recent":
            return {}
        lag_ns = int((self._lag_ms or 0.0) * 1e6)
        return {symbol: since - lag_ns for symbol, since in self._coverage.received.items()}

    def _count(self, decoded: Decoded, frames: int) -> None:
        self._counts["frames"] += frames
        self._counts["ignored"] += decoded.ignored
        for name in (*KINDS, "books"):
            self._counts[name] += getattr(decoded, name).num_rows
        for refusal in decoded.refused:
            self._say(refusal.reason)
        for rejected in decoded.rejected:
            self._quarantine.append(replace(rejected, frame=rejected.frame[:KEPT_BYTES]))
            known = rejected.reason in self._rejected or len(self._rejected) < MAX_REASONS
            self._rejected[rejected.reason if known else "other"] += 1
        # Of trades, as not every feed gives its quotes a time. Below zero where the exchange's clock is ahead.
        if decoded.trades.num_rows:
            lags = np.subtract(decoded.trades["ts_recv"], decoded.trades["ts_event"])
            self._lag_ms = float(lags[-1]) / 1e6
            LAG.observe_ns(lags, "exchange_to_socket", self.exchange)

    def _check_in_office(self) -> None:
        if self._retired:
            raise Succeeded(f"another process collects from {self.exchange}")

    def _say(self, error: str) -> None:
        """Keep an error, once, among the newest."""
        if error in self._errors:
            self._errors.remove(error)
        self._errors.append(error)

    def _hold_when_full(self) -> None:
        self._roster.hold(self._delivery.full)

    def _fail(self, reason: str) -> None:
        self._failure = reason
        # What it held is lost, and with it the knowledge of what was received.
        self._coverage.forget_all()
        if self._task is not None:
            self._task.cancel()

    async def _end_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _state(self) -> str:
        """That of the connection that is worst off; `refused` when there is nothing to connect for."""
        states = [connection.life.state for connection in self._roster.connections]
        order = ("waiting", "connecting", "maintenance", "open", "streaming")
        return min(states, key=order.index, default="refused" if self._roster.refused else "connecting")
