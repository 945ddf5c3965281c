"""A subscription that ends without a word, at all exchanges: it is noticed by its silence and made again."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.aggregation.book_sync import SILENCE
from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from tests.actors.exchanges import BinanceServer, Kept, books_are, collecting, live, synced
from tests.chaos.exchanges import SYMBOLS
from tests.polling import until


@pytest.mark.parametrize("exchange", sorted(SYMBOLS))
async def test_a_symbol_that_falls_silent_is_subscribed_again(exchange: str, tmp_path: Path) -> None:
    dialect, kept, (quiet, other) = DIALECTS[exchange], Kept(), SYMBOLS[exchange][:2]
    server = ExchangeServer(dialect({symbol: dialect.listing(symbol) for symbol in (quiet, other)}), 7, 200.0)
    endpoint = Endpoint(*await server.start(), (quiet, other))
    try:
        async with collecting(live(tmp_path, stale_s=1.0), endpoint, kept, exchange=exchange) as collector:
            await until(lambda: synced(collector, quiet, other))
            server.delist(quiet)
            await until(lambda: quiet not in server.dialect.listings)
            server.relist(quiet)
            await until(lambda: any(row["reason"] == SILENCE for row in kept.breaks))
            seen = len(kept.ids_of(quiet))
            await until(lambda: len(kept.ids_of(quiet)) > seen)
            await until(lambda: synced(collector, quiet, other))
            status = await collector.status()
    finally:
        await server.stop()
    assert (status["connects"], status["refused"]) == (status["connections"], {}), "no connection was disturbed"


@contextlib.asynccontextmanager
async def unread(server: BinanceServer, kept: Kept, folder: Path) -> AsyncIterator[Collector]:
    """A collector that has stopped to read, as its shard takes nothing, for longer than books may be silent."""
    settings = live(folder, stale_s=0.5, max_batches_in_flight=20)
    async with server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *server.status))
        kept.open.clear()
        await until(lambda: books_are(collector, "stale", *server.status))
        assert {row["book_why"] for row in await collector.symbols()} == {SILENCE}
        yield collector


async def test_what_is_not_read_is_not_silent(tmp_path: Path) -> None:
    server, kept = BinanceServer(["BTCUSDT", "ETHUSDT"]), Kept()
    async with unread(server, kept, tmp_path) as collector:
        kept.open.set()
        await until(lambda: synced(collector, *server.status))
        seen = {symbol: server.traded[symbol] for symbol in server.status}
        await until(lambda: all(max(kept.ids_of(symbol)) >= last for symbol, last in seen.items()))
    assert SILENCE not in {row["reason"] for row in kept.breaks}, "everything was in the socket"
    assert [symbols for _, symbols in server.methods("SUBSCRIBE")] == [tuple(server.status)], "and nobody asked again"


async def test_a_symbol_that_ends_while_nothing_is_read_is_subscribed_again_later(tmp_path: Path) -> None:
    server, kept = BinanceServer(["BTCUSDT", "ETHUSDT"]), Kept()
    async with unread(server, kept, tmp_path) as collector:
        [number] = server.subscribed
        server.subscribed[number].discard("BTCUSDT")
        kept.open.set()
        await until(lambda: "BTCUSDT" in server.subscribed[number])
        await until(lambda: synced(collector, *server.status))
        await until(lambda: any(row["reason"] == SILENCE for row in kept.breaks))
    assert {row["symbol"] for row in kept.breaks if row["reason"] == SILENCE} == {"BTCUSDT"}
