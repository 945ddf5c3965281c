"""Both engines, real ones, against the same expectations."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.clickhouse import ClickHouse, DatabaseUnavailable, QueryFailed, open_clickhouse
from storage.schema import SYMBOL, TRADES
from tests.servers import PASSWORD, ClickHouseServer, free_port, needs_clickhouse_server
from tests.storage.clickhouses import server

__all__ = ["server"]


HOSTILE = "x'; DROP TABLE trades --"
DAY = 86_400_000_000_000
START = 1_700_000_000_000_000_000


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
def database(request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path) -> Iterator[ClickHouse]:
    url = server.url if server is not None and request.param == "server" else None
    opened = open_clickhouse(url, tmp_path / "clickhouse")
    opened.migrate()
    opened.query("TRUNCATE TABLE trades")
    yield opened
    opened.close()


def trades(symbols: list[str], first_id: int = 1, order_id: bytes | None = None) -> pa.Table:
    count = len(symbols)
    columns = {
        "symbol": pa.array(symbols).dictionary_encode(),
        "ts_event": START + np.arange(count),
        "ts_recv": START + np.arange(count),
        "trade_id": first_id + np.arange(count),
        "price": np.full(count, 1.5),
        "size": np.full(count, 0.1),
        "side": np.zeros(count, np.uint8),
        "maker_order_id": pa.array([order_id] * count, pa.binary(16)),
        "taker_order_id": pa.nulls(count, pa.binary(16)),
    }
    table = pa.table(columns).cast(TRADES)
    return table.append_column("exchange", pa.array(["binance"] * count).dictionary_encode())


def count(database: ClickHouse) -> int:
    return int(database.query("SELECT count() AS n FROM trades FINAL")["n"][0].as_py())


def test_rows_come_back_as_they_went_in(database: ClickHouse) -> None:
    rows = trades(["BTCUSDT", HOSTILE, "ETH-USD"], order_id=bytes(range(1, 16)) + b"\0")
    database.insert("trades", rows)
    columns = ", ".join(rows.column_names)
    back = database.query(f"SELECT {columns} FROM trades ORDER BY trade_id")
    assert back.to_pydict() == rows.to_pydict()
    assert back.schema.field("maker_order_id").type == pa.binary(16)
    assert back.schema.field("symbol").type == pa.string()


def test_the_same_trades_inserted_twice_are_there_once(database: ClickHouse) -> None:
    for _ in range(2):
        database.insert("trades", trades(["BTCUSDT", "ETHUSDT"]))
    assert count(database) == 2


def test_chunks_with_different_dictionaries_keep_their_names(database: ClickHouse) -> None:
    rows = pa.concat_tables([trades(["A", "B"]), trades(["C", "A"], first_id=3)]).slice(1)
    database.insert("trades", rows)
    back = database.query("SELECT symbol FROM trades ORDER BY trade_id")
    assert back["symbol"].to_pylist() == ["B", "C", "A"]


def test_what_was_answered_stays_as_it_is_whatever_is_asked_afterwards(database: ClickHouse) -> None:
    count = 100_000
    sql = f"SELECT number, concat('name ', toString(number % 1000)) AS name FROM numbers({count})"
    answers = []
    for _ in range(8):
        answers.append(database.query(sql))
        database.query(f"SELECT toString(number) AS other, number + 7 AS more FROM numbers({2 * count})")
    numbers = np.arange(count)
    names = [f"name {number % 1000}" for number in range(count)]
    for answer in answers:
        answer.validate(full=True)
        assert np.array_equal(answer["number"].to_numpy(), numbers)
        assert answer["name"].to_pylist() == names


def test_record_batches_and_empty_tables_are_rows_too(database: ClickHouse) -> None:
    database.insert("trades", trades(["A"]).to_batches()[0])
    database.insert("trades", trades(["A"]).slice(1))
    assert count(database) == 1


def test_thousands_of_symbols_fit_into_one_insert(database: ClickHouse) -> None:
    names = [f"S{number % 700}" for number in range(70_000)]
    database.insert("trades", trades(names))
    found = database.query("SELECT symbol, trade_id FROM trades WHERE symbol = {s:String}", {"s": "S699"})
    assert found.num_rows == 100
    assert set((np.asarray(found["trade_id"]) - 1) % 700) == {699}


def test_a_hostile_symbol_is_data(database: ClickHouse) -> None:
    database.insert("trades", trades([HOSTILE, "BTCUSDT"]))
    found = database.query("SELECT symbol FROM trades WHERE symbol = {symbol:String}", {"symbol": HOSTILE})
    assert found["symbol"].to_pylist() == [HOSTILE]
    assert count(database) == 2


def test_times_nobody_expects_are_stored(database: ClickHouse) -> None:
    rows = trades(["A"] * 4)
    wild = pa.array([-(2**63), -1, 0, 2**63 - 1])
    database.insert("trades", rows.set_column(rows.schema.get_field_index("ts_event"), "ts_event", wild))
    back = database.query("SELECT ts_event FROM trades ORDER BY ts_event")
    assert back["ts_event"].to_pylist() == wild.to_pylist()


def test_rows_of_several_years_fit_into_one_insert(database: ClickHouse) -> None:
    rows = trades(["A"] * 1000)
    times = pa.array(START + np.arange(1000) * DAY)
    database.insert("trades", rows.set_column(rows.schema.get_field_index("ts_event"), "ts_event", times))
    assert count(database) == 1000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(codec="utf-8")) | st.sampled_from(["\\N", "NULL", "{n:Int64}", "%(n)s", "\\'", "--"]),
    texts=st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4),
    number=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    truth=st.booleans(),
)
def test_a_bound_parameter_is_never_read_as_sql(
    database: ClickHouse, text: str, texts: list[str], number: int, real: float, truth: bool
) -> None:
    back = database.query(
        "SELECT {text:String} AS text, toInt64({number:Int64}) AS number,"
        " toFloat64({real:Float64}) AS real, {truth:UInt8} AS truth, 1 -{number:Int64} AS difference",
        {"text": text, "number": number, "real": real, "truth": truth},
    ).to_pylist()[0]
    assert (back["text"], back["number"], back["truth"]) == (text, number, truth)
    joined = database.query("SELECT arrayJoin({texts:Array(String)}) AS text", {"texts": texts})
    assert joined["text"].to_pylist() == texts
    assert math.isclose(back["real"], real, rel_tol=1e-15)


def test_an_empty_result_still_has_its_columns(database: ClickHouse) -> None:
    empty = database.query("SELECT symbol, price, maker_order_id FROM trades WHERE symbol = 'nobody'")
    assert (empty.num_rows, empty.column_names) == (0, ["symbol", "price", "maker_order_id"])


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nowhere", "SELECT {missing:Int64}"])
def test_wrong_sql_fails_with_one_short_line(database: ClickHouse, sql: str) -> None:
    with pytest.raises(QueryFailed) as failure:
        database.query(sql)
    assert "\n" not in str(failure.value)
    assert "Stack trace" not in str(failure.value)


def test_a_name_that_is_none_is_refused_before_it_reaches_the_engine(database: ClickHouse) -> None:
    with pytest.raises(ValueError, match="no table or column name"):
        database.insert("trades; DROP TABLE trades", trades(["A"]))


def test_a_closed_database_is_unavailable(database: ClickHouse) -> None:
    database.close()
    with pytest.raises(DatabaseUnavailable):
        database.query("SELECT 1")
    with pytest.raises(DatabaseUnavailable):
        database.insert("trades", trades(["A"]))


def test_embedded_rows_survive_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        opened = open_clickhouse(None, tmp_path)
        opened.migrate()
        opened.insert("trades", trades(["A"]))
        assert count(opened) == 1
        opened.close()


def test_an_embedded_folder_in_use_is_unavailable(tmp_path: Path) -> None:
    opened = open_clickhouse(None, tmp_path)
    opened.migrate()
    script = (
        "import sys, pathlib\nfrom storage.clickhouse import *\n"
        "try: open_clickhouse(None, pathlib.Path(sys.argv[1])).query('SELECT 1')\n"
        "except DatabaseUnavailable as error: print(error)"
    )
    other = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    opened.close()
    assert "is another rayfeed using it?" in other.stdout, other.stderr


def test_a_server_nobody_runs_is_unavailable() -> None:
    nobody = open_clickhouse(f"clickhouse://default:{PASSWORD}@127.0.0.1:{free_port()}/rayfeed", Path())
    with pytest.raises(DatabaseUnavailable, match="cannot be reached") as failure:
        nobody.query("SELECT 1")
    assert PASSWORD not in str(failure.value) + repr(nobody)
    nobody.close()


@needs_clickhouse_server
def test_a_wrong_password_is_unavailable_not_a_wrong_query(server: ClickHouseServer) -> None:
    stranger = open_clickhouse(server.url.replace(PASSWORD, "wrong"), Path())
    with pytest.raises(DatabaseUnavailable):
        stranger.migrate()
    stranger.close()


@pytest.mark.parametrize("url", ["http://localhost", "clickhouse://", "clickhouse://h:port/x", "clickhouse://h/a;b"])
def test_a_wrong_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="CLICKHOUSE_URL must be"):
        open_clickhouse(url, Path())


def test_symbols_stay_dictionary_encoded_on_the_way_in() -> None:
    assert trades(["A"]).schema.field("symbol").type == SYMBOL
