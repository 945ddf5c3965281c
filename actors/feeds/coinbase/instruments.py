"""The list of what Coinbase Exchange trades."""

from typing import Any

import pyarrow as pa

from actors.feeds.coinbase.messages import Product, decode_products
from actors.feeds.increments import increments
from actors.feeds.instruments import instrument_name, instrument_table


def read_products(body: bytes) -> pa.Table:
    """`storage.schema.INSTRUMENTS`; ValueError with the reason when the body is something else."""
    try:
        products = decode_products(body)
    except RecursionError as too_deep:
        raise ValueError(str(too_deep)) from None
    return instrument_table([_row(product) for product in products])


def _row(product: Product) -> dict[str, Any]:
    return {
        "symbol": product.id,
        "instrument": instrument_name("spot", product.base_currency, product.quote_currency),
        "kind": "spot",
        "base": product.base_currency,
        "quote": product.quote_currency,
        "active": product.status == "online" and not product.trading_disabled,
        **increments(product.quote_increment, product.base_increment),
    }
