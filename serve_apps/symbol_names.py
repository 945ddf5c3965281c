"""Which symbol of which exchange a request means."""

from collections.abc import Callable, Mapping, Sequence

from serve_apps.asgi import BadRequest

#: Exchange -> its symbols.
Symbols = Callable[[], Mapping[str, Sequence[str]]]


def find_symbol(symbols: Mapping[str, Sequence[str]], symbol: str, exchange: str | None) -> tuple[str, str]:
    """The exchange and the native name of a symbol, named natively or as /api/symbols has it. `BadRequest` when there
    is none, or when several exchanges have it and none was named."""
    known = {
        having: native for having, names in symbols.items() for native in names if symbol in (native, _listed(native))
    }
    if not known:
        raise BadRequest(404, "No exchange has such a symbol; /api/symbols lists them.")
    if exchange is not None and exchange not in known:
        raise BadRequest(404, "That exchange has no such symbol; /api/symbols lists them.")
    if exchange is None and len(known) > 1:
        raise BadRequest(400, f"Several exchanges have this symbol; add exchange= one of: {', '.join(sorted(known))}.")
    exchange = exchange or next(iter(known))
    return exchange, known[exchange]


def _listed(native: str) -> str:
    return native.replace("/", "_")
