"""Pure wire protocols, one module per exchange: frames in, Arrow batches out; no Ray, no I/O."""

from typing import Final

from actors.feeds.binance import Binance
from actors.feeds.coinbase import Coinbase
from actors.feeds.feed import Feed

#: The feed of each exchange, by its name in the settings.
FEEDS: Final[dict[str, type[Feed]]] = {"binance": Binance, "coinbase": Coinbase}
