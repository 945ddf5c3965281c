"""LiveHub: I number what the live feed tells and remember the newest of it, so that all replicas of the feed say the
same and a client resumes at any of them. Collectors and shards offer me what somebody looks at, and never wait for me;
replicas ask me for more, one question at a time. I own no data: when I die, my numbers go on above the old ones, and
whoever resumes from those is told that it is too long ago.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import structlog

from actors.live_asked import Asked, Series
from actors.live_log import Entry, Key, LiveLog, NewTrades
from actors.live_offers import RECEIVED_QUOTES, RECEIVED_TRADES
from actors.parcels import Key as Offered
from actors.parcels import Parcel, packed, unpacked
from config.live_settings import LiveFeedSettings
from storage.timeframes import TIMEFRAMES

#: Kinds of rows that are offered, and their topics. Indicators come before the bars they belong to.
OFFERED: Final = {RECEIVED_TRADES: "trades", RECEIVED_QUOTES: "quotes", "indicators": "indicators", "bars": "bars"}
#: Topics whose content is JSON; those without an exchange.
TOLD: Final = frozenset({"dashboard", "alerts", "integrity"})
WITHOUT_EXCHANGE: Final = frozenset({"dashboard"})
#: A follower that does not ask for so long is forgotten; what nobody follows any more is remembered for so long, so
#: that a client that was alone can resume.
FORGOTTEN_S: Final = 15.0
LINGER_S: Final = 60.0
#: A question is answered after this in any case.
ANSWER_S: Final = 5.0
#: And carries no more than this, or one entry.
ANSWER_BYTES: Final = 4 << 20
#: Nobody resumes with more than this.
RESUMED_BYTES: Final = 32 << 20
#: Those who know are asked this often.
BOOKS_S: Final = 0.25
OTHERS_S: Final = 1.0
#: So many alerts that fired are remembered for who looks at them later.
FIRED: Final = 100
#: Open bars of so many series are asked for, no more.
MOST_SERIES: Final = 500

log = structlog.get_logger(__name__)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a replica's clients look at: `*` is any exchange, symbol or timeframe."""

    topic: str
    exchange: str = "*"
    symbol: str = "*"
    timeframe: str = "*"


@dataclass(slots=True)
class _Follower:
    wanted: frozenset[Wanted]
    keys: frozenset[Key]
    asked_at: float = field(default_factory=time.monotonic)


