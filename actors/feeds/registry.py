"""The feed of each exchange and its past trades, by its name in the settings."""

from typing import Final

from actors.feeds.binance import Binance
from actors.feeds.binance.history import BinanceHistory
from actors.feeds.bitfinex import Bitfinex
from actors.feeds.bitfinex.history import BitfinexHistory
from actors.feeds.bybit import Bybit
from actors.feeds.bybit.history import BybitHistory
from actors.feeds.coinbase import Coinbase
from actors.feeds.coinbase.history import CoinbaseHistory
from actors.feeds.deribit import Deribit
from actors.feeds.deribit.history import DeribitHistory
from actors.feeds.feed import Feed
from actors.feeds.history import TradeHistory
from actors.feeds.kraken import Kraken
from actors.feeds.kraken.history import KrakenHistory
from actors.feeds.okx import Okx
from actors.feeds.okx.history import OkxHistory

_FEEDS: Final[tuple[type[Feed], ...]] = (Binance, Bitfinex, Bybit, Coinbase, Deribit, Kraken, Okx)

FEEDS: Final[dict[str, type[Feed]]] = {feed.exchange: feed for feed in _FEEDS}

HISTORIES: Final[dict[str, TradeHistory]] = {
    "binance": BinanceHistory(),
    "bitfinex": BitfinexHistory(),
    "bybit": BybitHistory(),
    "coinbase": CoinbaseHistory(),
    "deribit": DeribitHistory(),
    "kraken": KrakenHistory(),
    "okx": OkxHistory(),
}
