"""Which symbols of which exchanges a request means."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from serve_apps.asgi import BadRequest
from serve_apps.parameters import Parameter, text

#: What is said of `{symbol}` in a path.
SYMBOL: Final = "As the exchange names it (BTC/USD as BTC%2FUSD), or as /api/symbols lists it (BTC_USD)."
EXCHANGE: Final[Parameter[str | None]] = text(
    "exchange", "Needed where several exchanges have a symbol of that name.", "binance"
)

ONE_EXCHANGE: Final[Parameter[str | None]] = text("exchange", "Only those of this exchange.", "binance")

#: Exchange -> its symbols.
Symbols = Callable[[], Mapping[str, Sequence[str]]]


def find_symbol(symbols: Mapping[str, Sequence[str]], symbol: str, exchange: str | None) -> tuple[str, str]:
    """The exchange and the native name of a symbol, named natively or as /api/symbols has it. `BadRequest` when there
    is none, or when several exchanges have it and none was named."""
    known = having(symbols, symbol)
    if not known:
        raise BadRequest(404, "No exchange has such a symbol; /api/symbols lists them.")
    if exchange is not None and exchange not in known:
        raise BadRequest(404, "That exchange has no such symbol; /api/symbols lists them.")
    if exchange is None and len(known) > 1:
        raise BadRequest(400, f"Several exchanges have this symbol; add exchange= one of: {', '.join(sorted(known))}.")
    exchange = exchange or next(iter(known))
    return exchange, known[exchange]


def having(symbols: Mapping[str, Sequence[str]], symbol: str) -> dict[str, str]:
    """The exchanges that have a symbol of that name, with their own name of it."""
    return {
        exchange: native
        for exchange, names in symbols.items()
        for native in names
        if symbol in (native, _listed(native))
    }


def _listed(native: str) -> str:
    return native.replace("/", "_")
