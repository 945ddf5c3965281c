"""Rows of another node are answered as if they were here, byte for byte, in every format, whatever their number."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors import data_node as data_node_module
from actors.data_node import AnswerGone, DataNode
from actors.placement import Placement
from config import Settings, load
from config.node_folder import disk_of
from serve_apps import other_nodes
from serve_apps.data import DataApp, build
from serve_apps.market import MarketApp, Resource
from serve_apps.other_nodes import OtherNodes, both
from serve_apps.trades import TRADES, TradesApp
from storage.column_reader import ColumnReader
from tests.actors.exchanges import Handle
from tests.polling import until
from tests.serve_apps.asgi_client import ask
from tests.storage.stored import DAY, MIDNIGHT, append

BEGIN, END = MIDNIGHT // 10**9, (MIDNIGHT + 3 * DAY) // 10**9
ALL = f"start={BEGIN}&end={END}"


@pytest.fixture
def there(tmp_path: Path) -> Settings:
    """A folder with three days of one symbol, and one whose folder is called otherwise."""
    settings = load(tmp_path / "there")
    for day in range(3):
        append(settings.data, "binance", "BTCUSDT", range(1, 3000), MIDNIGHT + day * DAY)
    append(settings.data, "kraken", "BTC/USD", range(1, 50))
    return settings


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    settings = load(tmp_path / "here")
    append(settings.data, "binance", "ETHUSDT", range(1, 50))
    # What was left when the symbol went to the other node.
    append(settings.data, "kraken", "BTC/USD", range(1, 5))
    return settings


@pytest.fixture
async def apps(here: Settings, there: Settings) -> AsyncIterator[tuple[DataApp, DataApp, OtherNodes]]:
    """The application where the rows are, and one that is elsewhere."""
    own, other = disk_of(here.data), disk_of(there.data)
    placement = Placement(1, 1, (0,), {0: other, 1: own}, {"binance": {"ETHUSDT": 1}})
    handle = Handle(DataNode(there))

    def node(disk: str) -> Any:
        assert disk == other
        return handle

    others = OtherNodes(here, lambda: placement, node, asyncio.run)
    yield build(there), build(here, elsewhere=others), others
    if others._looking is not None:
        others._looking.cancel()


COLUMNS = "columns=time,nanos,price,size,side,id,price64"
ASKED = [
    f"exchange=binance&symbol=BTCUSDT&type=TRADES&{ALL}&{COLUMNS}",
    f"exchange=binance&symbol=BTCUSDT&type=MD&{ALL}&columns=time,best_bid,best_ask64",
    f"exchange=binance&symbol=BTCUSDT&type=TRADES&{ALL}&columns=time_ns,price64",
    f"exchange=binance&symbol=BTCUSDT&type=TRADES&start={BEGIN}&end={BEGIN + 100}&columns=price,price,time_ns",
    f"exchange=binance&symbol=BTCUSDT&type=TRADES&start=5&end=1&{COLUMNS}",
    f"exchange=binance&symbol=BTCUSDT&type=OTHER&{ALL}&columns=price",
    f"exchange=kraken&symbol=BTC%2FUSD&type=TRADES&{ALL}&{COLUMNS}",
    f"exchange=kraken&symbol=BTC_USD&type=TRADES&{ALL}&{COLUMNS}",
    *(
        f"exchange=binance&symbol=BTCUSDT&type=TRADES&{ALL}&columns=time_ns,price64&max_points={points}&decimate={how}"
        for points in (2, 100, 100_000)
        for how in ("stride", "last", "minmax")
    ),
    *(
        f"exchange=binance&symbol=BTCUSDT&type=TRADES&{ALL}&columns=time_ns,price64,id&format={form}"
        for form in ("arrow", "csv", "ndjson", "parquet")
    ),
]


@pytest.mark.parametrize("piece_bytes", [1 << 20, 70_000])
@pytest.mark.parametrize("query", ASKED)
async def test_an_answer_is_the_same_as_where_the_rows_are(
    apps: tuple[DataApp, DataApp, OtherNodes], query: str, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_node_module, "PIECE_BYTES", piece_bytes)
    own, elsewhere, _ = apps
    for headers in ({}, {"range": "bytes=10-5000"}, {"accept-encoding": "gzip"}):
        expected = await ask(own, f"/api/data?{query}", headers=headers)
        found = await ask(elsewhere, f"/api/data?{query}", headers=headers)
        assert (found.status, found.headers) == (expected.status, expected.headers)
        assert found.body == expected.body
    assert elsewhere.at_once(query.encode()) is None, "the event loop never waits for another node"


@pytest.mark.parametrize("query", ["order=asc&limit=700", "limit=50", "order=asc&format=arrow", "limit=0"])
async def test_pages_of_trades_are_the_same_too(
    apps: tuple[DataApp, DataApp, OtherNodes], here: Settings, there: Settings, query: str
) -> None:
    _, _, others = apps
    await others.first_look()
    own = paged(ColumnReader(there.columns))
    elsewhere = paged(ColumnReader(here.columns), others)
    for symbol in ("BTCUSDT", "NONE"):
        cursor = ""
        for _ in range(3):
            path = f"/api/v1/trades/{symbol}?exchange=binance&{query}{cursor}"
            expected, found = await ask(own, path), await ask(elsewhere, path)
            assert (found.status, found.headers) == (expected.status, expected.headers)
            assert expected.status >= 400 or found.body == expected.body
            if expected.status == 200 and "arrow" not in query:
                cursor = f"&cursor={expected.json['next_cursor']}"
    others._nodes.clear()
    away = await ask(elsewhere, "/api/v1/trades/BTCUSDT?exchange=binance")
    assert (away.status, away.headers["retry-after"]) == (503, "1")


def paged(reader: ColumnReader, others: OtherNodes | None = None) -> MarketApp:
    def symbols() -> dict[str, list[str]]:
        return reader.symbols() if others is None else both(reader.symbols(), others.symbols())

    return MarketApp([Resource(TRADES, ("GET",), TradesApp(reader, symbols, others))])


async def test_what_is_asked_for_again_with_its_tag_is_not_sent_again(
    apps: tuple[DataApp, DataApp, OtherNodes],
) -> None:
    own, elsewhere, _ = apps
    tag = (await ask(own, f"/api/data?{ASKED[0]}")).headers["etag"]
    assert (await ask(elsewhere, f"/api/data?{ASKED[0]}", headers={"if-none-match": tag})).status == 304


async def test_errors_are_the_same_too(apps: tuple[DataApp, DataApp, OtherNodes], there: Settings) -> None:
    own, elsewhere, _ = apps
    (there.columns / "binance" / "BTCUSDT" / "TRADES" / "price64.18.08.25.bin").unlink()
    for query in (ASKED[0], f"exchange=binance&symbol=BTCUSDT&type=TRADES&{ALL}&columns=nothing"):
        expected, found = await ask(own, f"/api/data?{query}"), await ask(elsewhere, f"/api/data?{query}")
        assert found.status == expected.status >= 400
        assert found.body == expected.body


async def test_what_is_here_and_there_is_listed_together_and_new_symbols_are_found(
    apps: tuple[DataApp, DataApp, OtherNodes], there: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_nodes, "LOOK_S", 0.05)
    _, elsewhere, others = apps
    listed = (await ask(elsewhere, "/api/symbols")).json
    assert listed["exchanges"] == {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC_USD"]}
    status = (await ask(elsewhere, "/api/status")).json
    assert {row["exchange"]: row["symbols_checked"] for row in status["exchanges"]}["binance"] == 2
    append(there.data, "binance", "NEWUSDT", range(1, 9))

    await until(lambda: "NEWUSDT" in others.symbols()["binance"])
    assert "NEWUSDT" in (await ask(elsewhere, "/api/symbols")).json["exchanges"]["binance"]
    answer = await ask(elsewhere, f"/api/data?exchange=binance&symbol=NEWUSDT&type=TRADES&{ALL}&columns=id")
    assert answer.columns[0]["num_records"] == 8


async def test_a_node_that_does_not_answer_is_said_to_be_asked_again(
    apps: tuple[DataApp, DataApp, OtherNodes],
) -> None:
    _, elsewhere, others = apps
    assert (await ask(elsewhere, f"/api/data?{ASKED[0]}")).status == 200
    others._nodes.clear()
    answer = await ask(elsewhere, f"/api/data?{ASKED[0]}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    await until(lambda: others.known)


async def test_answers_that_nobody_goes_on_with_are_let_go_of(there: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_node_module, "PIECE_BYTES", 1000)
    node = DataNode(there)
    asked = data_node_module.Asked("binance", "BTCUSDT", "TRADES", 0, 2**62, ("id",), None, "stride")
    first = await node.rows(asked)
    assert first.columns is None
    for _ in range(data_node_module.MOST_OPEN):
        await node.rows(asked)
    with pytest.raises(AnswerGone):
        await node.piece(first.answer, "id", 0, 10)
    assert (await node.status())["answers_open"] == data_node_module.MOST_OPEN
