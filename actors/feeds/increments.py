"""The steps of an instrument's prices and sizes, from the texts an exchange has for them."""

from typing import Any

from actors.feeds.instruments import decimals
from actors.feeds.texts import numbers


def increments(price: str, size: str) -> dict[str, Any]:
    """The four columns of `storage.schema.INSTRUMENTS` about steps; null where a text is no positive number."""
    (price_value, size_value), _ = numbers([price, size])
    return {
        "price_increment": price_value if price_value > 0 else None,
        "size_increment": size_value if size_value > 0 else None,
        "price_decimals": decimals(price) if price_value > 0 else None,
        "size_decimals": decimals(size) if size_value > 0 else None,
    }
