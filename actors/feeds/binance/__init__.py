"""Binance spot: aggTrade (or trade) streams are trades, bookTicker streams are quotes, depth streams are books."""

from actors.feeds.binance.feed import Binance

__all__ = ["Binance"]
