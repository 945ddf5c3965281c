"""What users get from the real recordings, end to end: socket, files, ClickHouse, Redis, HTTP, page, notebook."""

import json
import subprocess
from collections import Counter
from math import fsum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
import redis

from cluster.instance import Instance as InstanceFolder
from storage.schema import DEPTH, RowType
from storage.timeframes import TIMEFRAMES
from tests.browser import visit
from tests.cluster.recorded import (
    BOOKS,
    EXCHANGES,
    LIVE_TRADES,
    QUOTES,
    Trade,
    coinbase_book,
    kraken_book,
    recorded_derivatives,
    recorded_quotes,
    recorded_trades,
)
from tests.cluster.running import Instance, command
from tests.polling import wait_until

EVER = "start=0&end=4294967295"
PROJECT = Path(__file__).parents[2]


def all_symbols(instance: Instance) -> list[tuple[str, str]]:
    listed = instance.json("/api/symbols")["exchanges"]
    return [(exchange, symbol) for exchange, symbols in listed.items() for symbol in symbols]


def times(stored: dict[str, np.ndarray[Any, Any]]) -> list[int]:
    nanoseconds: list[int] = (stored["time"].astype(np.int64) * 10**9 + stored["nanos"]).tolist()
    return nanoseconds


def counted(recorded: dict[tuple[str, str], list[Any]]) -> dict[str, int]:
    return {
        exchange: sum(len(rows) for (where, _), rows in recorded.items() if where == exchange) for exchange in EXCHANGES
    }


def ask_clickhouse(instance: Instance, sql: str, **parameters: str) -> list[dict[str, Any]]:
    """The rows of a statement, asked as users' notebooks do."""
    rows: list[dict[str, Any]] = instance.inside(
        f"answer = ray.get(find_actor('database').query.remote({sql!r}, {parameters!r})).to_pylist()"
    )
    return rows


def stored_rows(instance: Instance, row_type: RowType) -> dict[str, int]:
    rows = dict.fromkeys(EXCHANGES, 0)
    for exchange, symbol in all_symbols(instance):
        rows[exchange] += len(instance.rows(exchange, symbol, row_type, "time")["time"])
    return rows


@pytest.fixture(scope="module")
def complete(replayed: Instance) -> Instance:
    """The instance once everything recorded is in the files."""
    wait_until(lambda: stored_rows(replayed, "TRADES") == LIVE_TRADES and stored_rows(replayed, "MD") == QUOTES)
    return replayed


def test_all_exchanges_are_listed_with_their_symbols(complete: Instance, recordings: Path) -> None:
    symbols = complete.json("/api/symbols")
    assert list(symbols["exchanges"]) == list(EXCHANGES)
    heard = recorded_trades(recordings).keys() | recorded_quotes(recordings).keys()
    # `/` in a symbol is `_` in what is named after it.
    assert set(all_symbols(complete)) == {(exchange, symbol.replace("/", "_")) for exchange, symbol in heard}
    assert symbols["symbols"] == sorted({symbol for _, symbol in all_symbols(complete)})
    assert complete.json("/api/symbols?exchange=kraken")["symbols"] == symbols["exchanges"]["kraken"]


def test_every_recorded_trade_is_stored_exactly_as_recorded(complete: Instance, recordings: Path) -> None:
    expected = recorded_trades(recordings)
    assert counted(expected) == LIVE_TRADES
    for (exchange, symbol), trades in expected.items():
        stored = complete.rows(exchange, symbol, "TRADES", "time,nanos,id,price,size,side,price64,size64")
        assert times(stored) == [trade.time for trade in trades]
        assert stored["price64"].tolist() == [trade.price for trade in trades]
        assert stored["size64"].tolist() == [trade.size for trade in trades]
        assert stored["side"].tolist() == [trade.side for trade in trades]
        assert stored["price"].tolist() == [float(np.float32(trade.price)) for trade in trades]
        assert stored["size"].tolist() == [float(np.float32(trade.size)) for trade in trades]
        if exchange == "kraken":
            assert len(set(stored["id"].tolist())) == len(trades), "made of what Kraken says, as it gives no ids"
        else:
            assert stored["id"].tolist() == [trade.trade_id for trade in trades]


