"""What happened, what is collected and what fired, in the real tables."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.alerter import Alerter
from actors.chronicle import Chronicle
from actors.database import Database
from actors.feeds.instruments import instrument_table
from actors.parcels import packed
from config import load
from storage import redis
from tests.actors.alerting.tables import EXCHANGE, NOW, PRICE, prices
from tests.polling import until
from tests.servers import PASSWORD, ClickHouseServer, free_port, needs_clickhouse_server
from tests.storage.clickhouses import server

__all__ = ["server"]

_numbers = itertools.count()


class Method:
    def __init__(self, called: Any) -> None:
        self.remote = called


class Handle:
    """What Ray gives for the actor."""

    def __init__(self, database: Database) -> None:
        self.insert = Method(database.insert)


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
async def database(
    request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path
) -> AsyncIterator[Database]:
    of_server = server is not None and request.param == "server"
    url = f"{server.url}_{next(_numbers)}" if server is not None and of_server else None
    opened = Database(load(tmp_path).model_copy(update={"clickhouse_url": url}))
    yield opened
    await opened.stop()


def listed(*symbols: str, decimals: int = 2) -> pa.Table:
    same = {"instrument": "BTC-USDT", "kind": "spot", "base": "BTC", "quote": "USDT", "price_decimals": decimals}
    return instrument_table([{"symbol": symbol, **same} for symbol in symbols])


async def test_what_happened_is_a_row_for_each_symbol(database: Database) -> None:
    chronicle = Chronicle(Handle(database), lambda: 7)
    chronicle.note("symbols_added", "symbols", "from now on", exchange="okx", symbols=["A", "B"], by=1)
    chronicle.note("symbols_added", "symbols", "nothing", exchange="okx", symbols=[])
    chronicle.note("system_stopped", "supervisor", "asked to stop", severity="warning")
    await chronicle.flush(10)
    assert await database.flush()
    rows = await database.query("SELECT * FROM audit_log FINAL ORDER BY event, symbol")
    found = [(row["time"], row["event"], row["exchange"], row["symbol"], row["details"]) for row in rows.to_pylist()]
    assert found == [
        (7, "symbols_added", "okx", "A", '{"by":1}'),
        (7, "symbols_added", "okx", "B", '{"by":1}'),
        (7, "system_stopped", "", "", "{}"),
    ]


async def test_symbols_are_what_an_exchange_lists_and_whether_that_is_collected(database: Database) -> None:
    now = 10**18
    chronicle = Chronicle(Handle(database), lambda: now)
    assert chronicle.is_due("okx", ["A", "B"])
    chronicle.list_is("okx", listed("A", "B", "C"), ["A", "B"])
    assert not chronicle.is_due("okx", ["B", "A"])
    assert chronicle.is_due("okx", ["A"])
    chronicle.list_is("okx", listed("A", "B", decimals=3), ["A"])
    now += 601 * 10**9
    assert chronicle.is_due("okx", ["A"])
    await chronicle.flush(10)
    assert await database.flush()
    asked = "SELECT symbol, active, collected, price_decimals FROM symbols FINAL ORDER BY symbol"
    rows = await database.query(asked)
    assert [tuple(row.values()) for row in rows.to_pylist()] == [("A", 1, 1, 3), ("B", 1, 0, 3), ("C", 0, 0, 2)]


async def test_a_list_that_has_not_changed_is_not_written_again(database: Database) -> None:
    chronicle = Chronicle(Handle(database), lambda: 10**18)
    for _ in range(2):
        chronicle.list_is("okx", listed("A", "B"), ["A"])
        await chronicle.flush(10)
        assert await database.flush()
    assert (await database.status())["rows_written"] == 2


async def test_what_fired_is_stored_once(database: Database, tmp_path: Path) -> None:
    nowhere = redis.url(free_port(), PASSWORD)
    alerter = Alerter(load(tmp_path), nowhere, False, Handle(database), clock=lambda: NOW)
    await alerter.add("one", PRICE)
    await alerter.take(packed({("trades", EXCHANGE): prices(99, 101)}))

    async def arrived() -> bool:
        await database.flush()
        return (await database.query("SELECT * FROM alerts FINAL")).num_rows == 1

    await until(arrived)
    await alerter.stop()
    # Nobody could be told, so it is stored again after a restart, in the same row.
    again = Alerter(load(tmp_path), nowhere, False, Handle(database), clock=lambda: NOW)
    before = (await database.status())["rows_written"]
    await again.status()

    async def written() -> bool:
        await database.flush()
        return (await database.status())["rows_written"] > before

    await until(written)
    await again.stop()
    rows = (await database.query("SELECT alert_id, symbol, value FROM alerts FINAL")).to_pylist()
    assert rows == [{"alert_id": "one", "symbol": "BTCUSDT", "value": 101.0}]
