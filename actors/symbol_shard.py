"""SymbolShard: I own the column files and bars of the symbols that the placement gives me; nobody else writes them. A
batch is acknowledged after it is in the files, and rows I have already are dropped, so whatever is sent again counts
once. My ledger says what is missing. After a crash I read my bars back from the files, and hold the ledger to them. A
full disk stops my acknowledgements, never my files' integrity; slow or dead sinks (ClickHouse, Redis) cost me nothing.
Who was cut off and comes back asks for the placement before it writes, and finds what others have by now.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import structlog

from actors.archived_days import ArchivedDays
from actors.day_keeper import DayKeeper
from actors.durability import Durability
from actors.handover import Bundle
from actors.holdings import Holdings
from actors.intake import Intake
from actors.ledger.ledger import gap_batch
from actors.ledger.origin import Origin
from actors.ledger.sequences import Sequences
from actors.metering import closed_bars
from actors.metering.meters import DISKS, LAG, Durations
from actors.nodes import where_it_is
from actors.parcels import Sink, Stream, batches_of
from actors.placement import Placement, Series
from actors.reconciler import Reconciler
from actors.stored_bars import STORED, stored_trades, whole
from actors.stored_features import StoredFeatures
from actors.telling import Telling
from actors.tracing import tracing
from config import Settings
from config.node_folder import on_this_node
from storage.claim import Claim
from storage.column_layout import quotes_of_columns
from storage.column_reader import BeingRewritten
from storage.ledger_log import Gap
from storage.schema import COLUMNS

#: To write to a file lets other threads run, a commit does that a thousand times, and one that computes features keeps
#: the interpreter for as long as this each time.
SWITCH_S = 0.0002
#: Bars of a recorded clock, which may go faster, are looked at this often.
CLOSE_INTERVAL_S = 0.02
#: To wake up before a bar is over would be in vain.
_SURELY_OVER_S = 0.001
_SECOND_NS = 1_000_000_000
#: The ledger's log is looked at this often.
COMPACT_INTERVAL_S = 10.0
#: Open bars go to the sinks this often, and when the shard stops.
OPEN_INTERVAL_S = 5.0
#: Days that are over are looked for this often, to keep their bars.
HISTORY_INTERVAL_S = 600.0
#: What ClickHouse lacks is told this often.
RECONCILE_INTERVAL_S = 5.0
#: A failed append (no space) is tried again this often.
RETRY_S = 1.0

_QUOTE = [column for column in COLUMNS["MD"] if column not in ("price", "volume", "best_bid", "best_ask")]

log = structlog.get_logger(__name__)

_STEPS = Durations("rayfeed_step_duration_seconds")

COUNTED = ("TRADES", "MD", "derivatives", "liquidations", "duplicates", "bars", "indicators", "features", "unsunk")


@dataclass(frozen=True, slots=True)
class _Pending:
    exchange: str
    origin: Origin
    batches: Mapping[str, pa.RecordBatch]
    written: asyncio.Future[int]
    came_at: float


class SymbolShard:
    """Shard `index`, with the symbols that the placement gives it that `placed` gives; without that, as one of
    `settings.shards` that are all there are.

    `share` puts a table where other actors can read it without a copy and gives what to send them; `sink` takes tables
    of kinds trades, quotes, derivatives, liquidations, bars, indicators, features, gaps and quality by their exchange.
    With `recorded` the clock is the replayed one.
    """

    def __init__(
        self,
        index: int,
        settings: Settings,
        share: Callable[[pa.Table], Any],
        sink: Sink,
        recorded: bool,
        placed: Callable[[], Placement] | None = None,
    ) -> None:
        sys.setswitchinterval(SWITCH_S)
        settings = on_this_node(settings)
        self.index = index
        self._settings = settings
        self._share = share
        self._recorded = recorded
        DISKS.add(settings.data)
        name = f"shard-{index}"
        self._claim = Claim(settings.data / "claims", name)
        archived = ArchivedDays(settings)
        self._held = Holdings(index, name, settings, archived, placed, time.time_ns, self._gone)
        self._reader, self._writer, self._bars = self._held.reader, self._held.writer, self._held.bars
        self._keeper, self._quality = self._held.keeper, self._held.quality
        self._ledger = self._keeper.ledger
        self._clock_ns: dict[str, int] = {}
        self._sequences: dict[str, Sequences] = {}
        self._pending: list[_Pending] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._telling = Telling(sink, settings.sinks.max_pending, self._untold)
        self._counts: Counter[str] = Counter()
        self._intake = Intake(self._held, self._telling, self._counts)
        self._open_due = 0.0
        self._blocked = ""
        #: By the step that failed when it was last taken, why.
        self._failures: dict[str, str] = {}
        self._durability = Durability(self._writer, (settings.columns, settings.data / "ledger"))
        self._days = DayKeeper(settings, self._writer, self._durability, archived, self._keeper.let_go)
        for exchange, symbol in self._held.stored():
            if (untold := self._bars.untold_trades(exchange, symbol)).num_rows:
                self._telling.add("trades", exchange, untold)
        self._features = StoredFeatures(self._reader, self._bars)
        #: Series whose newest bar has closed or changed since their features were told.
        self._featureless: set[tuple[str, str, str]] = set()
        self._reconciler = Reconciler(settings, name, self._held.stored, sink, recorded)

    def __repr__(self) -> str:
        symbols = sum(map(len, self._bars.symbols.values()))
        return f"SymbolShard({self.index}, {symbols} symbols)"

    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        """Take packed batches by kind; returns when their rows are in the files (the acknowledgement), and how many
        gaps of this exchange are open here.

        Kinds are trades, quotes, derivatives and liquidations; history (trades from before a subscription, stored
        where they fill a gap) and backfill (trades asked for, stored unless they are); merged (MERGED, about the
        trades beside it, or about the backfill where there is one) and breaks (BREAKS). A batch whose origin came
        before is dropped. `NotMine` for rows of a symbol that another shard has: nothing is stored then.
        """
        await self.start()
        self._clock_ns[exchange] = max(clock_ns, self._clock_ns.get(exchange, 0))
        batches = batches_of(streams)
        self._held.check(exchange, batches, origin.placement)
        if not self._sequences.setdefault(exchange, Sequences()).take(origin.epoch, origin.sequence):
            # What came before may still be on its way into the files.
            batches = {}
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if not self._recorded:
            LAG.observe((time.time_ns() - clock_ns) * 1e-9, "socket_to_shard", exchange)
        self._pending.append(_Pending(exchange, origin, batches, written, time.monotonic()))
        return await written

    async def start(self) -> None:
        """Begin the timers; does nothing when they run already."""
        if self._tasks:
            return
        settings = self._settings.shard
        steps: list[tuple[float | Callable[[], float], Callable[[], Awaitable[None]]]] = [
            (settings.commit_interval_ms / 1000, self._commit),
            (settings.share_interval_ms / 1000, self._share_new),
            (settings.share_interval_ms / 1000, self._make_features),
            (self._until_bars_close, self._close_bars),
            (HISTORY_INTERVAL_S, self._keep_history),
            (HISTORY_INTERVAL_S, self._keep_days),
            (COMPACT_INTERVAL_S, self._compact),
            (RECONCILE_INTERVAL_S, self._reconcile),
        ]
        if settings.sync_interval_s:
            steps.append((settings.sync_interval_s, self._sync))
        self._tasks = [asyncio.create_task(self._every(*step)) for step in steps]

    async def stop(self) -> None:
        """Write and share what is pending, wait for the sinks, close the files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._commit()
        await self._close_bars()
        await self._share_new(last=True)
        await self._make_features()
        await self._share_new()
        await self._telling.finish()
        self._writer.flush()
        self._writer.close()
        await self._keep_history()
        self._quality.close()
        await self._keeper.close()
        self._held.close()
        self._claim.release()

    async def release(self, symbols: Sequence[Series]) -> Bundle:
        """Let go of symbols that are about to move: everything that came of them is in the files, which the disk holds,
        and told. Asked again it says the same. Nothing may come of them meanwhile. OSError."""
        self._held.release(symbols)
        await self._commit()
        if any(exchange == pending.exchange for exchange, _ in symbols for pending in self._pending):
            raise OSError(self._blocked)
        await self._close_bars()
        await self._share_new(last=True)
        await self._make_features()
        await self._share_new()
        await self._durability.sync()
        return self._held.handed_over(symbols)

    async def fetch(self, symbols: Sequence[Series], node: Any, last: bool) -> int:
        """Let the files of symbols that are about to come arrive from the disk of `node` (a `DataNode`), those that
        have not yet; how many bytes that took. The `last` time nobody writes to them any more. OSError, and what Ray
        raises."""
        return await self._held.fetch(symbols, node, last)

    async def prepare(self, bundle: Bundle) -> None:
        """Keep what another shard knew of symbols that are about to come; `adopt` or `forget` follows. OSError."""
        self._keeper.keep(bundle.records)

    async def adopt(self, bundle: Bundle, placement: Placement) -> None:
        """These symbols are mine, as this placement says; asked again it does nothing. `NotMine`; OSError."""
        self._held.adopt(bundle, placement)

    async def place(self, placement: Placement) -> None:
        """Symbols are as this placement says."""
        self._held.learn(placement)

    async def stored(self) -> list[Series]:
        """My symbols that have files."""
        return self._held.stored()

    async def forget(self, symbols: Sequence[Series], placement: Placement) -> None:
        """Others have these for good, as this placement says."""
        self._held.forget(symbols, placement)

    async def configure(self, settings: Settings) -> None:
        """Go by these limits of quality and timeframes of features from now on."""
        self._settings = on_this_node(settings)
        self._quality.judge_by(settings.quality)

    async def gaps(self, exchange: str | None, open_only: bool = True) -> list[Gap]:
        """The gaps of my symbols (of one exchange), oldest first; of the closed ones the newest."""
        return self._ledger.gaps(exchange, open_only)

    async def attempted(self, exchange: str, symbol: str, gap_id: int, covered: bool, note: str, now_ns: int) -> None:
        """A backfill of a gap has ended. `covered`: the exchange has shown everything it has of it, which closes a
        window, with `note` as evidence; ids close by themselves. Otherwise the gap stays open with the note. Does
        nothing for a gap that is not open."""
        self._keeper.attempted(exchange, symbol, gap_id, covered, note, now_ns)

    async def integrity(self, exchange: str | None) -> list[dict[str, Any]]:
        """Per symbol: exchange, symbol, proof, state (synced or gapped) since (ns) and why; first_id and last_id of
        the promise (null where ids prove nothing), trades stored in it, merged (ids that are stored as part of
        another trade), missing (ids; null likewise), doubled (live trades dropped because they are stored), gaps_open,
        gaps_closed, and earlier (rows from before the promise)."""
        return self._ledger.integrity(exchange)

    async def bars(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """See `StoredBars.newest`."""
        return await self._bars.newest(exchange, symbol, timeframe, limit)

    async def newest_bars(self, series: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], pa.RecordBatch]:
        """By exchange, symbol and timeframe its newest bar, which may be open; without rows where there is none."""
        return {one: await self._bars.newest(*one, 1) for one in series}

    async def indicators(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """See `StoredBars.newest_indicators`."""
        return self._bars.newest_indicators(exchange, symbol, timeframe, limit)

    async def features(self, exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        """See `StoredFeatures.newest`."""
        return await self._features.newest(exchange, symbol, timeframe, limit)

    async def features_between(
        self, exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int
    ) -> pa.RecordBatch:
        """See `StoredFeatures.between`."""
        return await self._features.between(exchange, symbol, timeframe, from_ns, before_ns)

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        """See `StoredQuality.reports`."""
        return self._quality.reports(exchange, symbol, hours, self._now_ns, self._ledger.integrity(exchange))

    async def quarantine(self, exchange: str, symbol: str) -> pa.RecordBatch:
        """The newest trades of a symbol that failed a check, oldest first (`storage.schema.QUARANTINE`)."""
        return self._quality.quarantine(exchange, symbol)

    async def clear_quarantine(self, exchange: str, symbol: str) -> int:
        """Let go of them; how many there were."""
        return self._quality.clear_quarantine(exchange, symbol)

    async def last_trades(self, exchange: str, symbol: str, rows: int) -> list[Any]:
        """The newest trades of a symbol as a table in the object store: one reference, read without a copy."""
        newest = self._reader.last_rows(exchange, symbol, "TRADES", rows, STORED)
        return [self._share(stored_trades(symbol, newest))]

    async def last_quote(self, exchange: str, symbol: str) -> pa.RecordBatch:
        """The newest quote of a symbol that is stored (`storage.schema.QUOTES`); no row where there is none."""
        newest = self._reader.last_rows(exchange, symbol, "MD", 1, _QUOTE)
        return whole(quotes_of_columns(symbol, {column: newest.column(column) for column in _QUOTE}))

    async def status(self) -> dict[str, Any]:
        return {
            "actor": repr(self),
            "index": self.index,
            "pid": os.getpid(),
            **where_it_is(),
            "failure": self._blocked or self._durability.failure or "; ".join(self._failures.values()),
            "symbols": self._bars.symbols,
            "batches_waiting": len(self._pending),
            "sinks_waiting": self._telling.pending,
            "gaps_open": len(self._ledger.gaps(None, open_only=True)),
            "batches_repeated": sum(known.repeated for known in self._sequences.values()),
            "batches_jumped": sum(known.jumps for known in self._sequences.values()),
            "flagged": self._quality.flagged,
            **self._days.status(),
            **self._reconciler.status(),
            **{name: self._counts[name] for name in COUNTED},
        }

    def _gone(self, symbols: Sequence[Series]) -> None:
        gone = set(symbols)
        self._featureless = {one for one in self._featureless if one[:2] not in gone}

    async def _every(self, wait_s: float | Callable[[], float], step: Callable[[], Awaitable[None]]) -> None:
        name = step.__name__.lstrip("_")
        while True:
            await asyncio.sleep(wait_s() if callable(wait_s) else wait_s)
            began = time.perf_counter()
            try:
                await step()
            except Exception as error:
                # What it stumbled over may be gone the next time.
                self._failures[name] = repr(error)
                log.exception("a step of a shard failed", shard=self.index, step=name)
                continue
            self._failures.pop(name, None)
            _STEPS.observe(time.perf_counter() - began, name)

    async def _commit(self) -> None:
        """Append everything pending, one append per symbol and kind, then acknowledge it."""
        pending, self._pending = self._pending, []
        for exchange in dict.fromkeys(batch.exchange for batch in pending):
            mine = [batch for batch in pending if batch.exchange == exchange]
            try:
                self._intake.store(exchange, [(one.origin, one.batches) for one in mine], self._now_ns(exchange))
                if self._settings.shard.sync_interval_s == 0:
                    await self._durability.sync()
            except OSError as error:
                # The files are whole. Nothing is acknowledged, so collectors hold what comes; rows that did get
                # into a file are dropped when they are tried again.
                self._blocked = f"cannot write column files: {error.strerror}"
                self._pending = mine + self._pending
                await asyncio.sleep(RETRY_S)
                continue
            except Exception as error:
                # Who sent them knows where they begin, and looks for them from there.
                log.exception("a shard cannot store a batch", shard=self.index, exchange=exchange)
                for one in mine:
                    if not one.written.done():
                        one.written.set_exception(error)
                continue
            self._blocked = ""
            for one in mine:
                LAG.observe(took := time.monotonic() - one.came_at, "shard_to_disk", exchange)
                if (spans := tracing()) is not None:
                    now_ns = time.time_ns()
                    spans.stored(exchange, self.index, one.origin, now_ns - int(took * 1e9), now_ns)
                self._intake.pass_on(exchange, one.batches)
                if not one.written.done():
                    one.written.set_result(self._ledger.open_gaps(exchange))
        if pending:
            # The first trade of a bar may come when that is over.
            await self._close_bars()

    def _until_bars_close(self) -> float:
        """Seconds until the next whole one and the grace are over: every bar but one of late trades closes then."""
        if self._recorded:
            return CLOSE_INTERVAL_S
        since_ns = (time.time_ns() - self._settings.bars.grace_ms * 1_000_000) % _SECOND_NS
        return (_SECOND_NS - since_ns) * 1e-9 + _SURELY_OVER_S

    async def _close_bars(self) -> None:
        self._bars.close(self._now_ns)

    async def _make_features(self) -> None:
        """Those of the newest bar of each series that has another one now."""
        featureless, self._featureless = self._featureless, set()
        try:
            found = await self._features.newest_of(featureless)
        except (BeingRewritten, OSError):
            # A moment later.
            self._featureless |= featureless
            return
        for exchange, made in found.items():
            self._counts["features"] += len(made)
            self._telling.add("features", exchange, *made)

    def _closed_series(self, bars: pa.RecordBatch) -> set[tuple[str, str]]:
        closed = bars.filter(bars.column("closed"))
        names: list[Any] = [closed.column(name).to_pylist() for name in ("symbol", "timeframe")]
        wanted = self._settings.features.timeframes
        return {(symbol, timeframe) for symbol, timeframe in zip(*names, strict=True) if timeframe in wanted}

    async def _keep_history(self) -> None:
        try:
            await self._bars.keep_history()
        except OSError as error:
            self._blocked = f"cannot keep bars: {error.strerror}"

    async def _keep_days(self) -> None:
        await self._days.keep(self._held.stored())

    async def _sync(self) -> None:
        with suppress(OSError):  # it says so, and is tried again
            await self._durability.sync()

    async def _compact(self) -> None:
        try:
            await self._keeper.compact()
        except OSError as error:
            # The longer log is as good.
            self._blocked = f"cannot write the ledger: {error.strerror}"

    async def _reconcile(self) -> None:
        if 2 * self._telling.pending < self._settings.sinks.max_pending:
            await self._reconciler.step()

    async def _share_new(self, last: bool = False) -> None:
        """Hand new rows to the sinks."""
        open_too = last or time.monotonic() >= self._open_due
        if open_too:
            self._open_due = time.monotonic() + OPEN_INTERVAL_S
        for kind, exchange, told in self._bars.changed(open_too):
            self._counts[kind] += told.num_rows
            self._telling.add(kind, exchange, told)
            if kind == "bars":
                closed_bars.count(told, self._now_ns(exchange))
                self._featureless.update((exchange, *one) for one in self._closed_series(told))
        quality = list(self._quality.changed(last))
        for exchange, told in quality:
            self._telling.add("quality", exchange, told)
        gaps = self._ledger.to_share()
        for exchange, rows in gaps.items():
            self._telling.add("gaps", exchange, gap_batch(rows))
        # What must arrive is told again; of the rest the files are the truth.
        again = [partial(self._ledger.unshared, rows) for rows in gaps.values()]
        again += [partial(self._quality.untold, exchange, told) for exchange, told in quality]
        self._telling.send(again)

    def _untold(self, rows: int) -> None:
        self._counts["unsunk"] += rows
        self._reconciler.look()

    def _now_ns(self, exchange: str) -> int:
        return self._clock_ns.get(exchange, 0) if self._recorded else time.time_ns()
