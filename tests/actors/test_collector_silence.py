"""A subscription that ends without a word, at all exchanges: it is noticed by its silence and made again."""

from pathlib import Path

import pytest

from actors.endpoint import Endpoint
from actors.simulator.dialects import DIALECTS
from actors.simulator.exchange_server import ExchangeServer
from tests.actors.exchanges import Kept, collecting, live, synced
from tests.chaos.exchanges import SYMBOLS
from tests.polling import until

SILENT = "nothing was heard of the symbol"


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
            await until(lambda: any(row["reason"] == SILENT for row in kept.breaks))
            seen = len(kept.ids_of(quiet))
            await until(lambda: len(kept.ids_of(quiet)) > seen)
            await until(lambda: synced(collector, quiet, other))
            status = await collector.status()
    finally:
        await server.stop()
    assert (status["connects"], status["refused"]) == (status["connections"], {}), "no connection was disturbed"
