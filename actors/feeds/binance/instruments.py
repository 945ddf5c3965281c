"""The list of what Binance spot trades."""

from typing import Any

import pyarrow as pa

from actors.feeds.binance.messages import ExchangeInfo, Symbol, read_body
from actors.feeds.increments import increments
from actors.feeds.instruments import instrument_name, instrument_table


def read_exchange_info(body: bytes) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when the body is something else."""
    return instrument_table([_row(symbol) for symbol in read_body(ExchangeInfo, body).symbols])


def _row(symbol: Symbol) -> dict[str, Any]:
    steps = {one.filter_type: one for one in symbol.filters}
    price, size = steps.get("PRICE_FILTER"), steps.get("LOT_SIZE")
    return {
        "symbol": symbol.symbol,
        "instrument": instrument_name("spot", symbol.base_asset, symbol.quote_asset),
        "kind": "spot",
        "base": symbol.base_asset,
        "quote": symbol.quote_asset,
        "active": symbol.status == "TRADING",
        **increments(price.tick_size if price else "", size.step_size if size else ""),
    }
