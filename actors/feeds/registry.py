"""The feed of each exchange, by its name in the settings."""

from typing import Final

from actors.feeds.binance import Binance
from actors.feeds.bitfinex import Bitfinex
from actors.feeds.bybit import Bybit
from actors.feeds.coinbase import Coinbase
from actors.feeds.deribit import Deribit
from actors.feeds.feed import Feed
from actors.feeds.kraken import Kraken
from actors.feeds.okx import Okx

_FEEDS: Final[tuple[type[Feed], ...]] = (Binance, Bitfinex, Bybit, Coinbase, Deribit, Kraken, Okx)

FEEDS: Final[dict[str, type[Feed]]] = {feed.exchange: feed for feed in _FEEDS}
