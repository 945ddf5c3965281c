"""What `/api/data` has beyond the legacy server: formats, encodings, nanoseconds, decimation, caching, parts."""

import gzip
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from config import load
from serve_apps.data import build
from serve_apps.data_conditions import accepted_format
from storage.column_layout import join_time
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.day_seal import measured, write_seal
from storage.schema import COLUMNS
from tests.serve_apps.asgi_client import Answer
from tests.serve_apps.conftest import DAY, DAY_SECONDS, Stored, asked, data_app, fetch, made_rows, serving, target

LIMIT = 2**32 - 1
TRADES = list(COLUMNS["TRADES"])
ALL = ",".join(["time_ns", *TRADES])


@pytest.fixture(scope="module")
def port(stored: Stored) -> Iterator[int]:
    with serving(build(load(stored.root.parent))) as port:
        yield port


def of(stored: Stored, symbol: str = "BTC-USD") -> dict[str, Any]:
    rows: dict[str, Any] = dict(stored.rows["coinbase", symbol, "TRADES"])
    return rows | {"time_ns": join_time(rows["time"], rows["nanos"])}


# --- nanoseconds


def test_time_ns_is_a_column_of_eight_bytes(port: int, stored: Stored) -> None:
    answer = fetch(port, target(0, LIMIT, "price,time_ns"))
    assert answer.columns[1] == {"data_length": 120, "name": "time_ns", "num_records": 15, "record_size": 8}
    assert answer.binary == of(stored)["price"].tobytes() + of(stored)["time_ns"].tobytes()


@pytest.mark.parametrize(("first", "last"), [(2, 3), (2, 2), (0, 14), (6, 8)])
def test_a_range_in_nanoseconds_includes_both_ends(port: int, stored: Stored, first: int, last: int) -> None:
    times = of(stored)["time_ns"]
    query = "/api/data?symbol=BTC-USD&type=TRADES&columns=time_ns"
    assert (
        fetch(port, f"{query}&start_ns={times[first]}&end_ns={times[last]}").binary == times[first : last + 1].tobytes()
    )
    tight = f"{query}&start_ns={times[first] + 1}&end_ns={times[last] - 1}"
    assert fetch(port, tight).binary == times[first + 1 : last].tobytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("&start_ns=1", "Give start or start_ns, not both."),
        ("&end_ns=x", "Give end or end_ns, not both."),
        ("&decimate=median", "decimate must be one of: stride, last, minmax."),
        ("&format=xml", "format must be one of: binary, arrow, parquet, csv, ndjson."),
        ("&decimate=minmax&max_points=1", "max_points must be 2 to 1000000 with decimate=minmax."),
    ],
)
def test_an_option_nobody_knows_is_a_problem(port: int, options: str, says: str) -> None:
    answer = fetch(port, target(0, LIMIT) + options)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json["detail"] == says


@pytest.mark.parametrize("sent", ["-1", "1.5", "", "x", "18446744073709551616", "1" * 5000])
def test_nanoseconds_are_a_whole_number_of_64_bits(port: int, sent: str) -> None:
    query = f"/api/data?symbol=a&type=MD&columns=time&end=1&start_ns={sent}"
    assert (fetch(port, query).status, b"start_ns must be" in fetch(port, query).body) == (400, True)


# --- fewer rows


