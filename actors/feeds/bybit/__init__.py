"""Bybit v5: pairs (spot) and contracts settled in USDT or USDC (linear), each category on a connection of its own."""

from actors.feeds.bybit.feed import Bybit

__all__ = ["Bybit"]
