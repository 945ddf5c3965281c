"""Coinbase Exchange: matches are trades, tickers are quotes, level2 is the book."""

from actors.feeds.coinbase.feed import Coinbase

__all__ = ["Coinbase"]