@pytest.mark.parametrize("points", [1, 2, 4, 7, 8, 14])
def test_the_last_of_each_bucket_always_has_the_newest_row(port: int, stored: Stored, points: int) -> None:
    every = -(-15 // points)
    kept = [min(first + every, 15) - 1 for first in range(0, 15, every)]
    answer = fetch(port, target(0, LIMIT, "id,time_ns") + f"&max_points={points}&decimate=last")
    assert answer.binary == of(stored)["id"][kept].tobytes() + of(stored)["time_ns"][kept].tobytes()


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("TRADES", "price64", "price64"), ("MD", "best_bid64", "best_ask64")]
)
@pytest.mark.parametrize("points", [2, 3, 10, 64, 399])
def test_the_lowest_and_the_highest_price_of_each_bucket_stay(
    tmp_path: Path, kind: Any, low: str, high: str, points: int
) -> None:
    random = np.random.default_rng(3)
    rows = made_rows(kind, DAY + np.sort(random.integers(0, 3 * DAY_SECONDS, 400)))
    for name in {low, high}:
        rows[name] = np.where(random.random(400) < (kind == "MD") / 10, np.nan, random.integers(0, 50, 400) / 8)
    writer = ColumnWriter(tmp_path, 64)
    writer.append("coinbase", "BTC-USD", kind, rows)
    writer.close()
    query = target(0, LIMIT, "time_ns", kind=kind).partition("?")[2] + f"&decimate=minmax&max_points={points}"
    answer = asked(data_app(ColumnReader(tmp_path), LIMIT), query)
    every = -(-400 // (points // 2))
    kept: set[int] = set()
    for first in range(0, 400, every):
        bucket = slice(first, first + every)
        kept.add(first + int(np.argmin(np.nan_to_num(rows[low][bucket], nan=np.inf))))
        kept.add(first + int(np.argmax(np.nan_to_num(rows[high][bucket], nan=-np.inf))))
    assert answer.binary == join_time(rows["time"], rows["nanos"])[sorted(kept)].tobytes()
    assert answer.columns[0]["num_records"] <= points


# --- formats


def read_as(form: str, body: bytes) -> pa.Table:
    if form == "arrow":
        return pa.ipc.open_stream(body).read_all()
    if form == "parquet":
        return pq.read_table(io.BytesIO(body))
    if form == "csv":
        return pacsv.read_csv(io.BytesIO(body))
    return pa.Table.from_pylist([json.loads(line) for line in body.splitlines()])


TYPES = {
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}


@pytest.mark.parametrize("by", ["parameter", "accept"])
@pytest.mark.parametrize("form", TYPES)
def test_each_format_has_the_rows_of_the_files(port: int, stored: Stored, form: str, by: str) -> None:
    if by == "parameter":
        answer = fetch(port, target(0, LIMIT, ALL) + f"&format={form}")
    else:
        answer = fetch(port, target(0, LIMIT, ALL), headers={"Accept": f"{TYPES[form].partition(';')[0]}, */*;q=0.1"})
    assert (answer.status, answer.headers["content-type"]) == (200, TYPES[form])
    table, rows = read_as(form, answer.body), of(stored)
    assert table.column_names == ["time_ns", *TRADES]
    for name in ("time_ns", "time", "nanos", "id", "side"):
        assert table[name].to_pylist() == rows[name].tolist(), name
    for name in ("price", "size", "price64", "size64"):
        values = [float("nan") if value is None else value for value in table[name].to_pylist()]
        found, kept = np.asarray(values, rows[name].dtype), np.isfinite(rows[name])
        assert np.array_equal(found[kept], rows[name][kept]), name
    ids = [row.tobytes() for row in rows["maker_order_id"]]
    assert [str(value) for value in table["maker_order_id"].to_pylist()] == [
        str(uuid.UUID(bytes=one)) if form in ("csv", "ndjson") else str(one) for one in ids
    ]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "binary"),
        ("application/json, text/plain, */*", "binary"),
        ("*/*, TEXT/CSV", "csv"),
        ("text/csv;q=0.2, application/x-ndjson;q=0.7", "ndjson"),
        ("text/csv;q=0, */*", "binary"),
        ("text/csv;q=x", "binary"),
        (",;,;q=1,", "binary"),
        ("application/octet-stream, text/csv;q=0.9", "binary"),
    ],
)
def test_the_format_that_is_liked_best_is_chosen(accept: str, form: str) -> None:
    assert accepted_format(accept) == form


@pytest.mark.parametrize("form", TYPES)
def test_a_large_answer_of_each_format_is_whole(port: int, stored: Stored, form: str) -> None:
    answer = fetch(port, target(0, LIMIT, "id,price64", "LARGE-USD") + f"&format={form}")
    assert read_as(form, answer.body)["id"].to_pylist() == of(stored, "LARGE-USD")["id"].tolist()