def test_every_recorded_quote_is_stored_exactly_as_recorded(complete: Instance, recordings: Path) -> None:
    expected = recorded_quotes(recordings)
    assert counted(expected) == QUOTES
    names = ("best_bid64", "best_bid_size64", "best_ask64", "best_ask_size64")
    for (exchange, symbol), quotes in expected.items():
        columns = ",".join(("time", "nanos", *names, "best_bid", "price", "sequence"))
        stored = complete.rows(exchange, symbol, "MD", columns)
        rows = zip(times(stored), *(stored[name].tolist() for name in names), strict=True)
        numbers = [(quote.time, quote.bid, quote.bid_size, quote.ask, quote.ask_size) for quote in quotes]
        assert [tuple(None if number != number else number for number in row) for row in rows] == numbers, symbol
        assert np.array_equal(stored["best_bid"], stored["best_bid64"].astype(np.float32), equal_nan=True)
        if exchange == "binance":
            assert np.isnan(stored["price"]).all(), "a book ticker says nothing of the last trade"


def test_a_symbol_is_asked_for_by_its_own_name_or_as_it_is_listed(complete: Instance) -> None:
    columns = "time,nanos,id,price64"
    own, listed = (complete.rows("kraken", name, "TRADES", columns) for name in ("XMR/USD", "XMR_USD"))
    assert len(own["id"]) == 4
    assert all(np.array_equal(own[name], listed[name]) for name in own)
    charts = [complete.json(f"/api/v1/charts/{name}?exchange=kraken")["bars"] for name in ("XMR%2FUSD", "XMR_USD")]
    assert charts[0] == charts[1]
    assert sum(bar["trade_count"] for bar in charts[0]) == 4


def test_every_book_is_synced_and_the_command_lists_them(complete: Instance) -> None:
    listed = command("symbols", "list", "--json", "--data", str(complete.data))
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    assert Counter(row["exchange"] for row in rows) == BOOKS
    assert {(row["state"], row["reason"], row["book"], row["gaps"]) for row in rows} == {
        ("subscribed", "", "synced", 0)
    }
    assert complete.json("/api/v1/subscriptions") == rows
    table = command("symbols", "list", "--data", str(complete.data)).stdout.splitlines()
    assert table[0].split() == ["exchange", "symbol", "state", "book", "gaps", "remarks"]
    assert ["kraken", "XBT/CHF", "subscribed", "synced", "0"] in [line.split() for line in table]
    assert len(table) == 1 + sum(BOOKS.values())


@pytest.mark.parametrize(
    ("exchange", "symbol", "read"), [("kraken", "XMR/USD", kraken_book), ("coinbase", "SKL-USD", coinbase_book)]
)
def test_a_book_has_exactly_the_levels_that_were_recorded(
    complete: Instance, recordings: Path, exchange: str, symbol: str, read: Any
) -> None:
    expected = read(recordings, symbol)
    wait_until(lambda: complete.book(exchange, symbol)["ts_recv"] == expected.time)
    book = complete.book(exchange, symbol)
    assert (book["exchange"], book["symbol"], book["state"], book["epoch"]) == (exchange, symbol, "synced", 1)
    assert (book["bids"], book["asks"]) == (expected.bids, expected.asks)
    best = complete.book(exchange, symbol, levels=10)
    assert (best["bids"], best["asks"]) == (expected.bids[:10], expected.asks[:10])
    path = f"/api/v1/books/{symbol.replace('/', '%2F')}?exchange={exchange}&levels=full&format=arrow"
    (row,) = pa.ipc.open_stream(complete.get(path)[2]).read_all().cast(DEPTH).to_pylist()
    assert [[level["price"], level["size"]] for level in row["bids"]] == expected.bids


