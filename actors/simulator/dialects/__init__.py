"""The exchanges the made-up market can be."""

from typing import Final

from actors.simulator.dialect import Dialect
from actors.simulator.dialects.binance import BinanceDialect
from actors.simulator.dialects.bitfinex import BitfinexDialect
from actors.simulator.dialects.bybit import BybitDialect
from actors.simulator.dialects.coinbase import CoinbaseDialect
from actors.simulator.dialects.deribit import DeribitDialect
from actors.simulator.dialects.kraken import KrakenDialect
from actors.simulator.dialects.okx import OkxDialect

_ALL: Final[tuple[type[Dialect], ...]] = (
    BinanceDialect,
    BitfinexDialect,
    BybitDialect,
    CoinbaseDialect,
    DeribitDialect,
    KrakenDialect,
    OkxDialect,
)

DIALECTS: Final[dict[str, type[Dialect]]] = {dialect.exchange: dialect for dialect in _ALL}
