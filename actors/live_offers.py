"""What a collector tells the live feed: what it has just received, not stored yet, and only what somebody looks at."""

from typing import Final

from actors.feeds.feed import Decoded
from actors.offers import WantedOffers
from actors.parcels import packed

#: Kinds of rows in a parcel that come right from collectors. Those of shards have other names, so that nobody who wants
#: one of them is offered both.
RECEIVED_TRADES: Final = "received_trades"
RECEIVED_QUOTES: Final = "received_quotes"


class ReceivedOffers(WantedOffers):
    """Offers to the live hub; what nobody looks at costs nothing."""

    def received(self, exchange: str, decoded: Decoded) -> None:
        batches = {(RECEIVED_TRADES, exchange): decoded.trades, (RECEIVED_QUOTES, exchange): decoded.quotes}
        wanted = {key: batch for key, batch in batches.items() if batch.num_rows and self._wants(key)}
        # Without any it is asked all the same what is looked at.
        self(wanted, packed(wanted))