def test_derivatives_are_in_clickhouse_as_recorded(complete: Instance, recordings: Path) -> None:
    expected = recorded_derivatives(recordings)
    assert sum(map(len, expected.values())) == 89
    sql = (
        "SELECT symbol, ts_event, mark_price, index_price, open_interest FROM derivatives FINAL"
        " WHERE exchange = {exchange:String} ORDER BY symbol, ts_event, ts_recv"
    )
    rows = [
        [symbol, row.time, row.mark_price, row.index_price, row.open_interest]
        for symbol in sorted(expected)
        for row in expected[symbol]
    ]
    wait_until(lambda: [list(row.values()) for row in ask_clickhouse(complete, sql, exchange="deribit")] == rows)


def test_charts_are_the_bars_of_the_recorded_trades(complete: Instance, recordings: Path) -> None:
    trades = recorded_trades(recordings)["coinbase", "SKL-USD"]
    chart = complete.json("/api/v1/charts/SKL-USD?exchange=coinbase")
    bars = chart["bars"]
    assert [bar["time"] for bar in bars] == sorted({bar["time"] for bar in bars})
    assert sum(bar["trade_count"] for bar in bars) == len(trades)
    assert (bars[0]["open"], bars[-1]["close"]) == (trades[0].price, trades[-1].price)
    assert max(bar["high"] for bar in bars) == max(trade.price for trade in trades)
    assert sum(bar["volume"] for bar in bars) == pytest.approx(sum(trade.size for trade in trades))
    assert bars[0]["closed"], "its minute is over on the recorded clock"
    assert not bars[-1]["closed"], "the recording ends within its minute"


