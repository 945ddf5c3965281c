"""Words of symbols: what people call currencies and kinds of instruments, and what a symbol says of itself where no
exchange's list does."""

import re
from typing import Any, Final

from actors.feeds.instruments import Kind, currency, instrument_name

#: What people type instead of the code.
CURRENCY_NAMES: Final = {
    "BTC": "Bitcoin",
    "ETH": "Ethereum",
    "USDT": "Tether",
    "USDC": "USD Coin",
    "BNB": "Binance Coin",
    "SOL": "Solana",
    "XRP": "Ripple",
    "ADA": "Cardano",
    "DOGE": "Dogecoin",
    "TRX": "Tron",
    "AVAX": "Avalanche",
    "DOT": "Polkadot",
    "LINK": "Chainlink",
    "LTC": "Litecoin",
    "BCH": "Bitcoin Cash",
    "UNI": "Uniswap",
    "ATOM": "Cosmos",
    "XLM": "Stellar",
    "XMR": "Monero",
    "ETC": "Ethereum Classic",
    "NEAR": "Near",
    "APT": "Aptos",
    "ARB": "Arbitrum",
    "SUI": "Sui",
    "SHIB": "Shiba Inu",
    "USD": "US Dollar",
    "EUR": "Euro",
    "GBP": "Pound Sterling",
    "JPY": "Yen",
    "CHF": "Swiss Franc",
    "XAU": "Gold",
}
#: Money of states: an instrument of two of them is forex.
FIAT: Final = frozenset({"USD", "EUR", "GBP", "JPY", "CHF", "AUD", "CAD", "NZD", "TRY", "BRL", "MXN", "KRW", "SGD"})
#: Where instruments fit alike, those in this money come first.
QUOTE_ORDER: Final = ("USDT", "USD", "USDC", "EUR", "BTC", "ETH")
KIND_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "spot": ("spot",),
    "perpetual": ("perpetual", "perp", "swap"),
    "future": ("future", "futures"),
    "option": ("option", "options"),
    "other": (),
}

_SEPARATORS: Final = re.compile(r"[-_/:]")
_BITFINEX: Final = re.compile(r"t[A-Z0-9]+(:[A-Z0-9]+)?")
_PERPETUAL: Final = frozenset({"PERP", "PERPETUAL", "SWAP"})
_QUOTES: Final = (
    "FDUSD",
    "USDT",
    "USDC",
    "BUSD",
    "TUSD",
    "USD",
    "EUR",
    "GBP",
    "JPY",
    "TRY",
    "BRL",
    "BTC",
    "ETH",
    "BNB",
)


def guessed(symbol: str) -> dict[str, Any]:
    """`instrument`, `kind`, `base` and `quote` (perhaps empty) as the symbol itself says."""
    text = (symbol[1:] if _BITFINEX.fullmatch(symbol) else symbol).upper()
    parts = [part for part in _SEPARATORS.split(text) if part]
    kind: Kind = "perpetual" if _PERPETUAL & {*parts} else "spot"
    words = [currency(part) for part in parts if part not in _PERPETUAL]
    if len(words) == 1:
        quote = next((quote for quote in _QUOTES if words[0].endswith(quote) and words[0] != quote), "")
        words = [currency(words[0].removesuffix(quote)), quote]
    if len(words) != 2:
        return {"instrument": symbol, "kind": "other", "base": words[0] if words else symbol, "quote": ""}
    base, quote = words
    name = instrument_name(kind, base, quote, inverse=not quote) if quote or kind == "perpetual" else base
    return {"instrument": name, "kind": kind, "base": base, "quote": quote}
