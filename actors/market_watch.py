"""MarketWatch: I know the best bid and ask of every instrument over all exchanges, and when buying at one exchange and
selling at another pays. Shards offer me their quotes and never wait for me; collectors tell me once a second
which connections live. I own no data: when I die, quotes and collectors tell me everything again, and the episodes of
arbitrage that were open are closed as lost.
"""

import asyncio
import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import ray
import structlog

from actors.aggregation import arbitrage, consolidated
from actors.aggregation.arbitrage import Arbitrage, Rules
from actors.aggregation.consolidated import Consolidated, Reception, View
from actors.directory import Handles, collector_name
from actors.parcels import Parcel, unpacked
from config import Settings
from storage.clickhouse import DatabaseUnavailable
from storage.schema import ARBITRAGE

#: Kinds of rows I look at.
WATCHED: Final = frozenset({"quotes"})
#: Each collector is asked this often how its exchange is received, and has so long to answer: within both together a
#: connection that was lost is known.
ASK_INTERVAL_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 1.0
#: A list of instruments is asked for this often while symbols are not in it.
LIST_INTERVAL_S: Final = 5.0
#: What has changed goes to Redis and ClickHouse this often; to Redis everything, so that it does not expire there.
TELL_INTERVAL_S: Final = 0.25
TELL_ALL_S: Final = 60.0
RETRY_S: Final = 5.0

#: Episodes nobody follows.
_LOST: Final = f"SELECT {', '.join(ARBITRAGE.names)} FROM arbitrage FINAL WHERE closed IS NULL"  # noqa: S608

log = structlog.get_logger(__name__)


class Exchanges(Protocol):
    """What collectors say of their exchanges. Both raise what Ray raises, `ValueError` where there is no collector."""

    async def receptions(self, exchange: str) -> Sequence[Reception]: ...
    async def instruments(self, exchange: str) -> pa.Table | None: ...


class Collectors:
    """The collectors of this instance."""

    def __init__(self) -> None:
        self._collectors = Handles()

    async def receptions(self, exchange: str) -> Sequence[Reception]:
        said: Sequence[Reception] = await self._collectors.ask(collector_name(exchange), "receptions")
        return said

    async def instruments(self, exchange: str) -> pa.Table | None:
        said: pa.Table | None = await self._collectors.ask(collector_name(exchange), "instruments")
        return said


