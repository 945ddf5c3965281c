"""The gateway against real engines, also while they are away."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.database import GATHER_SECONDS, Database
from actors.parcels import packed
from config.settings import Settings, load
from storage.clickhouse import DatabaseUnavailable, QueryFailed, open_clickhouse
from storage.clickhouse_tables import STORED_BARS, TABLES
from storage.schema import ARBITRAGE, BARS, FEATURES, GAPS, QUALITY, QUOTES, TRADES
from storage.spool import Described, Record, Spool
from tests.polling import until
from tests.servers import ClickHouseServer, free_port, needs_clickhouse_server
from tests.storage.clickhouses import server

__all__ = ["server"]


HOSTILE = "x'; DROP TABLE trades --"
MINUTE = 60_000_000_000
START = 1_700_000_040_000_000_000


def settings(data: Path, url: str | None = None, max_pending: int = 100) -> Settings:
    # Whatever the environment says: these tests empty tables.
    chosen = load(data, {"sinks": {"max_pending": max_pending}})
    # What they write is some years old.
    kept = dict.fromkeys(chosen.retention)
    return chosen.model_copy(update={"clickhouse_url": url, "retention": kept})


async def newest_bars(
    database: Database, exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int = 2**63 - 1
) -> pa.Table:
    sql = (
        f"SELECT {', '.join(STORED_BARS.names)}, if(volume > 0, quote_volume / volume, NULL) AS vwap FROM bars FINAL"
        " WHERE exchange = {exchange:String} AND symbol = {symbol:String} AND timeframe = {timeframe:String}"
        " AND time < {before:Int64} ORDER BY time DESC LIMIT {limit:UInt32}"
    )
    asked = {"exchange": exchange, "symbol": symbol, "timeframe": timeframe, "limit": limit, "before": before_ns}
    rows = await database.query(sql, asked)
    return rows.take(np.arange(rows.num_rows)[::-1]).select(BARS.names).cast(BARS)


def trades(count: int, first_id: int = 1, symbol: str = "BTCUSDT") -> pa.Table:
    columns = {
        "symbol": pa.array([symbol] * count).dictionary_encode(),
        "ts_event": START + np.arange(count),
        "ts_recv": START + np.arange(count),
        "trade_id": first_id + np.arange(count),
        "price": np.full(count, 1.5),
        "size": np.full(count, 0.1),
        "side": np.zeros(count, np.uint8),
        "maker_order_id": pa.nulls(count, pa.binary(16)),
        "taker_order_id": pa.nulls(count, pa.binary(16)),
    }
    return pa.table(columns).cast(TRADES)


def bars(minutes: list[int], close: float = 1.5, symbol: str = "BTCUSDT", revision: int = 0) -> pa.Table:
    count = len(minutes)
    columns = {name: np.full(count, close) for name in BARS.names} | {
        "symbol": pa.array([symbol] * count).dictionary_encode(),
        "timeframe": ["1m"] * count,
        "time": START + MINUTE * np.array(minutes, np.int64),
        "trade_count": np.ones(count, np.int64),
        "vwap": np.ones(count),  # all of these columns are as large
        "revision": np.full(count, revision, np.int32),
        "closed": [True] * count,
    }
    return pa.table(columns).cast(BARS)


async def count(database: Database) -> int:
    rows = await database.query("SELECT count() AS n, uniqExact(trade_id) AS different FROM trades FINAL")
    assert rows["n"] == rows["different"]
    return int(rows["n"][0].as_py())


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
async def database(
    request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path
) -> AsyncIterator[Database]:
    url = server.url if server is not None and request.param == "server" else None
    opened = Database(settings(tmp_path, url))
    for table in (*TABLES, "latest_trades_state", "latest_quotes_state", "coverage_state"):
        await opened.query(f"TRUNCATE TABLE {table}")
    yield opened
    await opened.stop()


async def test_queued_tables_are_written_and_counted(database: Database) -> None:
    for number in range(5):
        await database.insert("trades", "binance", trades(100, first_id=1 + number * 100))
    assert await database.flush()
    health = await database.status()
    assert (health["rows_written"], health["pending"], health["available"]) == (500, 0, True)
    assert await count(database) == 500


async def test_what_there_is_a_table_for_in_a_parcel_is_written(database: Database) -> None:
    tables = {(kind, exchange): trades(3) for kind in ("trades", "pictures") for exchange in ("binance", "okx")}
    await database.take(packed({**tables, ("bars", "okx"): bars([1, 2])}))
    assert await database.flush()
    assert (await database.status())["rows_written"] == 8
    rows = await database.query("SELECT exchange, count() AS n FROM trades FINAL GROUP BY exchange ORDER BY exchange")
    assert rows.to_pydict() == {"exchange": ["binance", "okx"], "n": [3, 3]}
    assert (await newest_bars(database, "okx", "BTCUSDT", "1m", 9)).num_rows == 2


async def test_the_exchange_is_part_of_a_trades_identity(database: Database) -> None:
    for exchange in ("binance", "coinbase", "binance"):
        await database.insert("trades", exchange, trades(3))
    assert await database.flush()
    rows = await database.query("SELECT exchange, count() AS n FROM trades FINAL GROUP BY exchange ORDER BY exchange")
    assert rows.to_pydict() == {"exchange": ["binance", "coinbase"], "n": [3, 3]}


async def test_bars_come_back_ascending_in_their_schema(database: Database) -> None:
    await database.insert("bars", "binance", bars([3, 1, 2, 4]))
    await database.insert("bars", "binance", bars([9], symbol="ETHUSDT"))
    await database.flush()
    newest = await newest_bars(database, "binance", "BTCUSDT", "1m", limit=3)
    assert newest.schema == BARS
    assert newest.equals(bars([2, 3, 4]))
    before = await newest_bars(database, "binance", "BTCUSDT", "1m", limit=2, before_ns=START + 3 * MINUTE)
    assert before.equals(bars([1, 2]))
    assert (await newest_bars(database, "coinbase", "BTCUSDT", "1m", limit=2)).equals(bars([]))


async def test_the_bar_that_came_last_wins_whatever_its_revision(database: Database) -> None:
    twice = pa.concat_tables([bars([1], close=1.0, revision=7), bars([1], close=2.0)])
    await database.insert("bars", "binance", twice)
    assert (
        await database.flush(),
        (await newest_bars(database, "binance", "BTCUSDT", "1m", 5))["close"].to_pylist(),
    ) == (
        True,
        [2.0],
    )
    await database.insert("bars", "binance", bars([1], close=3.0))
    await database.flush()
    assert (await newest_bars(database, "binance", "BTCUSDT", "1m", 5))["close"].to_pylist() == [3.0]


def gap(gap_id: int, revision: int, closed: int | None = None, first_id: int | None = 5) -> dict[str, object]:
    row = {"symbol": "BTCUSDT", "gap_id": gap_id, "first_id": first_id, "last_id": first_id, "from_ns": START}
    said = {"to_ns": START, "missing": None if closed else first_id, "opened": START, "reason": "connection lost"}
    return row | said | {"attempts": 1, "backfilled": 2, "closed": closed, "evidence": "", "revision": revision}


async def test_an_hour_of_quality_that_came_last_replaces_the_one_before(database: Database) -> None:
    for total, lateness in ((10, None), (25, 12.5)):
        row = dict.fromkeys(QUALITY.names, 0) | {"symbol": "BTCUSDT", "time": START, "total": total, "score": 0.9}
        rows = pa.Table.from_pylist([row | {"lateness_ms": lateness}], QUALITY)
        for exchange in ("binance", "kraken")[: 1 + (total == 10)]:
            await database.insert("quality", exchange, rows)
        await database.flush()
    found = await database.query(
        "SELECT exchange, time, total, score, lateness_ms FROM quality FINAL ORDER BY exchange"
    )
    assert found.to_pylist() == [
        {"exchange": "binance", "time": START, "total": 25, "score": 0.9, "lateness_ms": 12.5},
        {"exchange": "kraken", "time": START, "total": 10, "score": 0.9, "lateness_ms": None},
    ]


async def test_of_a_gap_the_newest_revision_stays_whatever_came_last(database: Database) -> None:
    newer, older = ([gap(1, 4, closed=START)], [gap(1, 3), gap(2, 0, first_id=None)])
    for rows in (newer, older):
        await database.insert("gaps", "binance", pa.Table.from_pylist(rows).cast(GAPS))
    await database.flush()
    found = await database.query("SELECT gap_id, first_id, closed, revision FROM gaps FINAL ORDER BY gap_id")
    assert found.to_pydict() == {"gap_id": [1, 2], "first_id": [5, None], "closed": [START, None], "revision": [4, 0]}


async def test_an_episode_of_arbitrage_is_open_until_its_end_is_written(database: Database) -> None:
    texts = ("instrument", "kind", "buy_exchange", "buy_symbol", "sell_exchange", "sell_symbol")
    opened = dict.fromkeys(ARBITRAGE.names, 1) | dict.fromkeys(texts, "x")
    opened |= {"opened": START, "peak": START, "closed": None, "ended": "", "revision": 0}
    closed = opened | {"closed": START + 5, "ended": "prices", "revision": 1}
    for rows in ([closed, opened | {"sell_symbol": "y"}], [opened]):
        await database.insert("arbitrage", None, pa.Table.from_pylist(rows, schema=ARBITRAGE))
    await database.flush()
    found = await database.query("SELECT sell_symbol, closed, ended FROM arbitrage FINAL ORDER BY sell_symbol")
    assert found.to_pydict() == {"sell_symbol": ["x", "y"], "closed": [START + 5, None], "ended": ["prices", ""]}


async def test_a_hostile_symbol_is_data(database: Database) -> None:
    await database.insert("bars", HOSTILE, bars([1], symbol=HOSTILE))
    await database.insert("trades", HOSTILE, trades(2, symbol=HOSTILE))
    await database.flush()
    assert (await newest_bars(database, HOSTILE, HOSTILE, "1m", 5))["symbol"].to_pylist() == [HOSTILE]
    assert (await newest_bars(database, "binance", HOSTILE, "1m", 5)).num_rows == 0
    assert await count(database) == 2


def quotes(count: int, first: int = 1, symbol: str = "BTCUSDT") -> pa.Table:
    columns: dict[str, object] = {name: pa.nulls(count) for name in QUOTES.names} | {
        "symbol": pa.array([symbol] * count).dictionary_encode(),
        "ts_event": START + np.arange(count),
        "ts_recv": START + np.arange(count),
        "sequence": first + np.arange(count),
        "bid_price": np.full(count, 1.5),
    }
    return pa.table(columns).cast(QUOTES)


def features(time_ns: int, value: float) -> pa.Table:
    row = dict.fromkeys(FEATURES.names, value) | {"symbol": "BTCUSDT", "timeframe": "1m", "time": time_ns}
    return pa.Table.from_pylist([row | {"kyle_lambda_20": None}], FEATURES)


async def test_quotes_and_features_are_written_once_however_often_they_come(database: Database) -> None:
    for value in (1.0, 2.0):
        tables = {("quotes", "okx"): quotes(10), ("features", "okx"): features(START, value)}
        await database.take(packed(tables))
        assert await database.flush()
    rows = await database.query("SELECT count() AS n, sum(bid_price) AS bids, any(ask_price) AS ask FROM quotes FINAL")
    assert rows.to_pylist() == [{"n": 10, "bids": 15.0, "ask": None}]
    rows = await database.query("SELECT exchange, rsi, kyle_lambda_20 FROM features FINAL")
    assert rows.to_pylist() == [{"exchange": "okx", "rsi": 2.0, "kyle_lambda_20": None}]


async def test_quotes_are_left_out_where_the_settings_say_so(tmp_path: Path) -> None:
    chosen = load(tmp_path, {"sinks": {"quotes": False}}).model_copy(update={"clickhouse_url": None})
    database = Database(chosen)
    await database.take(packed({("quotes", "okx"): quotes(10), ("trades", "okx"): trades(1)}))
    assert await database.flush()
    assert (await database.status())["rows_written"] == 1
    await database.stop()


async def test_many_small_parcels_make_few_parts(database: Database) -> None:
    began = time.monotonic()
    for number in range(300):
        first = 10 * number
        told = {"trades": trades(10, first), "quotes": quotes(10, first), "bars": bars([number])}
        told["features"] = features(START + number, 1)
        await database.take(packed({(kind, "okx"): rows for kind, rows in told.items()}))
        # As shards do: spread over some seconds.
        await asyncio.sleep(0.01)
    assert await database.flush()
    took = time.monotonic() - began
    assert (await database.status())["rows_written"] == 300 * 22
    rows = await database.query(
        "SELECT table, sum(max_block_number - min_block_number + 1) AS inserts FROM system.parts"
        " WHERE active AND database = currentDatabase() AND rows > 0 AND table != 'migrations' GROUP BY table"
    )
    # A part is of one insert or of several.
    found = {row["table"]: row["inserts"] for row in rows.to_pylist()}
    states = {"latest_trades_state", "latest_quotes_state", "coverage_state"}
    assert found.keys() == {"trades", "quotes", "bars", "features"} | states
    # An insert in each of some seconds, and one each at the beginning, at the end and for the flush.
    most = took / GATHER_SECONDS + 3
    assert most < 100, "as many inserts as parcels would be within it"
    assert max(found.values()) <= most


async def test_rows_wait_while_a_table_is_somebody_elses_and_arrive_once_that_is_mended(tmp_path: Path) -> None:
    other = open_clickhouse(None, tmp_path / "clickhouse")
    other.query("CREATE TABLE trades (id Int64, note String) ENGINE = MergeTree() ORDER BY id")
    other.query("INSERT INTO trades SELECT 7 AS id, 'mine' AS note")
    other.close()
    database = Database(settings(tmp_path))
    await database.insert("trades", "okx", trades(5))

    async def told() -> bool:
        return "a table trades is there that rayfeed did not make" in str((await database.status())["last_error"])

    await until(told)
    health = await database.status()
    assert (health["available"], health["pending"], health["tables_rejected"]) == (False, 1, 0)
    found = await asyncio.to_thread(database._database.query, "SELECT * FROM trades")
    assert found.to_pylist() == [{"id": 7, "note": "mine"}]
    await asyncio.to_thread(database._database.query, "RENAME TABLE trades TO notes")
    assert await database.flush()
    assert await count(database) == 5
    await database.stop()


async def test_the_status_says_what_the_server_is_and_lacks_and_what_is_kept(tmp_path: Path) -> None:
    chosen = load(tmp_path).model_copy(update={"clickhouse_url": None})
    database = Database(chosen)
    assert (await database.status())["version"] is None
    await database.query("SELECT 1")
    health = await database.status()
    assert health["version"] and health["lacks"] == []
    assert health["retention"] == {"quotes": 30, "features": 365}
    await database.stop()
    database = Database(chosen.model_copy(update={"source": f"replay:{tmp_path}"}))
    made = await database.query("SELECT create_table_query AS made FROM system.tables WHERE name = 'quotes'")
    assert " TTL " not in made["made"][0].as_py()
    assert (await database.status())["retention"] == {}
    await database.stop()


@needs_clickhouse_server
async def test_an_old_server_says_what_it_lacks(server: ClickHouseServer, tmp_path: Path) -> None:
    database = Database(settings(tmp_path, server.url))
    await database.query("SELECT 1")
    health = await database.status()
    assert health["version"].startswith("18.")
    assert health["lacks"] == ["column codecs and the index of trades by time", "retention"]
    assert health["retention"] == {}
    await database.stop()


async def test_wrong_arguments_are_said_at_once(database: Database) -> None:
    with pytest.raises(ValueError, match="no table 'pictures'"):
        await database.insert("pictures", "binance", trades(1))
    with pytest.raises(ValueError, match="no rows of bars"):
        await database.insert("bars", "binance", trades(1))
    no_price = trades(1).set_column(4, "price", pa.nulls(1, pa.float64()))
    with pytest.raises(ValueError, match=r"no rows of trades: .*price"):
        await database.insert("trades", "binance", no_price)
    with pytest.raises(QueryFailed):
        await database.query("SELECT nothing FROM nowhere")


async def test_a_refused_table_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    database = Database(settings(tmp_path))
    await database.query("ALTER TABLE trades ADD CONSTRAINT no_two CHECK trade_id != 2")
    for number in (1, 2, 3):
        await database.insert("trades", "binance", trades(1, first_id=number))
    assert await database.flush()
    assert await count(database) == 2
    health = await database.status()
    assert (health["tables_rejected"], health["rows_written"], health["pending"]) == (1, 2, 0)
    await database.stop()


async def test_a_long_query_blocks_neither_the_loop_nor_writing(database: Database) -> None:
    await database.flush()
    slow = asyncio.ensure_future(database.query("SELECT max(cityHash64(number)) FROM numbers(300000000)"))
    started = time.monotonic()
    await asyncio.sleep(0)
    await database.insert("trades", "binance", trades(10))
    assert await database.flush()
    assert not slow.done(), "the query was too quick to show anything"
    assert time.monotonic() - started < 5
    await slow


async def test_embedded_rows_survive_closing(tmp_path: Path) -> None:
    first = Database(settings(tmp_path))
    await first.insert("trades", "binance", trades(10))
    await first.stop()
    second = Database(settings(tmp_path))
    assert await count(second) == 10
    assert (await second.status())["kind"] == "embedded"
    await second.stop()


async def test_without_a_server_nothing_raises_and_rows_wait_on_the_disk(tmp_path: Path) -> None:
    url = f"clickhouse://default:geheim@127.0.0.1:{free_port()}/rayfeed"
    database = Database(settings(tmp_path, url, max_pending=3))

    async def tried() -> bool:
        return (await database.status())["available"] is False

    for number in range(5):
        await database.insert("trades", "binance", trades(1, first_id=number))
    await until(tried)
    health = await database.status()
    assert (health["pending"], health["tables_dropped"]) == (5, 0)
    assert health["spooled_bytes"] > 5 * 100
    assert "cannot be reached" in health["last_error"]
    assert "geheim" not in f"{health} {database!r}"
    assert not await database.flush(timeout=0.05)
    with pytest.raises(DatabaseUnavailable):
        await newest_bars(database, "binance", "BTCUSDT", "1m", 1)
    await database.stop(timeout=0.05)


@pytest.mark.parametrize("stopped", [True, False])
async def test_what_waited_when_it_was_stopped_or_killed_is_written_after_the_next_start(
    tmp_path: Path, stopped: bool
) -> None:
    url = f"clickhouse://default:@127.0.0.1:{free_port()}/rayfeed"
    away = Database(settings(tmp_path, url, max_pending=2))
    for number in range(10):
        tables = {("trades", "okx"): trades(5, first_id=5 * number), ("bars", "okx"): bars([1], close=float(number))}
        await away.take(packed({**tables, ("pictures", "okx"): trades(1)}))
    if stopped:
        await away.stop(timeout=0.05)
    else:
        assert away._writer is not None
        away._writer.cancel()
    back = Database(settings(tmp_path, max_pending=2))
    assert await back.flush()
    assert await count(back) == 50
    # Of the same bar the one that came last, though all were written in one insert and in another process.
    assert (await newest_bars(back, "okx", "BTCUSDT", "1m", 5))["close"].to_pylist() == [9.0]
    health = await back.status()
    assert (health["tables_dropped"], health["tables_rejected"], health["pending"]) == (0, 0, 0)
    await back.stop()
    assert list((tmp_path / "spool").glob("*.spool")) == [] or not stopped


async def test_what_another_version_left_and_nobody_can_read_is_counted_and_holds_up_nothing(tmp_path: Path) -> None:
    left = Spool(tmp_path / "spool", 2**30)
    for table, rows in (("forecasts", trades(1)), ("bars", trades(1)), ("trades", trades(4))):
        left.append(Described(table, "okx", 1, rows.num_rows), packed({0: rows})[0])
    database = Database(settings(tmp_path))
    assert await database.flush()
    assert await count(database) == 4
    health = await database.status()
    assert (health["tables_dropped"], health["rows_written"], health["pending"]) == (2, 4, 0)
    await database.stop()


async def test_a_full_spool_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    url = f"clickhouse://default:@127.0.0.1:{free_port()}/rayfeed"
    chosen = load(tmp_path, {"sinks": {"max_pending": 2, "spool_bytes": 2**20}})
    away = Database(chosen.model_copy(update={"clickhouse_url": url}))
    away._waiting.spool = Spool(tmp_path / "spool", 2**20, segment_bytes=2**17)
    for number in range(100):
        await away.insert("trades", "okx", trades(1000, first_id=1000 * number))
        health = await away.status()
        assert health["spooled_bytes"] <= 2**20
        # Nobody remembers what was dropped.
        assert health["pending"] <= 20
    away._database = open_clickhouse(None, tmp_path / "clickhouse")
    assert await away.flush()
    dropped = (await away.status())["tables_dropped"]
    assert 50 < dropped < 100
    assert await count(away) == 1000 * (100 - dropped)
    newest = await away.query("SELECT max(trade_id) AS newest FROM trades")
    assert newest["newest"][0].as_py() == 99_999
    await away.stop()


async def test_when_the_disk_is_full_rows_wait_in_memory_and_the_oldest_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"clickhouse://default:@127.0.0.1:{free_port()}/rayfeed"
    away = Database(settings(tmp_path, url, max_pending=3))

    def full(*_: object) -> Record:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number in range(7):
        if number == 2:
            monkeypatch.setattr(away._waiting.spool, "append", full)
        await away.insert("trades", "okx", trades(1, first_id=number))
    assert "No space left" in (await away.status())["last_error"]
    away._database = open_clickhouse(None, tmp_path / "clickhouse")
    assert await away.flush()
    ids = await away.query("SELECT trade_id FROM trades FINAL ORDER BY trade_id")
    # The first two are on the disk, of the others memory has room for three.
    assert ids["trade_id"].to_pylist() == [0, 1, 4, 5, 6]
    assert (await away.status())["tables_dropped"] == 2
    await away.stop()


@needs_clickhouse_server
async def test_rows_inserted_while_the_server_is_away_arrive_once(tmp_path: Path) -> None:
    with ClickHouseServer(tmp_path / "server") as server:
        database = Database(settings(tmp_path, server.url))
        await database.insert("trades", "binance", trades(100))
        assert await database.flush()
        await asyncio.to_thread(server.stop)
        for number in range(1, 5):
            await database.insert("trades", "binance", trades(100, first_id=1 + number * 100))
            await database.insert("bars", "binance", bars([number]))

        async def noticed() -> bool:
            return (await database.status())["available"] is False

        await until(noticed)
        await asyncio.to_thread(server.start)
        assert await database.flush()
        assert await count(database) == 500
        assert (await newest_bars(database, "binance", "BTCUSDT", "1m", 10)).num_rows == 4
        health = await database.status()
        assert (health["tables_dropped"], health["tables_rejected"], health["pending"]) == (0, 0, 0)
        await database.stop()


async def test_a_server_that_lost_its_tables_gets_them_again(server: ClickHouseServer | None, tmp_path: Path) -> None:
    if server is None:
        pytest.skip("clickhouse-server is not installed (apt-get install clickhouse-server)")
    database = Database(settings(tmp_path, server.url))
    await database.insert("trades", "binance", trades(1))
    assert await database.flush()
    other = open_clickhouse(server.url, tmp_path)
    other.query("DROP DATABASE rayfeed")
    other.close()
    await database.insert("trades", "binance", trades(7, first_id=100))
    assert await database.flush()
    assert await count(database) == 7
    await database.stop()
