"""Deribit v2: options, perpetuals, futures and spot over one address, as JSON-RPC."""

from actors.feeds.deribit.feed import Deribit

__all__ = ["Deribit"]
