"""The actors that the live feed of a replica comes from."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import ray

from actors.directory import LIVE_HUB, MARKET_WATCH, SUPERVISOR, Handles, collector_name, owner
from actors.live_hub import Wanted
from actors.live_log import Entry
from serve_apps.live_feed import Away, Rows
from serve_apps.live_topics import Channel, Topic
from serve_apps.live_updates import candle, rows_of
from serve_apps.symbol_names import Symbols
from storage.redis import BOOK_LEVELS

#: The hub answers within 5 s.
ANSWER_S: Final = 10.0
#: What a snapshot has of a symbol.
TRADES: Final = 100
BARS: Final = 100


class Actors:
    """See `Source`; `symbols` are those there are."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._actors = Handles()

    async def follow(self, follower: str, wanted: frozenset[Wanted]) -> int:
        seq: int = await self._ask(LIVE_HUB, "follow", follower, wanted)
        return seq

    async def entries(self, follower: str, since: int) -> tuple[int, bool, list[Entry]] | None:
        found: tuple[int, bool, list[Entry]] | None = await self._ask(LIVE_HUB, "entries", follower, since)
        return found

    async def past(self, wanted: Wanted, sinces: Sequence[int], before_s: float) -> tuple[int, int, list[Entry]] | None:
        found: tuple[int, int, list[Entry]] | None = await self._ask(LIVE_HUB, "past", wanted, sinces, before_s)
        return found

    async def snapshot(self, topic: Topic) -> Rows:
        """Of one symbol its newest trades, quote, bars or book; of patterns the books, integrity, what
        fired lately and the dashboard."""
        # Names that nobody knows are not passed on.
        known = self._symbols()
        one = topic.symbol in known.get(topic.exchange, ())
        match topic.topic:
            case "trades" if one:
                (reference,) = await self._ask_shard(topic, "last_trades", topic.exchange, topic.symbol, TRADES)
                return _one(topic, rows_of("trades", await reference))
            case "quotes" if one:
                quote: pa.RecordBatch = await self._ask_shard(topic, "last_quote", topic.exchange, topic.symbol)
                return _one(topic, rows_of("quotes", quote))
            case "bars" | "indicators" if one and topic.timeframe != "*":
                return _one(topic, rows_of(topic.topic, await self._bars(topic, topic.topic)))
            case "chart" if one:
                bars, indicators = await asyncio.gather(self._bars(topic, "bars"), self._bars(topic, "indicators"))
                told = {row["time"]: row for row in rows_of("indicators", indicators)}
                return _one(topic, [candle(row, told.get(row["time"])) for row in rows_of("bars", bars)])
            case "book" if topic.exchange in known:
                return await self._books(topic)
            case "dashboard":
                best: pa.RecordBatch = await self._ask(MARKET_WATCH, "best")
                rows = best.drop_columns(["quotes"]).to_pylist()
                return each(topic, [{"exchange": "", "symbol": row.pop("instrument"), **row} for row in rows])
            case "alerts":
                return each(topic, await self._ask(LIVE_HUB, "fired"))
            case "integrity":
                return each(topic, await self._ask(SUPERVISOR, "integrity"))
        return []

    async def _bars(self, topic: Topic, what: str) -> pa.RecordBatch:
        found: pa.RecordBatch = await self._ask_shard(topic, what, topic.exchange, topic.symbol, topic.timeframe, BARS)
        return found

    async def _books(self, topic: Topic) -> Rows:
        symbols = None if "*" in topic.symbol else [topic.symbol]
        found: Rows = []
        for depth in await self._ask(collector_name(topic.exchange), "book", symbols, BOOK_LEVELS):
            names = depth.column("symbol").to_pylist()
            channels = [Channel(topic.topic, topic.exchange, name, "") for name in names]
            rows = rows_of("book", depth)
            found += [(one, [row]) for one, row in zip(channels, rows, strict=True) if topic.covers(one)]
        return found

    async def _ask_shard(self, topic: Topic, method: str, *arguments: Any) -> Any:
        return await self._ask(owner(topic.exchange, topic.symbol), method, *arguments)

    async def _ask(self, name: str, method: str, *arguments: Any) -> Any:
        try:
            return await asyncio.wait_for(self._actors.ask(name, method, *arguments), ANSWER_S)
        except (TimeoutError, ValueError, ray.exceptions.RayError) as error:
            raise Away(name) from error


def _one(topic: Topic, rows: list[dict[str, Any]]) -> Rows:
    return [(Channel(topic.topic, topic.exchange, topic.symbol, topic.timeframe), rows)] if rows else []


def each(topic: Topic, rows: list[dict[str, Any]]) -> Rows:
    """Rows that name their exchange and symbol, by channel."""
    found: dict[Channel, list[dict[str, Any]]] = {}
    for row in rows:
        channel = Channel(topic.topic, row.pop("exchange"), row.pop("symbol"), "")
        if topic.covers(channel):
            found.setdefault(channel, []).append(row)
    return list(found.items())
