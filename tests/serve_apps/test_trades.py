"""Trades page by page: from real column files, while rows are added to them, over a real server."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.market import MarketApp, Resource
from serve_apps.trades import ROUTE, SETTLED_NS, TRADES, TradesApp
from storage.column_layout import to_columns
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import TRADES as SCHEMA
from tests.serve_apps.asgi_client import ask, check_problem
from tests.serve_apps.conftest import Stored, fetch, serving

SECOND = 1_000_000_000
START = 1_755_475_200 * SECOND
DAY = 86_400 * SECOND
PATH = f"{TRADES}BTC%2FUSD"


def batch(trades: list[tuple[int, int]]) -> pa.RecordBatch:
    """Trades at these times (ns) with these ids."""
    rows = [
        {"symbol": "BTC/USD", "ts_event": ns, "ts_recv": ns, "trade_id": trade_id, "price": trade_id / 8}
        | {"size": 0.5, "side": trade_id % 2}
        for ns, trade_id in sorted(trades)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


class Market:
    """The application over column files that a writer adds to."""

    def __init__(self, folder: Path, now_ns: int = START + 10 * DAY) -> None:
        self.writer = ColumnWriter(folder, 64)
        self.now_ns = now_ns
        reader = ColumnReader(folder, rescan_s=0)
        app = TradesApp(reader, reader.symbols, clock=lambda: self.now_ns)
        self.app = MarketApp([Resource(TRADES, ("GET", "HEAD"), app, [ROUTE])])

    def store(self, trades: list[tuple[int, int]]) -> None:
        self.writer.append("kraken", "BTC/USD", "TRADES", to_columns("TRADES", batch(trades)))

    async def page(self, query: str) -> Any:
        answer = await ask(self.app, f"{PATH}?{query}")
        assert answer.status == 200, answer.body
        return answer.json

    async def ids(self, query: str, meanwhile: Any = lambda: None) -> list[int]:
        """Of all pages, until there is no other one or one is empty."""
        found: list[int] = []
        cursor = ""
        while True:
            said = await self.page(query + cursor)
            found += [trade["trade_id"] for trade in said["trades"]]
            if not said["trades"] or said["next_cursor"] is None:
                return found
            cursor = f"&cursor={said['next_cursor']}"
            meanwhile()


@pytest.fixture
def market(tmp_path: Path) -> Any:
    market = Market(tmp_path)
    yield market
    market.writer.close()


async def test_the_newest_trades_come_first_and_say_everything(market: Market) -> None:
    market.store([(START, 1), (START + 5, 2)])
    said = await market.page("")
    assert said["next_cursor"] is None
    assert said["trades"] == [
        {"time": START + 5, "trade_id": 2, "price": 0.25, "size": 0.5, "side": "buy"},
        {"time": START, "trade_id": 1, "price": 0.125, "size": 0.5, "side": "sell"},
    ]


async def test_a_range_of_time_has_its_start_and_not_its_end(market: Market) -> None:
    market.store([(START + day * DAY, day + 1) for day in range(5)])
    assert await market.ids(f"order=asc&start={START + DAY}&end={START + 3 * DAY}") == [2, 3]
    assert await market.ids("start=2025-08-19&end=2025-08-21T00:00Z&limit=1") == [3, 2]
    assert await market.ids(f"start={START // SECOND + 1}&end={START // SECOND + 2}") == []


async def test_pages_of_the_newest_are_not_shifted_by_trades_that_come_meanwhile(market: Market) -> None:
    market.store([(START + n, n) for n in range(50)])
    new = iter(range(50, 100))

    def more() -> None:
        number = next(new)
        market.store([(START + number, number)])

    assert await market.ids("limit=7", more) == list(range(49, -1, -1))


async def test_who_follows_gets_every_trade_once_while_they_come(market: Market) -> None:
    market.store([(START + n // 3, n) for n in range(10)])
    new = iter(range(10, 40))

    def more() -> None:
        numbers = [number for number in (next(new, None), next(new, None)) if number is not None]
        if numbers:
            market.store([(START + number // 3, number) for number in numbers])

    assert await market.ids("order=asc&limit=4", more) == list(range(40))


async def test_who_follows_waits_until_a_moment_is_settled(market: Market) -> None:
    market.now_ns = START + SETTLED_NS + 10
    market.store([(START, 1), (START + 10, 3)])
    said = await market.page("order=asc")
    assert [trade["trade_id"] for trade in said["trades"]] == [1]
    market.store([(START + 10, 2)])
    market.now_ns += 1
    assert await market.ids(f"order=asc&cursor={said['next_cursor']}") == [2, 3]


async def test_nothing_stored_yet_still_gives_a_cursor_to_go_on_with(market: Market) -> None:
    market.store([(START, 1)])
    said = await market.page(f"order=asc&start={START + 5}")
    assert said["trades"] == []
    market.store([(START + 4, 2), (START + 5, 3)])
    assert await market.ids(f"order=asc&start={START + 5}&cursor={said['next_cursor']}") == [3]


async def test_ids_above_the_signed_range_keep_their_order(market: Market) -> None:
    market.store([(START, -5), (START, 3), (START, 2**62)])
    assert await market.ids("order=asc&limit=1") == [3, 2**62, -5]
    assert await market.ids("order=desc&limit=1") == [-5, 2**62, 3]


@settings(max_examples=60, deadline=None)
@given(
    stored=st.dictionaries(st.integers(0, 300), st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60),
    later=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=8),
    limit=st.integers(1, 9),
    descending=st.booleans(),
)
def test_pages_together_are_the_rows_whatever_comes_meanwhile(
    tmp_path_factory: pytest.TempPathFactory,
    stored: dict[int, tuple[int, int]],
    later: list[tuple[int, int]],
    limit: int,
    descending: bool,
) -> None:
    market = Market(tmp_path_factory.mktemp("columns"))
    rows = [(START + day * DAY + ns, number) for number, (day, ns) in stored.items()]
    market.store(rows or [(START, 0)])
    new = iter([(START + day * DAY + ns, 1000 + number) for number, (day, ns) in enumerate(later)])

    def more() -> None:
        if (one := next(new, None)) is not None:
            market.store([one])

    found = asyncio.run(market.ids(f"limit={limit}&order={'desc' if descending else 'asc'}", more))
    market.writer.close()
    # What comes meanwhile may lie on either side; what was there must come, in order, and nothing twice.
    wanted = [number for _, number in sorted(rows or [(START, 0)], reverse=descending)]
    assert [number for number in found if number < 1000] == wanted
    assert len(found) == len(set(found))


async def test_arrow_has_the_same_rows_and_the_cursor(market: Market) -> None:
    market.store([(START + n, n) for n in range(5)])
    answer = await ask(market.app, f"{PATH}?limit=3&format=arrow")
    table = pa.ipc.open_stream(answer.body).read_all()
    assert table["trade_id"].to_pylist() == [4, 3, 2]
    cursor = table.schema.metadata[b"next_cursor"].decode()
    assert await market.ids(f"limit=3&cursor={cursor}") == [1, 0]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit must be"),
        ("limit=10001", "limit must be"),
        ("order=up", "order must be one of"),
        ("start=yesterday", "start must be a time"),
        ("start=1999-01-01", "in the years"),
        ("start=9999-12-31T23:59:59-23:00", "start must be"),
        ("start=2025-01-02&end=2025-01-01", "start must be before end"),
        ("cursor=", "cursor must have"),
        ("cursor=AAAA", "next_cursor of the page before"),
        ("cursor=%00%FF", "next_cursor of the page before"),
        ("cursor=" + "A" * 300, "cursor must have"),
        ("from=1", "no from here"),
    ],
)
async def test_a_bad_question_says_what_is_wrong(market: Market, query: str, says: str) -> None:
    market.store([(START, 1)])
    await check_problem(market.app, f"{PATH}?{query}", 400, says)


async def test_a_cursor_of_the_other_order_is_refused(market: Market) -> None:
    market.store([(START + n, n) for n in range(3)])
    cursor = (await market.page("limit=1"))["next_cursor"]
    await check_problem(market.app, f"{PATH}?order=asc&cursor={cursor}", 400, "in the other order")


async def test_a_symbol_nobody_stored_is_not_found(market: Market) -> None:
    await check_problem(market.app, f"{TRADES}NOPE", 404, "No exchange has such a symbol")
    await check_problem(market.app, f"{TRADES}..%2F..%2Fdecoy", 404, "No exchange has such a symbol")


def test_all_trades_of_a_large_file_come_over_a_real_server(stored: Stored) -> None:
    reader = ColumnReader(stored.root)
    app = MarketApp([Resource(TRADES, ("GET", "HEAD"), TradesApp(reader, reader.symbols), [ROUTE])])
    found: list[int] = []
    with serving(app) as port:
        path = f"{TRADES}{quote('LARGE-USD')}?order=asc&limit=10000&start=2025-08-18&end=2025-08-19"
        cursor: str | None = ""
        while cursor is not None:
            answer = fetch(port, path + (f"&cursor={cursor}" if cursor else ""))
            assert (answer.status, answer.headers["api-version"]) == (200, "1")
            said = json.loads(answer.body)
            found += [trade["trade_id"] for trade in said["trades"]]
            cursor = said["next_cursor"]
    ids = stored.rows["coinbase", "LARGE-USD", "TRADES"]["id"].view(np.int64)
    assert len(found) == len(ids)
    assert (np.array(found) == ids).all()