class MarketWatch:
    """An actor: one per instance. With `recorded` the clock is that of what was received last."""

    def __init__(
        self,
        settings: Settings,
        exchanges: Exchanges,
        publisher: Any,
        database: Any,
        recorded: bool,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        own, rules = settings.consolidated, settings.arbitrage
        self._names = [str(name) for name, exchange in settings.exchanges.items() if exchange.enabled]
        self._exchanges = exchanges
        self._publisher = publisher
        self._database = database
        self._recorded = recorded
        self._clock = clock
        self._recorded_ns = 0
        self._book = Consolidated(int(own.max_age_s * 1e9), int(own.silence_s * 1e9))
        fees = {str(exchange): {str(kind): fee for kind, fee in of.items()} for exchange, of in rules.fees.items()}
        limits = (rules.min_spread, rules.min_profit)
        self._arbitrage = Arbitrage(Rules(fees, *limits, rules.same), rules.keep)
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._states: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        consolidated.warm_up()
        arbitrage.warm_up()

    def __repr__(self) -> str:
        return f"MarketWatch({len(self._book.instruments)} instruments, {self._arbitrage.open} open episodes)"

    async def start(self) -> None:
        """Begin to ask the collectors and to tell what changes; does nothing when it runs already."""
        if not self._runs:
            self._failure = ""
            self._task = asyncio.create_task(self._run())

    async def take(self, parcel: Parcel, missed: int = 0) -> None:
        """Quotes of exchanges (`storage.schema.QUOTES`); `missed`: parcels that the sender could not give me since the
        last one."""
        self._counts["missed"] += missed
        for _, exchange, quotes in unpacked(parcel, lambda key: key[0] in WATCHED):
            self._counts["quotes"] += quotes.num_rows
            if self._recorded and quotes.num_rows:
                self._recorded_ns = max(self._recorded_ns, int(np.max(quotes.column("ts_recv").to_numpy())))
            self._book.take(exchange, quotes)
        self._look()

    async def configure(self, settings: Settings) -> None:
        """Go by these limits of arbitrage from now on."""
        self._arbitrage.limit(settings.arbitrage.min_spread, settings.arbitrage.min_profit)

    async def best(self) -> pa.RecordBatch:
        """`storage.schema.CONSOLIDATED` of all instruments as of now, by name."""
        return self._book.best(self._look())

    async def episodes(self) -> pa.RecordBatch:
        """`storage.schema.ARBITRAGE`: open ones, the most profitable first, then the newest of those that are over."""
        self._look()
        return self._arbitrage.episodes(self._book)

    async def status(self) -> dict[str, Any]:
        """`states` says how each exchange is received, `left_out` how many quotes do not count, by reason; `missed` is
        how many parcels of quotes were dropped on their way here, `beyond` how many opportunities there was no room
        for, `unsaid` how many changes of episodes were never stored."""
        view = self._look()
        left_out = np.bincount(view.left_out, minlength=len(consolidated.LEFT_OUT)).tolist()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "running": self._runs,
            "failure": self._failure,
            "states": dict(self._states),
            "instruments": len(self._book.instruments),
            "left_out": dict(zip(consolidated.LEFT_OUT[1:], left_out[1:], strict=True)),
            "unlisted": {name: len(found) for name in self._names if (found := self._book.unlisted(name))},
            "episodes_open": self._arbitrage.open,
            "episodes": self._arbitrage.opened,
            "beyond": self._arbitrage.beyond,
            "unsaid": self._arbitrage.unsaid,
            "missed": self._counts["missed"],
            "quotes": self._counts["quotes"],
        }

    async def stop(self) -> None:
        """Close the open episodes and hand them on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._arbitrage.stop(self._now_ns())
        await self._store()

    @property
    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for exchange in self._names:
                    tasks.create_task(self._follow(exchange))
                tasks.create_task(self._publish_forever())
                tasks.create_task(self._store_forever())
        except* Exception as failures:  # noqa: BLE001 - nobody waits for this task; the supervisor reads the status
            self._failure = "; ".join(repr(failure) for failure in failures.exceptions)
            log.error("the market watch failed", error=self._failure)

    async def _follow(self, exchange: str) -> None:
        """Keep up with how an exchange is received and what it lists."""
        listed_at = -math.inf
        while True:
            # One question at a time, however long the collector is away.
            asked = asyncio.ensure_future(self._exchanges.receptions(exchange))
            try:
                while not (await asyncio.wait({asked}, timeout=ANSWER_TIMEOUT_S))[0]:
                    self._lose(exchange, "its collector does not answer")
                receptions = asked.result()
            except ValueError:
                self._lose(exchange, "it has no collector")
            except ray.exceptions.RayError as error:
                self._lose(exchange, f"its collector fails: {str(error).partition('\n')[0][:200]}")
            else:
                self._receive(exchange, receptions)
                if time.monotonic() - listed_at >= LIST_INTERVAL_S and self._book.unlisted(exchange):
                    listed_at = time.monotonic()
                    await self._read_list(exchange)
            finally:
                asked.cancel()
            await asyncio.sleep(ASK_INTERVAL_S)

    async def _read_list(self, exchange: str) -> None:
        instruments = None
        # It may have ended since it said how it receives.
        with contextlib.suppress(TimeoutError, ValueError, ray.exceptions.RayError):
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                instruments = await self._exchanges.instruments(exchange)
        if instruments is not None:
            self._book.list_is(exchange, instruments)
            self._look()

    def _lose(self, exchange: str, why: str) -> None:
        self._states[exchange] = why
        self._book.lost(exchange)
        self._look()

    def _receive(self, exchange: str, receptions: Sequence[Reception]) -> None:
        self._book.received(exchange, receptions)
        self._states[exchange] = ", ".join(sorted({one.state for one in receptions})) or "not connected"
        if self._recorded:
            self._recorded_ns = max([self._recorded_ns, *(one.heard_ns for one in receptions)])
        self._look()

    def _look(self) -> View:
        view = self._book.look(self._now_ns())
        self._arbitrage.follow(self._book, view)
        return view

    async def _publish_forever(self) -> None:
        told: dict[str, Any] = {}
        all_due = 0.0
        while True:
            await asyncio.sleep(TELL_INTERVAL_S)
            now_ns = self._now_ns()
            best = self._book.best(self._look())
            if time.monotonic() >= all_due:
                told, all_due = {}, time.monotonic() + TELL_ALL_S
            rows = {row["instrument"]: row for row in best.drop_columns(["quotes"]).to_pylist()}
            changed = [place for place, (name, row) in enumerate(rows.items()) if told.get(name) != row]
            if changed:
                try:
                    await self._publisher.publish_best.remote(best.take(pa.array(changed)), now_ns)
                    told = rows
                except ray.exceptions.RayError as error:
                    log.warning("the publisher does not take the best quotes", error=str(error))

    async def _store_forever(self) -> None:
        # What opened in this process comes after those that are lost, or it would seem one of them.
        closed = False
        while True:
            closed = closed or await self._close_lost()
            stored = closed and await self._store()
            await asyncio.sleep(TELL_INTERVAL_S if stored else RETRY_S)

    async def _store(self) -> bool:
        """Whether the database has all that changed."""
        changed = self._arbitrage.changed(self._book)
        if changed.num_rows and not await self._insert(pa.Table.from_batches([changed])):
            self._arbitrage.untold()
            return False
        return True

    async def _close_lost(self) -> bool:
        """Close the episodes that were open when I died, at the last time something is known of them; False when the
        database cannot say which these are, or does not take them."""
        try:
            lost: pa.Table = await self._database.query.remote(_LOST)
        except (DatabaseUnavailable, ray.exceptions.RayError):
            return False
        rows = [
            {**row, "closed": row["peak"], "ended": "lost", "revision": row["revision"] + 1} for row in lost.to_pylist()
        ]
        return not rows or await self._insert(pa.Table.from_pylist(rows, schema=ARBITRAGE))

    async def _insert(self, rows: pa.Table) -> bool:
        """Whether the database took them."""
        try:
            await self._database.insert.remote("arbitrage", None, rows)
        except ray.exceptions.RayError as error:
            log.warning("the database does not take episodes", rows=rows.num_rows, error=str(error))
            return False
        return True

    def _now_ns(self) -> int:
        return self._recorded_ns if self._recorded else self._clock()
