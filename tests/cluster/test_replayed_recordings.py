"""What users get from the real recordings, end to end: socket, files, ClickHouse, Redis, HTTP, page, notebook."""

import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import redis
from nbclient import NotebookClient

from cluster.instance import Instance as InstanceFolder
from storage.schema import COLUMNS
from tests.browser import visit
from tests.cluster.running import Instance, command
from tests.polling import wait_until

LIVE_TRADES = {"binance": 2, "coinbase": 97}
QUOTES = {"binance": 84, "coinbase": 107}
EVER = "start=0&end=4294967295"
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trade:
    trade_id: int
    price: float
    size: float
    side: int


def recorded_trades(recordings: Path) -> dict[tuple[str, str], list[Trade]]:
    """An independent reading of the recordings."""
    trades = defaultdict(list)
    for line in (recordings / "binance.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "recv" and "@aggTrade" in event["data"]:
            data = json.loads(event["data"])["data"]
            trade = Trade(data["a"], float(data["p"]), float(data["q"]), int(data["m"]))
            trades["binance", data["s"]].append(trade)
    for line in (recordings / "coinbase.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "recv":
            data = json.loads(event["data"])
            if data["type"] == "match":
                # The feed says the maker's side.
                side = {"sell": 0, "buy": 1}[data["side"]]
                trade = Trade(data["trade_id"], float(data["price"]), float(data["size"]), side)
                trades["coinbase", data["product_id"]].append(trade)
    return trades


def ask_data(
    instance: Instance, exchange: str, symbol: str, row_type: str, columns: str
) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of everything stored, after checking the header against the bytes."""
    path = f"/api/data?exchange={exchange}&symbol={symbol}&type={row_type}&{EVER}&columns={columns}"
    status, _, body = instance.get(path)
    assert status == 200, body
    header, _, binary = body.partition(b"\n")
    described = json.loads(header)["columns"]
    assert sum(column["data_length"] for column in described) == len(binary)
    found = {}
    for column in described:
        assert column["data_length"] == column["num_records"] * column["record_size"]
        data, binary = binary[: column["data_length"]], binary[column["data_length"] :]
        found[column["name"]] = np.frombuffer(data, COLUMNS[row_type][column["name"]])  # type: ignore[index]
    return found


def all_symbols(instance: Instance) -> list[tuple[str, str]]:
    listed = instance.json("/api/symbols")["exchanges"]
    return [(exchange, symbol) for exchange, symbols in listed.items() for symbol in symbols]


def stored_rows(instance: Instance, row_type: str) -> dict[str, int]:
    rows = dict.fromkeys(LIVE_TRADES, 0)
    for exchange, symbol in all_symbols(instance):
        rows[exchange] += len(ask_data(instance, exchange, symbol, row_type, "time")["time"])
    return rows


@pytest.fixture(scope="module")
def complete(replayed: Instance) -> Instance:
    """The instance once everything recorded is in the files."""
    wait_until(lambda: stored_rows(replayed, "TRADES") == LIVE_TRADES and stored_rows(replayed, "MD") == QUOTES)
    return replayed


def test_both_exchanges_are_listed_with_their_symbols(complete: Instance) -> None:
    symbols = complete.json("/api/symbols")
    assert sorted(symbols["exchanges"]) == ["binance", "coinbase"]
    assert "NKNUSDT" in symbols["exchanges"]["binance"]
    assert "SKL-USD" in symbols["exchanges"]["coinbase"]
    assert symbols["symbols"] == sorted({symbol for _, symbol in all_symbols(complete)})


def test_every_recorded_trade_is_stored_exactly_as_recorded(complete: Instance, recordings: Path) -> None:
    expected = recorded_trades(recordings)
    assert sum(len(trades) for trades in expected.values()) == sum(LIVE_TRADES.values())
    for (exchange, symbol), trades in expected.items():
        stored = ask_data(complete, exchange, symbol, "TRADES", "id,price,size,side,price64,size64")
        assert stored["id"].tolist() == [trade.trade_id for trade in trades]
        assert stored["price64"].tolist() == [trade.price for trade in trades]
        assert stored["size64"].tolist() == [trade.size for trade in trades]
        assert stored["side"].tolist() == [trade.side for trade in trades]
        assert stored["price"].tolist() == [float(np.float32(trade.price)) for trade in trades]
        assert stored["size"].tolist() == [float(np.float32(trade.size)) for trade in trades]


def test_quotes_have_their_recorded_bid_and_ask(complete: Instance, recordings: Path) -> None:
    expected = []
    for line in (recordings / "binance.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "recv" and "nknusdt@bookTicker" in event["data"]:
            data = json.loads(event["data"])["data"]
            expected.append((event["t_ns"], float(data["b"]), float(data["a"]), data["u"]))
    columns = "time,nanos,best_bid64,best_ask64,sequence,best_bid,price"
    stored = ask_data(complete, "binance", "NKNUSDT", "MD", columns)
    times = stored["time"].astype(np.int64) * 10**9 + stored["nanos"]
    rows = zip(
        times.tolist(),
        stored["best_bid64"].tolist(),
        stored["best_ask64"].tolist(),
        stored["sequence"].tolist(),
        strict=True,
    )
    assert list(rows) == expected
    assert np.array_equal(stored["best_bid"], stored["best_bid64"].astype(np.float32))
    assert np.isnan(stored["price"]).all(), "a book ticker says nothing of the last trade"


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
    assert {name: feed["state"] for name, feed in health["feeds"].items()} == dict.fromkeys(LIVE_TRADES, "streaming")


def test_status_names_every_actor_and_counts_its_rows(complete: Instance) -> None:
    actors = complete.status()["actors"]
    collectors, shards = {"collector:binance", "collector:coinbase"}, {"shard:0", "shard:1"}
    assert set(actors) == collectors | shards | {"database", "publisher", "simulator"}
    assert actors["collector:coinbase"]["trades"] == LIVE_TRADES["coinbase"]
    assert actors["collector:coinbase"]["history"] == 10, "trades from before the subscription are kept apart"
    assert sum(actors[f"shard:{i}"]["TRADES"] for i in range(2)) == sum(LIVE_TRADES.values())
    table = command("status", "--data", str(complete.data))
    assert table.returncode == 0
    assert "collector:coinbase" in table.stdout
    assert "97 trades" in table.stdout


def test_everything_runs_under_readable_names_in_ray(complete: Instance) -> None:
    alive = complete.inside(
        "from ray.util.state import list_actors\n"
        "alive = list_actors(filters=[('state', '=', 'ALIVE')], detail=True, limit=100)\n"
        "answer = [[a.name, a.repr_name] for a in alive if a.ray_namespace == 'rayfeed']\n"
    )
    actors = dict(alive)
    assert {"supervisor", "collector:binance", "shard:0", "database"} <= set(actors)
    assert actors["collector:binance"].startswith("Collector(binance, ")
    assert actors["shard:0"].startswith("SymbolShard(0")


def test_clickhouse_has_every_trade_once_and_the_bars(complete: Instance) -> None:
    def counted() -> bool:
        trades, bars = complete.inside(
            "database = find_actor('database')\n"
            "ask = lambda sql: ray.get(database.query.remote(sql)).to_pylist()\n"
            "answer = [ask('SELECT exchange, count() AS n FROM trades FINAL GROUP BY exchange'),\n"
            "          ask('SELECT sum(trade_count) AS n FROM bars FINAL')]\n"
        )
        in_trades = {row["exchange"]: row["n"] for row in trades}
        return in_trades == LIVE_TRADES and bars[0]["n"] == sum(LIVE_TRADES.values())

    wait_until(counted)


def test_redis_has_the_stream_of_prices(complete: Instance) -> None:
    running = InstanceFolder.read(complete.data)
    assert running is not None and running.details is not None and running.details.redis_url is not None
    with redis.Redis.from_url(running.details.redis_url) as client:
        wait_until(lambda: client.xlen("market_data_stream") > 0)
        entries = [json.loads(fields[b"data"]) for _, fields in client.xrange("market_data_stream")]
    assert {entry["exchange"] for entry in entries} == set(LIVE_TRADES)


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
    for name in ("instance.json", "secrets/ray_token", "tls/edge.pem", "redis/redis.conf"):
        assert (complete.data / name).stat().st_mode & 0o077 == 0, name


async def test_the_home_page_draws_a_chart_of_the_chosen_symbol(complete: Instance) -> None:
    async with visit() as here:
        await here.page.goto(f"{complete.url}/#coinbase:SKL-USD")
        await here.page.wait_for_function("document.querySelectorAll('canvas').length > 0")
        last = complete.json("/api/v1/charts/SKL-USD?exchange=coinbase")["bars"][-1]["close"]
        await here.page.get_by_text(f"{last:.4f}").first.wait_for(timeout=10_000)
        assert here.errors == []
        assert here.origins == {complete.url}


def test_the_notebook_runs_and_reads_trades_without_a_copy(complete: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFEED_DATA", str(complete.data))
    notebook = nbformat.read(PROJECT / "notebooks" / "live_actors.ipynb", as_version=4)
    ran = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}}).execute()
    outputs = {cell.source: cell.outputs for cell in ran.cells if cell.cell_type == "code"}
    [zero_copy] = [outputs[source] for source in outputs if "zero_copy" in source]
    assert zero_copy[0]["data"]["text/plain"] == "True"
    [picture] = [outputs[source] for source in outputs if "plt.show" in source]
    assert "image/png" in picture[0]["data"]
