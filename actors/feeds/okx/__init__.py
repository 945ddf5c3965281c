"""OKX v5: pairs, perpetual contracts, futures and options of one exchange over one address."""

from actors.feeds.okx.feed import Okx

__all__ = ["Okx"]