@pytest.mark.parametrize("form", TYPES)
def test_no_rows_are_an_empty_table(port: int, form: str) -> None:
    answer = fetch(port, target(0, 1, "time,price") + f"&format={form}")
    assert answer.status == 200
    if form == "ndjson":
        assert answer.body == b""
    else:
        assert (read_as(form, answer.body).num_rows, read_as(form, answer.body).column_names) == (0, ["time", "price"])


def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    rows = made_rows("TRADES", [DAY, DAY + 1])
    rows["price64"], rows["price"] = np.array([np.nan, 0.1]), np.array([np.inf, 0.1], "<f4")
    rows["taker_order_id"] = np.zeros(2, "V16")
    writer = ColumnWriter(tmp_path, 64)
    writer.append("coinbase", "BTC-USD", "TRADES", rows)
    app = data_app(ColumnReader(tmp_path), LIMIT)
    query = target(DAY, DAY + 1, "price64,price,taker_order_id").partition("?")[2]
    assert asked(app, f"{query}&format=ndjson").body == (
        b'{"price64":null,"price":null,"taker_order_id":null}\n{"price64":0.1,"price":0.1,"taker_order_id":null}\n'
    )
    assert asked(app, f"{query}&format=csv").body == b"price64,price,taker_order_id\n,inf,\n0.1,0.1,\n"
    table = read_as("arrow", asked(app, f"{query}&format=arrow").body)
    assert (table["price64"].null_count, table["taker_order_id"].null_count) == (1, 2)
    writer.close()


# --- encodings


def unpacked(answer: Answer) -> bytes:
    coding = answer.headers.get("content-encoding")
    if coding == "gzip":
        return gzip.decompress(answer.body)
    if coding == "zstd":
        unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(answer.body), "zstd").read()
        return unpacked
    return answer.body


@pytest.mark.parametrize(
    ("form", "accepts", "coding"),
    [
        ("binary", "gzip, deflate, br, zstd", "zstd"),
        ("binary", "gzip", None),  # takes longer than it saves
        ("binary", "zstd;q=0, *", None),
        ("arrow", "zstd", "zstd"),
        ("csv", "gzip;q=0.5", "gzip"),
        ("csv", "gzip, zstd", "zstd"),
        ("ndjson", "gzip", "gzip"),
        ("parquet", "gzip, zstd", None),
    ],
)
def test_a_body_is_packed_where_it_pays(port: int, form: str, accepts: str, coding: str | None) -> None:
    query = target(0, LIMIT, "time,price64", "LARGE-USD") + f"&format={form}"
    plain, packed = fetch(port, query), fetch(port, query, headers={"Accept-Encoding": accepts})
    assert packed.headers.get("content-encoding") == coding
    assert unpacked(packed) == plain.body
    if coding is not None:
        assert len(packed.body) < len(plain.body)
        assert packed.headers["etag"] != plain.headers["etag"]
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_few_numbers_are_not_packed(port: int) -> None:
    assert "content-encoding" not in fetch(port, target(0, LIMIT), headers={"Accept-Encoding": "zstd"}).headers


# --- what caches and download managers ask


@pytest.mark.parametrize(
    "path", [target(DAY, DAY + 20), target(0, LIMIT, ALL, "LARGE-USD"), "/api/symbols", "/api/status"]
)
def test_head_is_get_without_the_body(port: int, path: str) -> None:
    head, get = fetch(port, path, "HEAD"), fetch(port, path)
    assert (head.status, head.body) == (200, b"")
    assert len(get.body) == int(head.headers["content-length"])
    same = ("content-type", "etag", "cache-control", "accept-ranges")
    assert [head.headers.get(name) for name in same] == [get.headers.get(name) for name in same]


def test_who_has_the_answer_gets_304_until_a_row_is_added(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY, DAY + 50]))
    query = target(DAY, DAY + 99)
    with serving(build(load(tmp_path))) as port:
        first = fetch(port, query)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "no-cache"
        for said in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = fetch(port, query, headers={"If-None-Match": said})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert fetch(port, query, headers={"If-None-Match": '"other"'}).status == 200
        assert fetch(port, target(DAY, DAY + 98), headers={"If-None-Match": tag}).status == 200
        # One at the end, and one that is merged in.
        for number, second in enumerate((DAY + 60, DAY + 10)):
            writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [second], seed=5 + number))
            changed = fetch(port, query, headers={"If-None-Match": tag})
            assert (changed.status, changed.columns[0]["num_records"]) == (200, 3 + number)
            tag = changed.headers["etag"]
    writer.close()


