"""Symbols as people look for them, and when each exchange was last written."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.feeds.instruments import instrument_table
from serve_apps.data import DataApp
from serve_apps.data_answers import DataAnswers
from serve_apps.data_lists import DataLists
from serve_apps.symbol_search import SymbolIndex
from serve_apps.symbol_words import guessed
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from tests.polling import wait_until
from tests.serve_apps.asgi_client import ask
from tests.serve_apps.conftest import DAY, fetch, made_rows, serving


def row(symbol: str, instrument: str, base: str, quote: str, kind: str = "spot", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "instrument": instrument, "kind": kind, "base": base, "quote": quote, **more}


EXPIRY = 1_798_156_800 * 10**9  # 2026-12-25
LISTED: dict[str, list[dict[str, Any]]] = {
    "binance": [
        row("BTCUSDT", "BTC-USDT", "BTC", "USDT"),
        row("ETHUSDT", "ETH-USDT", "ETH", "USDT"),
        row("ETHBTC", "ETH-BTC", "ETH", "BTC"),
        row("WBTCUSDT", "WBTC-USDT", "WBTC", "USDT"),
        row("OLDUSDT", "OLD-USDT", "OLD", "USDT", active=False),
    ],
    "bybit": [row("ETHUSDT", "ETH-USDT-PERPETUAL", "ETH", "USDT", "perpetual")],
    "coinbase": [row("BTC-USD", "BTC-USD", "BTC", "USD"), row("EUR-USD", "EUR-USD", "EUR", "USD")],
    "deribit": [
        row("BTC-PERPETUAL", "BTC-PERPETUAL", "BTC", "USD", "perpetual", inverse=True),
        row("BTC-25DEC26", "BTC-USD-20261225", "BTC", "USD", "future", expiry=EXPIRY),
    ],
    "kraken": [row("XBT/USD", "BTC-USD", "BTC", "USD")],
    "okx": [
        row("ETH-USDT-SWAP", "ETH-USDT-PERPETUAL", "ETH", "USDT", "perpetual"),
        row("BTC-USDT", "BTC-USDT", "BTC", "USDT"),
    ],
}
TABLES = {exchange: instrument_table(rows) for exchange, rows in LISTED.items()}


def index(stored: dict[str, list[str]] | None = None) -> SymbolIndex:
    return SymbolIndex({exchange: table.to_pylist() for exchange, table in TABLES.items()}, stored or {})


def names(query: str) -> list[str]:
    return [result["normalized_id"] for result in index().search(query)]


@pytest.mark.parametrize(
    ("query", "first", "score"),
    [
        ("btc", "BTC-USDT", 100),
        ("BTCUSDT", "BTC-USDT", 150),
        ("BTC-USD", "BTC-USD", 150),
        ("BTC/USD", "BTC-USD", 150),
        ("btc usd", "BTC-USD", 150),
        ("usd btc", "BTC-USD", 140),
        ("xbt/usd", "BTC-USD", 150),
        ("xbt", "BTC-USDT", 100),
        ("eth usdt perp", "ETH-USDT-PERPETUAL", 90),
        ("ETH-USDT-SWAP", "ETH-USDT-PERPETUAL", 150),
        ("bitcoin", "BTC-USDT", 80),
        ("btc deribit", "BTC-PERPETUAL", 90),
        ("btc future 20261225", "BTC-USD-20261225", 260 / 3),
        ("wbtc", "WBTC-USDT", 100),
        ("bt", "BTC-USDT", 60),
    ],
)
def test_what_people_type_finds_the_instrument_first(query: str, first: str, score: float) -> None:
    best = index().search(query)[0]
    assert (best["normalized_id"], best["relevance_score"]) == (first, pytest.approx(score))


def test_the_base_comes_before_the_quote_and_before_names_that_only_have_it_within() -> None:
    assert names("btc") == ["BTC-USDT", "BTC-USD", "BTC-PERPETUAL", "BTC-USD-20261225", "ETH-BTC", "WBTC-USDT"]


def test_every_word_must_fit() -> None:
    assert names("eth usdt perp") == ["ETH-USDT-PERPETUAL"]
    assert names("eth solana") == []


@pytest.mark.parametrize("query", ["", " ", "/", "-+-", "zzz", "old", "%00", "x" * 10_000])
def test_what_fits_nothing_finds_nothing(query: str) -> None:
    assert names(query) == []


def test_the_order_of_the_lists_does_not_matter() -> None:
    shuffled = random.Random(1)
    expected = [index().search(query) for query in ("btc", "usd", "t", "perp")]
    for _ in range(5):
        listed = [
            (exchange, shuffled.sample(rows := table.to_pylist(), len(rows))) for exchange, table in TABLES.items()
        ]
        shuffled.shuffle(listed)
        again = SymbolIndex(dict(listed), {})
        assert [again.search(query) for query in ("btc", "usd", "t", "perp")] == expected


def test_at_most_twenty_results_come_and_stored_ones_first() -> None:
    many = {"binance": [row(f"A{n:03}USDT", f"A{n:03}-USDT", f"A{n:03}", "USDT", active=True) for n in range(100)]}
    results = SymbolIndex(many, {"binance": ["A077USDT"]}).search("usdt")
    assert len(results) == 20
    assert [result["base"] for result in results[:2]] == ["A077", "A000"]


def test_a_result_says_where_the_instrument_is() -> None:
    result = index({"kraken": ["XBT/USD"]}).search("btc-usd")[0]
    assert result == {
        "base": "BTC",
        "category": "crypto",
        "description": "Bitcoin in US Dollar, spot",
        "display_name": "BTC/USD",
        "exchanges": [
            {"exchange": "coinbase", "stored": False, "symbol": "BTC-USD"},
            {"exchange": "kraken", "stored": True, "symbol": "XBT_USD"},
        ],
        "kind": "spot",
        "normalized_id": "BTC-USD",
        "quote": "USD",
        "relevance_score": 150.0,
    }
    assert index().search("eur usd")[0]["category"] == "forex"


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [
        ("BTCUSDT", "BTC-USDT"),
        ("tBTCUSD", "BTC-USD"),
        ("tAAVE:USD", "AAVE-USD"),
        ("XBT/USD", "BTC-USD"),
        ("ADA/XBT", "ADA-BTC"),
        ("ETH-USDT-SWAP", "ETH-USDT-PERPETUAL"),
        ("BTC-PERPETUAL", "BTC-PERPETUAL"),
        ("USDT", "USDT"),
        ("BTC-25DEC26-60000-C", "BTC-25DEC26-60000-C"),
    ],
)
def test_a_symbol_that_no_exchange_lists_is_known_by_its_name(symbol: str, instrument: str) -> None:
    assert guessed(symbol)["instrument"] == instrument


# --- over HTTP


async def listed() -> dict[str, pa.Table]:
    return TABLES


def app(root: Path, exchanges: list[str] | None = None) -> DataApp:
    reader = ColumnReader(root)
    lists = DataLists(reader, listed, exchanges or [], clock=lambda: DAY)
    return DataApp(DataAnswers(reader, 2**32, reader), lists)


async def test_search_answers_as_existing_clients_know_it(tmp_path: Path) -> None:
    searching = app(tmp_path)
    empty = await ask(searching, "/api/symbol-search")
    assert empty.body == b'{"message":"Please provide a search query","results":[]}'
    assert (await ask(searching, "/api/symbol-search?q=&q=btc")).body == empty.body
    missed = await ask(searching, "/api/symbol-search?q=zz%2Fz")
    assert missed.body == b'{"message":"No matching symbols found","query":"zz/z","results":[]}'
    found = await ask(searching, "/api/symbol-search?q=eth+usdt%20perp&q=btc")
    assert (found.json["query"], len(found.json["results"])) == ("eth usdt perp", 1)
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert found.headers["access-control-allow-origin"] == "*"


def test_a_new_symbol_is_found_within_five_seconds(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    with serving(app(tmp_path)) as port:
        assert fetch(port, "/api/symbol-search?q=newusd").json["results"] == []
        writer.append("kraken", "NEW/USD", "TRADES", made_rows("TRADES", [DAY]))
        wait_until(lambda: fetch(port, "/api/symbol-search?q=newusd").json["results"], within_s=5)
    writer.close()


async def test_status_says_when_each_exchange_was_last_written(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    writer.append("kraken", "XBT/USD", "TRADES", made_rows("TRADES", [DAY]))
    writer.append("kraken", "ETH/USD", "MD", made_rows("MD", [DAY]))
    writer.close()
    for path in (tmp_path / "kraken" / "ETH_USD" / "MD").glob("time.*"):
        path.touch()
    asking = app(tmp_path, ["binance", "kraken"])
    first, second = await ask(asking, "/api/status"), await ask(asking, "/api/status")
    assert second.body == first.body
    assert [one.headers["x-cache-status"] for one in (first, second)] == ["MISS", "HIT"]
    assert "x-fetch-time-ms" in first.headers
    assert "x-fetch-time-ms" not in second.headers
    said = json.loads(first.body)
    assert list(said) == ["cached", "exchanges", "fetch_time_ms", "timestamp"]
    assert (said["cached"], said["timestamp"]) == (False, DAY)
    never = {"last_update": 0, "last_update_date": "Never"}
    binance, kraken = said["exchanges"]
    assert binance == {
        "exchange": "binance",
        **never,
        "md": never,
        "symbol_checked": "no symbol (not found)",
        "symbols_checked": 0,
        "trades": never,
    }
    assert (kraken["symbol_checked"], kraken["symbols_checked"]) in (("ETH_USD", 2), ("XBT_USD", 2))
    assert abs(time.time() - kraken["last_update"]) < 600
    assert kraken["last_update"] == max(kraken["md"]["last_update"], kraken["trades"]["last_update"])
    assert kraken["last_update_date"] == time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(kraken["last_update"]))
