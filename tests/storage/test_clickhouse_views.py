"""What the views say when rows come twice, late, out of order or changed, on both engines: the same as when each came
once.
"""

import itertools

import pytest

from storage.clickhouse import ClickHouse
from tests.storage.clickhouses import empty, server

__all__ = ["empty", "server"]

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 20_000 * DAY

#: ts_event, trade_id, price: two in the same minute, one at the same time as the last but with an older id.
TRADES = [
    (START + 5, 1, 10.0),
    (START + 6, 2, 30.0),
    (START + 3 * HOUR, 3, 5.0),
    (START + 3 * HOUR + MINUTE, 5, 7.0),
    (START + 3 * HOUR + MINUTE, 4, 8.0),
    (START + DAY, 6, 9.0),
]


@pytest.fixture
def database(empty: ClickHouse) -> ClickHouse:
    empty.migrate()
    return empty


def insert_trades(database: ClickHouse, *rows: tuple[int, int, float], symbol: str = "A") -> None:
    given = " UNION ALL ".join(
        f"SELECT 'okx' AS exchange, '{symbol}' AS symbol, toInt64({at}) AS ts_event, toInt64({at}) AS ts_recv,"
        f" toInt64({number}) AS trade_id, toFloat64({price}) AS price, toFloat64(2) AS size, toUInt8(1) AS side"
        for at, number, price in rows
    )
    columns = "exchange, symbol, ts_event, ts_recv, trade_id, price, size, side"
    database.query(f"INSERT INTO trades ({columns}) SELECT {columns} FROM ({given})")


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2]))[::2])
def test_trades_that_come_twice_and_late_count_once(database: ClickHouse, order: tuple[int, ...]) -> None:
    parts = [TRADES[:2], TRADES[2:5], TRADES[5:]]
    for place in (*order, *order, 0):
        insert_trades(database, *parts[place])
    insert_trades(database, (START, 1, 1.0), symbol="B")
    for _ in range(2):
        last = database.query("SELECT * FROM latest_trades WHERE symbol = 'A'").to_pylist()
        assert [(row["ts_event"], row["trade_id"], row["price"], row["size"], row["side"]) for row in last] == [
            (START + DAY, 6, 9.0, 2.0, 1)
        ]
        days = database.query("SELECT * FROM coverage WHERE symbol = 'A' ORDER BY day").to_pylist()
        assert [list(row.values())[2:] for row in days] == [
            [START, 3, START + 5, START + 3 * HOUR + MINUTE, 1, 5, 5.0, 30.0],
            [START + DAY, 1, START + DAY, START + DAY, 6, 6, 9.0, 9.0],
        ]
        # It says the same after the parts were merged.
        for table in ("latest_trades_state", "coverage_state"):
            database.query(f"OPTIMIZE TABLE {table} FINAL")


def test_of_trades_at_the_same_time_the_latest_is_that_with_the_highest_id(database: ClickHouse) -> None:
    for rows in (TRADES[3:4], TRADES[4:5]):
        insert_trades(database, *rows)
    assert database.query("SELECT trade_id FROM latest_trades")["trade_id"].to_pylist() == [5]


def test_the_latest_quote_is_that_of_the_newest_event_and_may_lack_a_side(database: ClickHouse) -> None:
    quotes = [
        (START + 9, 1, "1.5", "NULL"),
        (START, 7, "9", "9"),
        (START + 9, 3, "NULL", "2.5"),
        (START + 9, 2, "4", "4"),
    ]
    columns = "exchange, symbol, ts_event, ts_recv, sequence, bid_price, ask_price"
    for at, sequence, bid, ask in (*quotes, *quotes):
        database.query(
            f"INSERT INTO quotes ({columns}) SELECT 'okx', 'A', {at}, {at}, {sequence}, {bid} AS b, {ask} AS a"
        )
    assert database.query("SELECT * FROM latest_quotes").to_pylist() == [
        {"exchange": "okx", "symbol": "A", "ts_event": START + 9, "ts_recv": START + 9}
        | {"bid_price": None, "bid_size": None, "ask_price": 2.5, "ask_size": None}
    ]


def test_a_bar_that_comes_twice_or_is_revised_counts_once(database: ClickHouse) -> None:
    columns = "exchange, symbol, timeframe, time, open, high, low, close, volume, trade_count, closed, version"
    bars = [("1h", 0, 10, 4, 1), ("1h", HOUR, 3, 2, 1), ("1d", 0, 13, 6, 1), ("1h", 0, 12, 5, 2), ("1d", 0, 15, 7, 2)]
    for timeframe, at, volume, trades, version in (*bars, *bars):
        database.query(
            f"INSERT INTO bars ({columns}) SELECT 'okx', 'A', '{timeframe}', {START + at}, 1 AS a, 2 AS b, 3 AS c,"
            f" 4 AS d, {volume} AS e, {trades} AS f, 1 AS g, {version} AS h"
        )
    hours = database.query("SELECT time, trades, volume FROM trades_per_hour ORDER BY time").to_pylist()
    assert [tuple(row.values()) for row in hours] == [(START, 5, 12.0), (START + HOUR, 2, 3.0)]
    assert database.query("SELECT sum(trades) AS n FROM trades_per_hour")["n"].to_pylist() == [7]
    days = database.query("SELECT time, trades, volume FROM bars_per_day").to_pylist()
    assert [tuple(row.values()) for row in days] == [(START, 7, 15.0)]


def test_views_know_what_was_there_before_them(database: ClickHouse) -> None:
    insert_trades(database, *TRADES)
    before = [database.query(f"SELECT * FROM {view} ORDER BY 1, 2, 3").to_pylist() for view in VIEWS]
    for name in ("latest_trades", "coverage"):
        for table in (name, f"{name}_feed", f"{name}_state"):
            database.query(f"DROP TABLE {table}")
    database.query("DROP TABLE migrations")
    for _ in range(2):
        database.migrate()
    assert [database.query(f"SELECT * FROM {view} ORDER BY 1, 2, 3").to_pylist() for view in VIEWS] == before
    assert len(before[1]) == 2


VIEWS = ("latest_trades", "coverage")