def test_only_a_range_of_sealed_days_is_immutable(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "columns", 64)
    rows = made_rows("TRADES", [DAY, DAY + DAY_SECONDS, DAY + 2 * DAY_SECONDS])
    writer.append("coinbase", "BTC-USD", "TRADES", rows)
    folder = tmp_path / "columns" / "coinbase" / "BTC-USD" / "TRADES"
    days = [Day(folder, "TRADES", DAY // DAY_SECONDS + number) for number in range(3)]
    app = data_app(ColumnReader(tmp_path / "columns"), LIMIT)

    def cached(first: int, days_on: int) -> tuple[str, str]:
        query = target(DAY + first * DAY_SECONDS, DAY + (first + days_on) * DAY_SECONDS).partition("?")[2]
        answer = asked(app, query)
        return answer.headers["cache-control"], answer.headers["etag"]

    for day in days[:2]:
        writer.forget(day)
        write_seal(day, measured(day))
    immutable = "public, max-age=3600, immutable"
    sealed = cached(0, 1)
    assert [cached(*span)[0] for span in ((0, 0), (1, 0), (0, 1))] == [immutable] * 3
    # The open day, one that is not there, both with sealed ones, and a range that ends before it begins.
    assert [cached(*span)[0] for span in ((2, 0), (-1, 0), (1, 1), (-1, 1), (1, -1))] == ["no-cache"] * 5
    for path in folder.glob("time.*"):
        path.touch()
    assert cached(0, 1) == sealed
    # A late row takes the seal off.
    writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY + 5], seed=9))
    late = cached(0, 1)
    assert late[0] == "no-cache"
    assert late[1] != sealed[1]
    writer.close()


@pytest.mark.parametrize("symbol", ["BTC-USD", "LARGE-USD"])
@pytest.mark.parametrize("options", ["", "&max_points=7", "&max_points=70000"])
def test_a_part_of_an_answer_has_those_bytes(port: int, symbol: str, options: str) -> None:
    query = target(0, LIMIT, "time_ns,price,taker_order_id", symbol) + options
    whole = fetch(port, query)
    size = len(whole.body)
    assert whole.headers["accept-ranges"] == "bytes"
    middle = size // 3
    for said, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, size - 1),
        (f"bytes={middle}-{size - 2}", middle, size - 2),
        (f"bytes={size - 1}-{size + 50}", size - 1, size - 1),
        ("bytes=-5", size - 5, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1),
    ]:
        part = fetch(port, query, headers={"Range": said, "If-Range": whole.headers["etag"]})
        assert (part.status, part.headers["content-range"]) == (206, f"bytes {first}-{last}/{size}"), said
        assert part.body == whole.body[first : last + 1], said
        assert part.headers["content-length"] == str(last - first + 1)


def test_a_part_that_there_is_not_is_416(port: int) -> None:
    size = len(fetch(port, target(0, LIMIT)).body)
    for said in (f"bytes={size}-", "bytes=-0"):
        answer = fetch(port, target(0, LIMIT), headers={"Range": said})
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize("said", ["bytes=5-2", "bytes=0-1,4-5", "rows=0-1", "bytes=", "bytes=-", "bytes=x-", "0-5"])
def test_a_range_that_is_none_is_answered_whole(port: int, said: str) -> None:
    answer = fetch(port, target(0, LIMIT), headers={"Range": said})
    assert (answer.status, answer.columns[0]["num_records"]) == (200, 15)


def test_parts_of_an_answer_that_changed_are_not_mixed(port: int) -> None:
    answer = fetch(port, target(0, LIMIT), headers={"Range": "bytes=5-", "If-Range": '"older"'})
    assert (answer.status, answer.columns[0]["num_records"]) == (200, 15)
