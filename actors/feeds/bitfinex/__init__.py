"""Bitfinex v2: pairs (tBTCUSD) and perpetual contracts (tBTCF0:USTF0) over one address."""

from actors.feeds.bitfinex.feed import Bitfinex

__all__ = ["Bitfinex"]