class LiveHub:
    """An actor: one per instance. `exchanges` are those that are collected."""

    def __init__(
        self,
        settings: LiveFeedSettings,
        exchanges: Sequence[str],
        asked: Asked,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._exchanges = tuple(exchanges)
        self._asked = asked
        self._clock = clock
        # Microseconds: above every number of a hub before, as no hub tells a million things a second, and whole in the
        # numbers that JavaScript has.
        self._log = LiveLog(clock() // 1000, settings.history_bytes, int(settings.history_s * 1e9))
        self._new_trades = NewTrades()
        self._followers: dict[str, _Follower] = {}
        #: Until when keys are recorded that nobody follows any more.
        self._lingering: dict[Key, float] = {}
        self._arrived = asyncio.Condition()
        self._wants_changed = asyncio.Condition()
        self._offered: frozenset[Offered] = frozenset()
        #: What was told last of what is asked for again and again.
        self._told: dict[tuple[str, ...], Any] = {}
        self._fired: deque[dict[str, Any]] = deque(maxlen=FIRED)
        #: Where among the series those are that are asked for next.
        self._turn = 0
        self._counts: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure = ""
        for key in (("alerts", exchange) for exchange in self._exchanges):
            self._log.begin(key)

    def __repr__(self) -> str:
        return f"LiveHub({len(self._followers)} replicas, {len(self._log)} entries)"

    async def take(self, parcel: Parcel, missed: int = 0) -> None:
        """Rows of `storage.schema`; `missed`: parcels that the sender could not give me since the last one."""
        self._start()
        if missed:
            self._counts["missed"] += missed
            self._put("", "", b"")
        for kind, topic in OFFERED.items():
            mine = {key: stream for key, stream in parcel.items() if key[0] == kind}
            for _, exchange, table in unpacked(mine, lambda _: True):
                self._log_rows(topic, exchange, table, parcel[kind, exchange])
        await self._tell_followers()

    async def wants(self, known: frozenset[Offered] | None) -> frozenset[Offered]:
        """Kind and exchange of what I want to be offered. Answers once that is not `known`."""
        self._start()
        async with self._wants_changed:
            await self._wants_changed.wait_for(lambda: self._offered != known)
        return self._offered

    async def tell(self, topic: str, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of a topic in TOLD, each with its `exchange` and `symbol`."""
        self._start()
        if topic == "alerts":
            self._fired.extend(rows)
        self._put_told(topic, rows)
        await self._tell_followers()

    async def fired(self) -> list[dict[str, Any]]:
        """The newest alerts that fired, oldest first."""
        return [dict(row) for row in self._fired]

    async def follow(self, follower: str, wanted: frozenset[Wanted]) -> int:
        """A replica looks at this from now on; the number of the newest entry."""
        self._start()
        self._followers[follower] = _Follower(wanted, self._keys(wanted))
        await self._look()
        # A question that waits may have an answer now.
        await self._tell_followers()
        return self._log.seq

    async def entries(self, follower: str, since: int) -> tuple[int, bool, list[Entry]] | None:
        """What it looks at after a number, once there is any: the newest number, whether all is there, and the entries.
        None for a replica that I do not know (any more): it is to say again what it looks at."""
        if (own := self._followers.get(follower)) is None:
            return None
        seq = self._log.seq
        whole = self._log.oldest <= since <= seq
        keys = own.keys
        if whole and not self._log.after(since, keys):
            since = seq
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S), self._arrived:
                    await self._arrived.wait_for(
                        lambda: self._log.after(seq, keys) or self._followers.get(follower) is not own
                    )
            # It may look at something else by now.
            own = self._followers.get(follower, own)
            seq = self._log.seq
        own.asked_at = time.monotonic()
        found = self._log.after(since, own.keys)
        some = found[: int(np.searchsorted(np.cumsum([len(entry.content) for entry in found]), ANSWER_BYTES)) + 1]
        return (some[-1].seq if len(some) < len(found) else seq), whole, some

    async def past(
        self, wanted: Wanted, sinces: Sequence[int], before_s: float = 0.0
    ) -> tuple[int, int, list[Entry]] | None:
        """For those who resume after these numbers: the newest number, the oldest of theirs that everything is known
        since, and what came after that and in this time before it. None when it is too long ago for all of them, or
        too much."""
        keys = self._keys([wanted])
        if not (reached := [since for since in sinces if self._log.reaches(since, keys)]):
            return None
        found = self._log.after(min(reached), keys, int(before_s * 1e9))
        if sum(len(entry.content) for entry in found) > RESUMED_BYTES:
            return None
        return self._log.seq, min(reached), found

    async def start(self) -> None:
        """Go on asking, after a failure of it."""
        self._failure = ""
        self._tasks = []
        self._start()

    async def status(self) -> dict[str, Any]:
        """`missed` counts parcels that were dropped on their way here."""
        self._start()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "running": not any(task.done() for task in self._tasks),
            "failure": self._failure,
            "replicas": len(self._followers),
            "followed": len(self._log.keys),
            "seq": self._log.seq,
            "entries": len(self._log),
            "bytes": self._log.nbytes,
            "missed": self._counts["missed"],
            "repeated": self._counts["repeated"],
        }

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what is told

    def _log_rows(self, topic: str, exchange: str, table: pa.Table, stream: Any) -> None:
        if (topic, exchange) not in self._log.keys or not table.num_rows:
            return
        if topic == "trades":
            new = self._new_trades(exchange, table)
            self._counts["repeated"] += table.num_rows - new.num_rows
            if not new.num_rows:
                return
            if new is not table:
                stream = packed({topic: new})[topic]
        # What is remembered is not to hold on to the object it came in.
        self._put(topic, exchange, bytes(stream))

    def _put_told(self, topic: str, rows: Iterable[dict[str, Any]]) -> None:
        by_exchange: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_exchange.setdefault("" if topic in WITHOUT_EXCHANGE else row["exchange"], []).append(row)
        for exchange, own in by_exchange.items():
            self._put(topic, exchange, _encode(own))

    def _put(self, topic: str, exchange: str, content: bytes) -> None:
        self._log.put(topic, exchange, content, self._clock())

    async def _tell_followers(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    # ---- who looks at what

    def _keys(self, wanted: Iterable[Wanted]) -> frozenset[Key]:
        keys: set[Key] = set()
        for one in wanted:
            if one.topic in WITHOUT_EXCHANGE:
                keys.add((one.topic, ""))
            elif one.exchange == "*":
                keys.update((one.topic, exchange) for exchange in self._exchanges)
            elif one.exchange in self._exchanges:
                keys.add((one.topic, one.exchange))
        return frozenset(keys)

    async def _look(self) -> None:
        """Record what is followed, and what was until a moment ago."""
        now = time.monotonic()
        for name in [name for name, own in self._followers.items() if now - own.asked_at > FORGOTTEN_S]:
            del self._followers[name]
        followed: set[Key] = {("alerts", exchange) for exchange in self._exchanges}
        followed.update(*(own.keys for own in self._followers.values()))
        for key in followed:
            self._log.begin(key)
            self._lingering.pop(key, None)
        for key in self._log.keys - followed:
            if now > self._lingering.setdefault(key, now + LINGER_S):
                self._log.end(key)
                del self._lingering[key]
                self._told = {told: value for told, value in self._told.items() if told[:2] != key}
        kinds = {topic: kind for kind, topic in OFFERED.items()}
        offered = frozenset((kinds[topic], exchange) for topic, exchange in self._log.keys if topic in kinds)
        if offered != self._offered:
            async with self._wants_changed:
                self._offered = offered
                self._wants_changed.notify_all()

    def _all_wanted(self, topic: str) -> list[Wanted]:
        every = [one for own in self._followers.values() for one in own.wanted if one.topic == topic]
        return list(dict.fromkeys(every))

    # ---- what is asked for

    def _start(self) -> None:
        if not self._tasks:
            steps = (
                (BOOKS_S, self._ask_books),
                (OTHERS_S, self._ask_bars),
                (OTHERS_S, self._ask_best),
                (OTHERS_S, self._ask_integrity),
                (OTHERS_S, self._look),
            )
            self._tasks = [asyncio.get_running_loop().create_task(self._every(*step)) for step in steps]

    async def _every(self, interval_s: float, step: Callable[[], Any]) -> None:
        try:
            while True:
                await step()
                await asyncio.sleep(interval_s)
        except Exception as error:
            self._failure = repr(error)
            log.error("the live hub failed", error=self._failure)
            raise

    async def _ask_books(self) -> None:
        symbols: dict[str, set[str] | None] = {}
        for one in self._all_wanted("book"):
            for exchange in self._exchanges if one.exchange == "*" else (one.exchange,):
                known = symbols.setdefault(exchange, set())
                symbols[exchange] = None if "*" in one.symbol or known is None else known | {one.symbol}
        for exchange in symbols.keys() & self._exchanges:
            mine = symbols[exchange]
            for depth in await self._asked.books(exchange, None if mine is None else sorted(mine)):
                self._put_changed_books(exchange, depth)
        await self._tell_followers()

    def _put_changed_books(self, exchange: str, depth: pa.RecordBatch) -> None:
        names: list[Any] = depth.column("symbol").to_pylist()
        states = list(zip(*(depth.column(name).to_pylist() for name in ("epoch", "state", "ts_recv")), strict=True))
        changed = []
        for symbol, state in zip(names, states, strict=True):
            changed.append(self._told.get(("book", exchange, symbol)) != state)
            self._told["book", exchange, symbol] = state
        if any(changed):
            rows = depth.filter(pa.array(changed))
            self._put("book", exchange, bytes(packed({"book": rows})["book"]))

    async def _ask_bars(self) -> None:
        series = [
            (one.exchange, one.symbol, one.timeframe)
            for one in self._all_wanted("bars")
            if one.exchange in self._exchanges and "*" not in one.symbol and one.timeframe in TIMEFRAMES
        ]
        # Of more, each has its turn: names that nobody knows do not take the place of others.
        begin, self._turn = (self._turn % len(series), self._turn + MOST_SERIES) if series else (0, 0)
        some = [*series[begin:], *series[:begin]][:MOST_SERIES]
        found = await self._asked.newest_bars(some) if some else {}
        by_exchange: dict[str, list[pa.RecordBatch]] = {}
        for one, bars in found.items():
            if bars.num_rows and self._is_new("bars", one, bars):
                by_exchange.setdefault(one[0], []).append(bars)
        for exchange, batches in by_exchange.items():
            table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
            self._put("bars", exchange, bytes(packed({"bars": table})["bars"]))
        await self._tell_followers()

    def _is_new(self, topic: str, series: Series, bars: pa.RecordBatch) -> bool:
        newest = bars.slice(bars.num_rows - 1)
        # Shards tell of closed bars themselves.
        if newest.column("closed")[0].as_py():
            return False
        state = tuple(newest.column(name)[0].as_py() for name in ("time", "close", "volume", "trade_count"))
        known, self._told[topic, *series] = self._told.get((topic, *series)), state
        return known != state

    async def _ask_best(self) -> None:
        if self._all_wanted("dashboard"):
            rows = await self._asked.best()
            await self._tell_changed("dashboard", [{"symbol": row.pop("instrument"), **row} for row in rows])

    async def _ask_integrity(self) -> None:
        if self._all_wanted("integrity"):
            await self._tell_changed("integrity", await self._asked.integrity())

    async def _tell_changed(self, topic: str, rows: Iterable[dict[str, Any]]) -> None:
        changed = []
        for row in rows:
            name = (topic, "" if topic in WITHOUT_EXCHANGE else str(row["exchange"]), str(row["symbol"]))
            if self._told.get(name) != row:
                self._told[name] = row
                changed.append(row)
        self._put_told(topic, changed)
        await self._tell_followers()
