"""The client against the real data API on loopback, and against servers that go wrong."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import client as module
from cluster.client import AsyncClient, BadAnswer, Client, RefusedError, connect
from cluster.client_columns import Range, table_of
from config import load
from serve_apps.asgi import Receive, Scope, Send, send_problem, send_whole
from serve_apps.data import build
from tests.serve_apps.conftest import DAY, DAY_SECONDS, Stored, serving, stored

__all__ = ["stored"]

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def port(stored: Stored) -> Iterator[int]:
    with serving(build(load(stored.root.parent))) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with connect(f"http://127.0.0.1:{port}/") as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)


def test_symbols_of_each_exchange(client: Client) -> None:
    assert client.symbols()["kraken"] == ["XBT_USD"]


def test_trades_of_a_range_are_those_that_are_stored(client: Client, stored: Stored) -> None:
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    table = client.trades("coinbase", "BTC-USD", DAY * SECOND, (DAY + 5 * DAY_SECONDS) * SECOND)
    assert table["ts_event"].to_pylist() == (rows["time"].astype(np.int64) * SECOND + rows["nanos"]).tolist()
    assert table["trade_id"].to_pylist() == rows["id"].tolist()
    np.testing.assert_array_equal(table["price"].to_numpy(), rows["price64"])
    assert table.schema.names == ["ts_event", "trade_id", "price", "size", "side"]


@settings(max_examples=30, deadline=None)
@given(start=st.integers(-5, 25), end=st.integers(-5, 25), nanos=st.integers(0, SECOND - 1))
def test_a_range_is_exact_to_the_nanosecond(port: int, stored: Stored, start: int, end: int, nanos: int) -> None:
    rows = stored.rows["coinbase", "BTC-USD", "TRADES"]
    times = rows["time"].astype(np.int64) * SECOND + rows["nanos"]
    first, last = (DAY + start) * SECOND + 2, (DAY + end) * SECOND + nanos
    with connect(f"http://127.0.0.1:{port}") as client:
        found = client.trades("coinbase", "BTC-USD", first, last)["ts_event"].to_pylist()
    assert found == times[(times >= first) & (times <= last)].tolist()


def test_times_are_texts_and_datetimes_too(client: Client) -> None:
    first = datetime.fromtimestamp(DAY, UTC)
    by_text = client.trades("coinbase", "BTC-USD", f"{first:%Y-%m-%d}", f"{first:%Y-%m-%d}")
    assert by_text.num_rows == 8
    assert client.trades("coinbase", "BTC-USD", first, datetime.fromtimestamp(DAY + 10, UTC)).num_rows == 2
    times = pd.to_datetime(client.trades("coinbase", "BTC-USD", DAY * SECOND)["ts_event"].to_pandas(), utc=True)
    assert module._ns(times.iloc[-1] + pd.Timedelta(1, "ns")) == times.iloc[-1].value + 1
    assert module._ns(np.int64(17)) == 17
    with pytest.raises(ValueError, match="no time zone"):
        client.trades("coinbase", "BTC-USD", datetime(2025, 8, 18))


def test_what_is_not_known_of_a_quote_is_null(tmp_path: Path) -> None:
    wanted = Range("quotes", "okx", "A", 0, 10 * SECOND)
    names = [("time", "<u4", 1), ("nanos", "<u4", 2), ("sequence", "<u8", 3), ("best_bid64", "<f8", 0.5)]
    names += [(name, "<f8", np.nan) for name in ("best_bid_size64", "best_ask64", "best_ask_size64")]
    names += [(name, "<f8", np.nan) for name in ("price64", "size64")]
    table = table_of(wanted, _body([(name, np.array([value], kind)) for name, kind, value in names]))
    (row,) = table.to_pylist()
    assert (row["ts_event"], row["bid_price"], row["ask_price"], row["last_price"]) == (SECOND + 2, 0.5, None, None)


def test_a_range_with_more_rows_than_an_answer_holds_is_asked_for_in_parts(stored: Stored) -> None:
    small = load(stored.root.parent, {"serving": {"max_reply_bytes": 500_000}})
    with serving(build(small)) as port, connect(f"http://127.0.0.1:{port}") as client:
        table = client.trades("coinbase", "LARGE-USD", DAY * SECOND, (DAY + DAY_SECONDS) * SECOND)
    np.testing.assert_array_equal(table["trade_id"].to_numpy(), stored.rows["coinbase", "LARGE-USD", "TRADES"]["id"])


def test_batches_of_a_range_are_the_whole_of_it(client: Client, stored: Stored) -> None:
    end = (DAY + 4 * DAY_SECONDS) * SECOND
    tables = list(client.batches("trades", "coinbase", "BTC-USD", DAY * SECOND, end, span_s=43_200))
    assert len(tables) == 6
    together = pa.concat_tables(tables)
    assert together.equals(client.trades("coinbase", "BTC-USD", DAY * SECOND, end))
    with pytest.raises(ValueError, match="1 or more"):
        next(client.batches("trades", "coinbase", "BTC-USD", DAY * SECOND, end, span_s=0))


def test_a_refusal_is_an_error_with_its_status_and_reason(client: Client) -> None:
    with pytest.raises(RefusedError, match="404: Not Found") as refused:
        client.get("/api/nothing")
    assert refused.value.status == 404


class Failing:
    """Answers 503 so many times before it answers."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        self.left -= 1
        if self.left >= 0:
            await send_problem(send, 503, "Not now.", [(b"retry-after", b"0")])
        else:
            body = json.dumps({"token": dict(scope["headers"]).get(b"authorization", b"").decode()}).encode()
            await send_whole(send, 200, [(b"content-type", b"application/json")], body)


def test_what_may_be_asked_again_is_asked_again_and_not_for_ever(impatient: None) -> None:
    for times, asked in ((3, 4), (99, module.ATTEMPTS)):
        app = Failing(times)
        with serving(app) as port, connect(f"http://127.0.0.1:{port}", token="secret") as client:
            if times < module.ATTEMPTS:
                assert client.get("/x") == {"token": "Bearer secret"}
            else:
                with pytest.raises(RefusedError, match="503: Not now"):
                    client.get("/x")
        assert app.asked == asked


def test_nobody_there_is_said_in_one_line(impatient: None) -> None:
    with (
        connect("http://127.0.0.1:1") as client,
        pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1 does not answer"),
    ):
        client.symbols()


def test_an_answer_that_is_cut_off_is_no_answer(port: int) -> None:
    wanted = Range("trades", "okx", "A", 0, SECOND)
    body = _body([(name, np.zeros(3, "<u4")) for name in ("time", "nanos")])
    for wrong in (b"", b"{}\n", body[:-1], body + b"x", body):
        with pytest.raises(BadAnswer):
            table_of(wanted, wrong)


async def test_the_same_in_asyncio(port: int, stored: Stored) -> None:
    async with AsyncClient(f"http://127.0.0.1:{port}") as client:
        tables = await asyncio.gather(
            *(client.trades("kraken", "XBT_USD", DAY * SECOND, (DAY + 9) * SECOND) for _ in range(5))
        )
    assert {table.num_rows for table in tables} == {1}


def _body(columns: list[tuple[str, np.ndarray[Any, Any]]]) -> bytes:
    said = [{"name": name, "data_length": values.nbytes} for name, values in columns]
    return json.dumps({"columns": said}).encode() + b"\n" + b"".join(values.tobytes() for _, values in columns)
