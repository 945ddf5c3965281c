"""`/api/data` and `/api/symbols` as existing clients see them, over a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import load
from serve_apps.data import build
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS
from tests.polling import wait_until
from tests.serve_apps.conftest import (
    DAY,
    DAY_SECONDS,
    Stored,
    asked,
    data_app,
    expected,
    fetch,
    made_rows,
    serving,
    target,
)

TRADES = list(COLUMNS["TRADES"])
LIMIT = 2**32 - 1


@pytest.fixture(scope="module")
def port(stored: Stored) -> Iterator[int]:
    with serving(build(load(stored.root.parent))) as port:
        yield port


# --- errors and routes


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Missing query string"),
        ("?&", "Missing symbol"),
        ("?symbol=a", "Missing type"),
        ("?symbol=a&type=MD", "Missing start"),
        ("?symbol=a&type=MD&start=1.5", "Invalid start: invalid digit found in string"),
        ("?symbol=a&type=MD&start=1", "Missing end"),
        ("?symbol=a&type=MD&start=1&end=", "Invalid end: cannot parse integer from empty string"),
        ("?symbol=a&type=MD&start=1&end=4294967296", "Invalid end: number too large to fit in target type"),
        ("?symbol=a&type=MD&start=1&end=2", "Missing columns"),
        ("?symbol=a&type=MD&start=1&end=2&columns=../../etc", "Unknown column: ..?..?etc"),
    ],
)
def test_a_bad_request_is_plain_text_without_a_content_type(port: int, query: str, text: str) -> None:
    answer = fetch(port, f"/api/data{query}")
    assert (answer.status, answer.body.decode()) == (400, text)
    assert "content-type" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-length"] == str(len(text))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/data/"),
        ("GET", "/api/symbols/"),
        ("GET", "/API/DATA"),
        ("POST", "/api/data?symbol=a"),
        ("POST", "/api/symbols"),
        ("DELETE", "/api/symbol-search?q=btc"),
        ("GET", "/api/status/"),
        ("HEAD", "/api/nothing"),
        ("PUT", "/api/data"),
    ],
)
def test_anything_else_is_not_found(port: int, method: str, path: str) -> None:
    answer = fetch(port, path, method)
    assert answer.status == 404
    assert answer.body == (b"" if method == "HEAD" else b"Not Found")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("path", ["/api/data", "/api/symbols", "/anything/at/all"])
def test_options_allows_every_origin_on_any_path(port: int, path: str) -> None:
    answer = fetch(port, path, "OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "Content-Type"


# --- the binary answer


def test_the_whole_body_is_header_line_then_columns(port: int, stored: Stored) -> None:
    answer = fetch(port, target(DAY + 5, DAY + 25, "time,id,price"))
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    line = (
        b'{"columns":[{"data_length":16,"name":"time","num_records":4,"record_size":4},'
        b'{"data_length":32,"name":"id","num_records":4,"record_size":8},'
        b'{"data_length":16,"name":"price","num_records":4,"record_size":4}]}\n'
    )
    assert answer.body == line + expected(rows, ["time", "id", "price"], DAY + 5, DAY + 25)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        (DAY, DAY, 2),  # every row of a repeated first second
        (DAY + 86_399, DAY + 86_399, 2),  # and of a repeated last second
        (DAY + 10, DAY + 10, 3),
        (DAY + 10, DAY + 20, 4),
        (DAY + 11, DAY + 19, 0),
        (DAY + 20, DAY + DAY_SECONDS, 4),  # over midnight
        (DAY, DAY + 4 * DAY_SECONDS, 15),  # over a day without files
        (0, 4_294_967_295, 15),
        (DAY + 2 * DAY_SECONDS, DAY + 3 * DAY_SECONDS - 1, 0),
        (DAY + 3 * DAY_SECONDS + 100, 4_294_967_295, 3),
        (0, DAY - 1, 0),
        (4_294_967_295, 4_294_967_295, 0),
        (DAY + 10, DAY + 9, 0),  # start after end
        (4_294_967_295, 0, 0),
    ],
)
def test_both_ends_of_the_range_are_included(port: int, stored: Stored, start: int, end: int, count: int) -> None:
    answer = fetch(port, target(start, end, ",".join(TRADES)))
    assert answer.status == 200
    assert [column["num_records"] for column in answer.columns] == [count] * len(TRADES)
    assert answer.binary == expected(stored.rows["coinbase", "BTC-USD", "TRADES"], TRADES, start, end)


def test_columns_of_8_and_16_bytes_have_their_true_record_size(port: int) -> None:
    answer = fetch(port, target(DAY, DAY, "id,maker_order_id,price64,price"))
    assert [column["record_size"] for column in answer.columns] == [8, 16, 8, 4]
    assert [column["data_length"] for column in answer.columns] == [16, 32, 16, 8]


def test_a_column_asked_for_twice_comes_twice_with_the_same_rows(port: int, stored: Stored) -> None:
    answer = fetch(port, target(DAY, DAY + 20, "price,time,price"))
    assert [(column["name"], column["num_records"]) for column in answer.columns] == [
        ("price", 6),
        ("time", 6),
        ("price", 6),
    ]
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    assert answer.binary == expected(rows, ["price", "time", "price"], DAY, DAY + 20)


def test_quotes_are_the_md_type(port: int, stored: Stored) -> None:
    columns = ["time", "nanos", "price", "volume", "side", "best_bid", "best_ask"]
    answer = fetch(port, target(DAY, DAY + 9, ",".join(columns), kind="MD"))
    assert answer.binary == expected(stored.rows["coinbase", "BTC-USD", "MD"], columns, DAY, DAY + 9)
    assert len(answer.binary) == 3 * 4 * 7


def test_another_exchange_is_asked_for_by_name(port: int, stored: Stored) -> None:
    answer = fetch(port, target(DAY, DAY + 9, "time,price", "XBT_USD") + "&exchange=kraken")
    assert answer.binary == expected(stored.rows["kraken", "XBT_USD", "TRADES"], ["time", "price"], DAY, DAY + 9)
    answer = fetch(port, target(DAY, DAY + 9, "time", "tAAVE:USD", "MD") + "&exchange=bitfinex")
    assert answer.columns[0]["num_records"] == 1


@pytest.mark.parametrize(
    "query",
    [
        target(DAY, DAY + 9, symbol="NOT-LISTED"),
        target(DAY, DAY + 9, symbol=""),
        target(DAY, DAY + 9, symbol="btc-usd"),
        target(DAY, DAY + 9, kind="trades"),
        target(DAY, DAY + 9, kind=""),
        target(DAY, DAY + 9, symbol="XBT_USD"),  # of another exchange
        target(DAY, DAY + 9) + "&exchange=nowhere",
        target(DAY, DAY + 9) + "&exchange=",
        target(DAY, DAY + 9) + "&exchange=Coinbase",
    ],
)
def test_what_is_not_stored_has_no_rows(port: int, query: str) -> None:
    answer = fetch(port, query)
    assert (answer.status, answer.binary) == (200, b"")
    assert answer.body == (
        b'{"columns":[{"data_length":0,"name":"time","num_records":0,"record_size":4},'
        b'{"data_length":0,"name":"price","num_records":0,"record_size":4}]}\n'
    )


@pytest.mark.parametrize(
    ("points", "stride"), [(15, 1), (1000, 1), (14, 2), (8, 2), (7, 3), (5, 3), (4, 4), (2, 8), (1, 15)]
)
def test_max_points_keeps_every_nth_row_across_days(port: int, stored: Stored, points: int, stride: int) -> None:
    answer = fetch(port, target(0, LIMIT, "time,id,taker_order_id") + f"&max_points={points}")
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    assert answer.binary == expected(rows, ["time", "id", "taker_order_id"], 0, LIMIT, stride)
    assert answer.columns[0]["num_records"] == -(-15 // stride) <= points


@pytest.mark.parametrize("points", ["0", "-5", "2.5", "x", ""])
def test_a_max_points_that_makes_no_sense_is_ignored(port: int, points: str) -> None:
    assert fetch(port, target(0, LIMIT) + f"&max_points={points}").columns[0]["num_records"] == 15


@settings(max_examples=150, deadline=None)
@given(
    columns=st.lists(st.sampled_from(TRADES), min_size=1, max_size=12),
    start=st.integers(DAY - 10, DAY + 4 * DAY_SECONDS),
    length=st.integers(-10, 4 * DAY_SECONDS),
    points=st.none() | st.integers(1, 20),
)
def test_the_lengths_in_the_header_add_up_to_the_bytes_behind_it(
    stored: Stored, columns: list[str], start: int, length: int, points: int | None
) -> None:
    app = data_app(ColumnReader(stored.root), LIMIT)
    limit = "" if points is None else f"&max_points={points}"
    query = target(start, start + length, ",".join(columns)).partition("?")[2] + limit
    answer = asked(app, query)
    assert [column["name"] for column in answer.columns] == columns
    assert sum(column["data_length"] for column in answer.columns) == len(answer.binary)
    assert all(c["data_length"] == c["num_records"] * c["record_size"] for c in answer.columns)
    assert answer.headers["content-length"] == str(len(answer.body))
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    selected = len(expected(rows, ["time"], start, start + length)) // 4
    stride = max(1, -(-selected // points)) if points else 1
    assert answer.binary == expected(rows, columns, start, start + length, stride)


# --- hostile names


@pytest.mark.parametrize("where", ["exchange", "symbol", "type"])
@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "../..",
        "../decoy",
        "../decoy/BTC-USD",
        "../../decoy/BTC-USD",
        "..%2Fdecoy",
        "%2e%2e%2fdecoy",
        "..%252Fdecoy",
        "..%5Cdecoy",
        "../columns/coinbase",
        "BTC-USD/../BTC-USD",
        "BTC-USD%00",
        "%00",
        "{outside}",
        "coinbase/BTC-USD",
        "TRADES/../MD",
        "~",
        "*",
        "x" * 5000,
        "%FF%FE",
    ],
)
def test_no_name_leads_out_of_the_folder(stored: Stored, port: int, where: str, name: str) -> None:
    outside = stored.root.parent / "decoy"
    assert any((outside / "BTC-USD" / "TRADES").glob("time.*.bin"))
    values = {"exchange": "coinbase", "symbol": "BTC-USD", "type": "TRADES"}
    values[where] = name.replace("{outside}", str(outside))
    query = "&".join(f"{key}={value}" for key, value in values.items())
    answer = fetch(port, f"/api/data?{query}&start=0&end={LIMIT}&columns=time")
    assert (answer.status, answer.binary) == (200, b"")
    assert answer.columns[0]["num_records"] == 0


def test_no_column_leads_out_of_the_folder(port: int) -> None:
    for column in ["../MD/time", "..%2FMD%2Fbest_bid", "time.18.08.25.bin%00", "/etc/passwd", "x" * 5000]:
        answer = fetch(port, target(0, LIMIT, column))
        assert answer.status == 400
        assert answer.body.startswith(b"Unknown column: ")
        assert len(answer.body) < 80
        assert b"/" not in answer.body


# --- symbols


def test_symbols_are_listed_by_exchange_and_together(port: int) -> None:
    answer = fetch(port, "/api/symbols")
    assert answer.body == (
        b'{"exchanges":{"bitfinex":["tAAVE:USD"],"coinbase":["BTC-USD","LARGE-USD"],"kraken":["XBT_USD"]},'
        b'"symbols":["BTC-USD","LARGE-USD","XBT_USD","tAAVE:USD"]}'
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-cache-status"] == "MEMORY"
    assert answer.headers["x-fetch-time-ms"] == "0"


@pytest.mark.parametrize(
    ("query", "exchanges"),
    [
        ("?exchange=kraken", {"kraken": ["XBT_USD"]}),
        ("?x=1&exchange=kraken&exchange=coinbase", {"kraken": ["XBT_USD"]}),
        ("?exchange=%6Braken", {}),  # the value is taken as it is
        ("?exchange=nowhere", {}),
        ("?exchange=", {}),
    ],
)
def test_symbols_of_one_exchange(port: int, query: str, exchanges: dict[str, list[str]]) -> None:
    answer = fetch(port, f"/api/symbols{query}")
    assert answer.status == 200
    symbols = [name for names in exchanges.values() for name in names]
    assert answer.body == json.dumps({"exchanges": exchanges, "symbols": symbols}, separators=(",", ":")).encode()


def test_a_query_that_names_no_exchange_lists_all_symbols(port: int) -> None:
    assert fetch(port, "/api/symbols?").body == fetch(port, "/api/symbols?x=1").body == fetch(port, "/api/symbols").body


def test_a_symbol_on_two_exchanges_is_listed_once(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    for exchange in ("kraken", "coinbase"):
        writer.append(exchange, "ETH-USD", "TRADES", made_rows("TRADES", [DAY]))
    writer.close()
    with serving(build(load(tmp_path))) as port:
        answer = fetch(port, "/api/symbols")
    assert answer.body == b'{"exchanges":{"coinbase":["ETH-USD"],"kraken":["ETH-USD"]},"symbols":["ETH-USD"]}'


def test_a_new_symbol_shows_within_five_seconds(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    with serving(build(load(tmp_path))) as port:
        assert fetch(port, "/api/symbols").body == b'{"exchanges":{},"symbols":[]}'
        query = target(DAY, DAY, "time", "NEW/USD") + "&exchange=kraken"
        assert fetch(port, query).binary == b""
        writer.append("kraken", "NEW/USD", "TRADES", made_rows("TRADES", [DAY]))

        def shows() -> bool:
            listed = b'"kraken":["NEW_USD"]' in fetch(port, "/api/symbols").body
            # Who lists and who reads look for new ones each by himself.
            return listed and fetch(port, query.replace("%2F", "_")).columns[0]["num_records"] == 1

        wait_until(shows, within_s=5)
    writer.close()
