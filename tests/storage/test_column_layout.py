"""Names of column files, and conversion between Arrow and columns."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.column_layout import (
    FIRST_DAY,
    LAST_DAY,
    NANOS_PER_DAY,
    day_of_time_file,
    file_name,
    folder_name,
    from_columns,
    join_time,
    quotes_of_columns,
    split_time,
    to_columns,
)
from storage.schema import COLUMNS, QUOTES, TRADES, UNKNOWN_SIDE

NS = 1_000_000_000
T = 1_755_518_000 * NS + 123_456_789

times = st.integers(FIRST_DAY * NANOS_PER_DAY, (LAST_DAY + 1) * NANOS_PER_DAY - 1)


def trades(rows: Sequence[dict[str, object]]) -> pa.RecordBatch:
    usual = {"symbol": "BTC-USD", "ts_event": T, "ts_recv": T, "price": 1.0, "size": 1.0, "side": 0}
    return pa.RecordBatch.from_pylist([usual | row for row in rows], schema=TRADES)


def quotes(rows: Sequence[dict[str, object]]) -> pa.RecordBatch:
    usual = {"symbol": "BTC-USD", "ts_event": T, "ts_recv": T}
    return pa.RecordBatch.from_pylist([usual | row for row in rows], schema=QUOTES)


def test_a_file_is_named_by_column_and_utc_day() -> None:
    day = datetime(2025, 8, 3, tzinfo=UTC).timestamp() // 86_400
    assert file_name("best_bid", int(day)) == "best_bid.03.08.25.bin"


@given(st.integers(FIRST_DAY, LAST_DAY))
def test_every_day_of_the_century_is_found_again_by_its_name(day: int) -> None:
    assert day_of_time_file(file_name("time", day)) == day


@pytest.mark.parametrize(
    "name",
    ["price.03.08.25.bin", "time.31.02.25.bin", "time.03.08.25.bin.merge", "time.3.8.25.bin", "time.٠٣.08.25.bin"],
)
def test_other_names_are_no_day(name: str) -> None:
    assert day_of_time_file(name) is None


@pytest.mark.parametrize("day", [FIRST_DAY - 1, LAST_DAY + 1, -1])
def test_a_day_that_two_digits_cannot_name_is_refused(day: int) -> None:
    with pytest.raises(ValueError, match="2000 to 2099"):
        file_name("time", day)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("XBT/USD", "XBT_USD"),
        ("tAAVE:USD", "tAAVE:USD"),
        ("BTC-USD", "BTC-USD"),
        ("1INCH.P", "1INCH.P"),
        ("币安USDT", "币安USDT"),
    ],
)
def test_a_slash_in_a_symbol_is_an_underscore_on_disk(name: str, folder: str) -> None:
    assert folder_name(name) == folder


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a b", "a\\b", "a\0b", "a\n", "*", "x" * 101, "币" * 34, "~", "a%2f"]
)
def test_a_name_that_is_unsafe_in_a_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        folder_name(name)


@given(st.lists(times, max_size=20))
def test_times_survive_being_split(stamps: list[int]) -> None:
    ns = np.array(stamps, np.int64)
    time, nanos = split_time(ns)
    assert (time.dtype, nanos.dtype) == (np.dtype("<u4"), np.dtype("<u4"))
    assert join_time(time, nanos).tolist() == stamps


@pytest.mark.parametrize("stamp", [-1, 0, FIRST_DAY * NANOS_PER_DAY - 1, (LAST_DAY + 1) * NANOS_PER_DAY])
def test_a_time_without_a_file_is_refused(stamp: int) -> None:
    with pytest.raises(ValueError, match="2000 to 2099"):
        split_time(np.array([T, stamp], np.int64))


def test_trades_become_exactly_the_columns_of_the_schema() -> None:
    order = bytes(range(16))
    batch = trades([{"trade_id": 7, "price": 116_123.45, "size": 0.1, "side": 1, "maker_order_id": order}])
    columns = to_columns("TRADES", batch)
    assert {name: values.dtype for name, values in columns.items()} == COLUMNS["TRADES"]
    assert (columns["time"][0], columns["nanos"][0]) == (1_755_518_000, 123_456_789)
    assert columns["price"][0] == 116_123.453125
    assert columns["price64"][0] == 116_123.45
    assert columns["side"][0] == 1
    assert columns["maker_order_id"].tobytes() == order
    assert columns["taker_order_id"].tobytes() == bytes(16)


def test_quotes_become_exactly_the_columns_of_the_schema() -> None:
    known: dict[str, object] = {
        "sequence": 2,
        "bid_price": 1.1,
        "bid_size": 2.0,
        "ask_price": 1.2,
        "ask_size": 3.0,
        "last_price": 1.15,
        "last_size": 4.0,
        "last_side": 1,
    }
    columns = to_columns("MD", quotes([{"sequence": 1}, known]))
    assert {name: values.dtype for name, values in columns.items()} == COLUMNS["MD"]
    assert columns["side"].tolist() == [UNKNOWN_SIDE, 1]
    assert columns["sequence"].tolist() == [1, 2]
    stored = {name: float(values[1]) for name, values in columns.items() if "64" in name}
    assert stored == {
        "price64": 1.15,
        "size64": 4.0,
        "best_bid64": 1.1,
        "best_bid_size64": 2.0,
        "best_ask64": 1.2,
        "best_ask_size64": 3.0,
    }
    assert columns["volume"][1] == 4.0
    for name, values in columns.items():
        assert np.isnan(values[0]) == (values.dtype.kind == "f"), name


def test_a_price_beyond_f32_is_infinite_there_and_exact_beside_it() -> None:
    columns = to_columns("TRADES", trades([{"trade_id": 1, "price": 1e300}]))
    assert (columns["price"][0], columns["price64"][0]) == (np.inf, 1e300)


def test_a_null_that_the_schema_forbids_is_refused() -> None:
    with pytest.raises(ValueError, match="trade_id has 1 nulls"):
        to_columns("TRADES", trades([{"trade_id": None}]))


rows = st.fixed_dictionaries(
    {
        "ts_event": times,
        "trade_id": st.integers(0, 2**63 - 1),
        "price": st.floats(allow_nan=False),
        "size": st.floats(allow_nan=False),
        "side": st.sampled_from([0, 1]),
        "maker_order_id": st.none() | st.binary(min_size=16, max_size=16).filter(any),
        "taker_order_id": st.none() | st.binary(min_size=16, max_size=16).filter(any),
    }
)


@given(st.lists(rows, max_size=12), st.integers(0, 12))
def test_trades_come_back_as_they_were(stored: list[dict[str, object]], skip: int) -> None:
    batch = trades(stored).slice(min(skip, len(stored)))
    table = from_columns("BTC-USD", to_columns("TRADES", batch))
    assert table.schema == TRADES
    expected = [row | {"ts_recv": row["ts_event"]} for row in batch.to_pylist()]
    assert table.to_pylist() == expected


known = st.none() | st.floats(allow_nan=False)
quote_rows = st.fixed_dictionaries(
    {"ts_event": times, "sequence": st.integers(0, 2**63 - 1), "last_side": st.none() | st.sampled_from([0, 1])}
    | dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size", "last_price", "last_size"), known)
)


@given(st.lists(quote_rows, max_size=12))
def test_quotes_come_back_as_they_were(stored: list[dict[str, object]]) -> None:
    rows = [{"symbol": "BTC-USD", "ts_recv": row["ts_event"], **row} for row in stored]
    batch = pa.RecordBatch.from_pylist(rows, schema=QUOTES)
    table = quotes_of_columns("BTC-USD", to_columns("MD", batch))
    assert table.schema == QUOTES
    assert table.to_pylist() == batch.to_pylist()
