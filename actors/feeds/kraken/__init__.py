"""Kraken spot: trades, tickers as quotes, and books that a checksum proves after every change."""

from actors.feeds.kraken.feed import Kraken

__all__ = ["Kraken"]