def test_charts_have_indicators_of_closed_bars(complete: Instance) -> None:
    chart = complete.json("/api/v1/charts/SKL-USD?exchange=coinbase&timeframe=1s&indicators=obv,sma_200")
    bars, said = chart["bars"], chart["indicators"]
    balance, expected = 0.0, []
    for place, bar in enumerate(bars):
        before = bars[place - 1]["close"] if place else 0.0
        balance += bar["volume"] * ((bar["close"] > before) - (bar["close"] < before))
        expected.append(pytest.approx(balance) if bar["closed"] else None)
    assert said == {"obv": expected, "sma_200": [None] * len(bars)}
    assert complete.json("/api/v1/charts/SKL-USD?exchange=coinbase")["indicators"] is None
    by_ticks = complete.json("/api/v1/charts/SKL-USD?exchange=coinbase&timeframe=tick:2")["bars"]
    assert {bar["trade_count"] for bar in by_ticks if bar["closed"]} == {2}


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_charts_of_every_timeframe_are_what_the_recorded_trades_make(
    complete: Instance, recordings: Path, timeframe: str
) -> None:
    span, charts = TIMEFRAMES[timeframe], 0
    for (exchange, symbol), trades in recorded_trades(recordings).items():
        buckets: dict[int, list[Trade]] = {}
        for _, trade in sorted(enumerate(trades), key=lambda one: (one[1].time, one[1].trade_id or one[0])):
            buckets.setdefault(trade.time // span * span, []).append(trade)
        path = f"/api/v1/charts/{quote(symbol, safe='')}?exchange={exchange}&timeframe={timeframe}&limit=5000"
        bars = complete.json(path)["bars"]
        for bar, (begin, mine) in zip(bars, buckets.items(), strict=True):
            volume, quoted = fsum(t.size for t in mine), fsum(t.price * t.size for t in mine)
            assert {name: bar[name] for name in bar if name not in ("revision", "closed")} == {
                "time": begin // 10**6,
                "open": mine[0].price,
                "high": max(t.price for t in mine),
                "low": min(t.price for t in mine),
                "close": mine[-1].price,
                "volume": volume,
                "quote_volume": quoted,
                "trade_count": len(mine),
                "buy_volume": fsum(t.size for t in mine if t.side == 0),
                "vwap": quoted / volume,
            }, f"{exchange} {symbol}"
        charts += 1
    assert charts > 10


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/data", 400, b"Missing query string"),
        ("/api/data?", 400, b"Missing symbol"),
        (
            "/api/data?symbol=a&type=MD&start=-1&end=1&columns=time",
            400,
            b"Invalid start: invalid digit found in string",
        ),
        ("/api/data/", 404, b"Not Found"),
        ("/api/nothing", 404, b"Not Found"),
        ("/api/data?exchange=..%2F..&symbol=..&type=MD&start=0&end=1&columns=time", 200, b'"num_records":0'),
        ("/api/v1/charts/NOPE", 404, b"/api/symbols"),
        ("/api/v1/charts/SKL-USD?timeframe=7m", 400, b"timeframe"),
        ("/api/v1/charts/SKL-USD?limit=0", 400, b"limit"),
        ("/api/v1/charts/SKL-USD?timeframe=tick:0", 400, b"a whole number above 0"),
        ("/api/v1/charts/SKL-USD?indicators=sma_20,rsi", 400, b"no indicator 'rsi'; all or: rsi_14"),
        ("/api/v1/charts/SKL-USD?timeframe=tick:5&indicators=all", 400, b"indicators of 1s, 1m"),
        ("/api/v1/books/NOPE", 404, b"/api/symbols"),
        ("/api/v1/books/SKL-USD?exchange=coinbase&levels=0", 400, b"levels"),
        ("/api/v1/books/NOPE?exchange=coinbase", 404, b"/api/v1/subscriptions"),
        ("/api/v1/books/SKL-USD?exchange=nasdaq", 404, b"/api/v1/subscriptions"),
        ("/nothing", 404, b"<"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(complete: Instance, path: str, status: int, text: bytes) -> None:
    answered, headers, body = complete.get(path)
    assert answered == status
    assert text in body
    assert str(complete.data).encode() not in body
    assert headers["x-content-type-options"] == "nosniff"


def test_the_same_answers_come_over_tls_with_http_1_and_http_2(complete: Instance) -> None:
    path = f"/api/data?exchange=coinbase&symbol=SKL-USD&type=TRADES&{EVER}&columns=time,id"
    plain = complete.get(path)[2]
    assert complete.get(path, tls=True)[2] == plain
    url = f"https://127.0.0.1:{complete.tls_port}{path}"
    answer = subprocess.run(["curl", "-sk", "--http2", "-w", "%{http_version}", url], capture_output=True, timeout=20)
    assert answer.stdout == plain + b"2"


def test_it_says_that_it_is_alive_and_ready_and_names_its_feeds(complete: Instance) -> None:
    assert complete.json("/healthz") == {"status": "ok"}
    health = complete.json("/readyz")
    assert health["status"] == "ready"
    assert {name: feed["state"] for name, feed in health["feeds"].items()} == dict.fromkeys(EXCHANGES, "streaming")


def test_status_names_every_actor_and_counts_its_rows(complete: Instance) -> None:
    said = command("status", "--json", "--data", str(complete.data))
    assert said.returncode == 0, said.stderr
    actors = json.loads(said.stdout)["actors"]
    collectors, shards = {f"collector:{exchange}" for exchange in EXCHANGES}, {"shard:0", "shard:1"}
    assert set(actors) == collectors | shards | {
        "accounts",
        "market_overview",
        "reports",
        "alerter",
        "backups",
        "database",
        "publisher",
        "simulator",
        "live_hub",
        "market_watch",
        "metrics",
    }
    own = {exchange: actors[f"collector:{exchange}"] for exchange in EXCHANGES}
    assert {exchange: status["trades"] for exchange, status in own.items()} == LIVE_TRADES
    # What was traded before the subscription is kept apart.
    history = {exchange: status["history"] for exchange, status in own.items() if status["history"]}
    assert history == {"bitfinex": 210, "coinbase": 10, "okx": 3}
    assert {exchange: status["book_states"] for exchange, status in own.items()} == {
        exchange: {"synced": books} for exchange, books in BOOKS.items()
    }
    assert [status["rejected"] for status in own.values()] == [{}] * len(EXCHANGES)
    assert sum(actors[shard]["TRADES"] for shard in shards) == sum(LIVE_TRADES.values())
    assert sum(actors[shard]["derivatives"] for shard in shards) == own["deribit"]["derivatives"] == 89


def test_the_table_of_status_says_what_runs(complete: Instance) -> None:
    table = command("status", "--data", str(complete.data))
    assert table.returncode == 0, table.stderr
    assert complete.url in table.stdout
    # What there is to remark comes below.
    rows = {line.split()[0]: line for line in reversed(table.stdout.splitlines()) if line.strip()}
    for exchange in EXCHANGES:
        row = rows[f"collector:{exchange}"]
        for what in ("streaming", f"{BOOKS[exchange]} synced", f"{LIVE_TRADES[exchange]} trades, {QUOTES[exchange]} "):
            assert what in row, table.stdout


def test_everything_runs_under_readable_names_in_ray(complete: Instance) -> None:
    alive = complete.inside(
        "from ray.util.state import list_actors\n"
        "mine = ray.get_runtime_context().gcs_address\n"
        "alive = list_actors(mine, filters=[('state', '=', 'ALIVE')], detail=True, limit=100)\n"
        "answer = [[a.name, a.repr_name] for a in alive if a.ray_namespace == 'rayfeed']\n"
    )
    actors = dict(alive)
    assert {"supervisor", "collector:binance", "shard:0", "database"} <= set(actors)
    assert actors["collector:binance"].startswith("Collector(binance, ")
    assert actors["shard:0"].startswith("SymbolShard(0")


def test_clickhouse_has_every_trade_once_and_the_bars(complete: Instance) -> None:
    def stored() -> bool:
        trades = ask_clickhouse(complete, "SELECT exchange, count() AS n FROM trades FINAL GROUP BY exchange")
        bars = ask_clickhouse(complete, "SELECT timeframe, sum(trade_count) AS n FROM bars FINAL GROUP BY timeframe")
        in_trades = {row["exchange"]: row["n"] for row in trades}
        in_bars = {row["timeframe"]: row["n"] for row in bars}
        every = dict.fromkeys(TIMEFRAMES, sum(LIVE_TRADES.values()))
        return in_trades == {k: n for k, n in LIVE_TRADES.items() if n} and in_bars == every

    wait_until(stored)


def test_redis_has_the_stream_of_prices(complete: Instance) -> None:
    running = InstanceFolder.read(complete.data)
    assert running is not None and running.details is not None and running.details.redis_url is not None
    with redis.Redis.from_url(running.details.redis_url) as client:
        wait_until(lambda: client.xlen("market_data_stream") > 0)
        entries = [json.loads(fields[b"data"]) for _, fields in client.xrange("market_data_stream")]
    # The overview of the market is told there too.
    prices = [entry for entry in entries if "exchange" in entry]
    assert {entry["exchange"] for entry in prices} == {exchange for exchange, n in LIVE_TRADES.items() if n}


def test_the_reader_in_the_documentation_reads_the_data(complete: Instance, recordings: Path) -> None:
    text = (PROJECT / "docs" / "data.md").read_text()
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    query = {"exchange": "coinbase", "symbol": "DASH-BTC", "type": "TRADES", "start": "0", "end": "4294967295"}
    columns = names["read"](complete.url, **query, columns="time,id,price64,side")
    trades = recorded_trades(recordings)["coinbase", "DASH-BTC"]
    assert columns["id"].tolist() == [trade.trade_id for trade in trades]
    assert columns["price64"].tolist() == [trade.price for trade in trades]


def test_secrets_are_readable_by_their_owner_only(complete: Instance) -> None:
    for name in ("instance.json", "secrets/ray_token", "secrets/api_token", "tls/edge.pem", "redis/redis.conf"):
        assert (complete.data / name).stat().st_mode & 0o077 == 0, name


async def test_the_chart_page_draws_a_chart_of_the_chosen_symbol(complete: Instance) -> None:
    async with visit() as here:
        for exchange, symbol, decimals in (("coinbase", "SKL-USD", 4), ("kraken", "XMR_USD", 2)):
            await here.page.goto(f"{complete.url}/chart?exchange={exchange}&symbol={symbol}")
            await here.page.wait_for_function("document.querySelectorAll('canvas').length > 0")
            last = complete.json(f"/api/v1/charts/{symbol}?exchange={exchange}")["bars"][-1]["close"]
            await here.page.get_by_text(f"{last:.{decimals}f}").first.wait_for(timeout=10_000)
        assert here.errors == []
        assert here.origins - {complete.url.replace("http", "ws")} == {complete.url}
