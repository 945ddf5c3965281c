"""Symbols by exchange: what each is, whether it is collected now, and whether anything of it is stored."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from config import Settings
from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment
from serve_apps.bodies import HEADERS_OF_A_SECOND, send_json
from serve_apps.parameters import Parameter, Route, flag, text
from serve_apps.symbol_names import EXCHANGE, ONE_EXCHANGE, SYMBOL, Symbols, find_symbol
from storage.schema import INSTRUMENTS

SYMBOLS: Final = "/api/v1/symbols"

KIND: Final[Parameter[str | None]] = text(
    "kind", "Only those of this kind: spot, perpetual, future, option, stock, other.", "spot"
)
LISTED: Final = flag("listed", "1: also what exchanges list and nobody has collected here.")

_LISTED_AS: Final = {"instrument": "BTC-USDT", "kind": "spot", "base": "BTC", "quote": "USDT", "active": True}
_EXAMPLE: Final = {"symbol": "BTCUSDT", **_LISTED_AS, "collected": True, "state": "subscribed", "reason": ""}
ROUTES: Final = (
    Route(
        SYMBOLS,
        "Symbols by exchange",
        (ONE_EXCHANGE, KIND, LISTED),
        about="`state` of a collected symbol is subscribed, waiting or refused (`reason` says why), null for others. "
        "What only the exchange can say is null while its list is not known.",
        example={"exchanges": {"binance": [_EXAMPLE | {"stored": True}]}, "count": 1},
    ),
    Route(
        SYMBOLS + "/{symbol}",
        "All that is known of one symbol",
        (EXCHANGE,),
        about="With its increments, its contract and the state of its book, where it has them.",
        example={"exchange": "binance", **_EXAMPLE, "stored": True},
        segments={"symbol": SYMBOL},
    ),
)

#: Of an instrument in the list of all symbols.
_SHORT: Final = ("instrument", "kind", "base", "quote", "active")


def polled_symbols(settings: Settings) -> dict[str, list[str]]:
    """The symbols of the providers of bars that are switched on."""
    providers = {"yahoo": settings.pollers.yahoo, "polygon": settings.pollers.polygon}
    return {name: sorted(provider.symbols) for name, provider in providers.items() if provider.enabled}


class Listing:
    """What is known of all symbols together: `collected` is as `Supervisor.symbols` says, `instruments` what each
    exchange lists (None while that is unknown), `polled` are those of providers of bars, which have no collector. The
    first two raise `NoAnswer`."""

    def __init__(
        self,
        collected: Callable[[], Awaitable[Sequence[dict[str, Any]]]],
        instruments: Callable[[], Awaitable[Mapping[str, pa.Table | None]]],
        stored: Symbols,
        polled: Mapping[str, Sequence[str]],
    ) -> None:
        self._collected = collected
        self._instruments = instruments
        self._stored = stored
        self._polled = polled

    async def rows(self, short: bool, listed: bool = False) -> dict[str, list[dict[str, Any]]]:
        """By exchange, by name; `short` leaves most of what is known of an instrument out."""
        collected, instruments = await asyncio.gather(self._collected(), self._instruments())
        return await asyncio.to_thread(self._made, collected, instruments, short, listed)

    async def called(self, instrument: str) -> dict[str, str]:
        """Exchange -> the symbol there of an instrument that is collected."""
        rows = await self.rows(short=True)
        return {
            exchange: row["symbol"]
            for exchange, own in rows.items()
            for row in own
            if row["instrument"] == instrument and row["collected"]
        }

    def _made(
        self,
        collected: Sequence[dict[str, Any]],
        instruments: Mapping[str, pa.Table | None],
        short: bool,
        listed: bool,
    ) -> dict[str, list[dict[str, Any]]]:
        known: dict[str, dict[str, dict[str, Any]]] = {}
        for row in collected:
            known.setdefault(row["exchange"], {})[row["symbol"]] = row
        stored = {exchange: set(symbols) for exchange, symbols in self._stored().items()}
        exchanges = sorted({*known, *stored, *self._polled})
        return {
            exchange: _symbols(
                known.get(exchange, {}),
                stored.get(exchange, set()),
                instruments.get(exchange),
                self._polled.get(exchange, ()),
                INSTRUMENTS.names[1:] if not short else _SHORT,
                listed,
            )
            for exchange in exchanges
        }


class SymbolsApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = last_segment(scope, SYMBOLS)
        if wanted in ("", "/"):
            query = ROUTES[0].query(scope)
            exchange, kind = ONE_EXCHANGE.of(query), KIND.of(query)
            found = await self._listing.rows(short=True, listed=LISTED.of(query))
            if exchange is not None:
                found = {exchange: found[exchange]} if exchange in found else {}
            if kind is not None:
                found = {name: [row for row in rows if row["kind"] == kind] for name, rows in found.items()}
            said = {"exchanges": found, "count": sum(map(len, found.values()))}
            await send_json(send, said, headers=HEADERS_OF_A_SECOND)
            return
        query = ROUTES[1].query(scope)
        if not wanted.startswith("/"):
            raise BadRequest(404, f"There is nothing here; {SYMBOLS} lists symbols.")
        found = await self._listing.rows(short=False, listed=True)
        names = {exchange: [row["symbol"] for row in rows] for exchange, rows in found.items()}
        exchange, symbol = find_symbol(names, wanted[1:], EXCHANGE.of(query))
        row = next(row for row in found[exchange] if row["symbol"] == symbol)
        await send_json(send, {"exchange": exchange, **row}, headers=HEADERS_OF_A_SECOND)


def _symbols(
    collected: Mapping[str, dict[str, Any]],
    stored: set[str],
    instruments: pa.Table | None,
    polled: Sequence[str],
    names: Sequence[str],
    listed: bool,
) -> list[dict[str, Any]]:
    """The rows of one exchange."""
    wanted = {*collected, *stored, *polled}
    described: dict[str, dict[str, Any]] = {}
    if instruments is not None:
        some = instruments.select(["symbol", *names])
        if not listed:
            some = some.filter(pc.is_in(some["symbol"], pa.array(sorted(wanted), pa.string())))
        described = {row.pop("symbol"): row for row in some.to_pylist()}
    nothing = dict.fromkeys(names)
    rows = []
    for symbol in sorted(wanted | described.keys()):
        row = {"symbol": symbol, **nothing, **described.get(symbol, {})}
        if symbol in polled:
            row["kind"] = "stock"
        own = collected.get(symbol)
        row |= {"collected": own is not None or symbol in polled, "state": own and own["state"]}
        row |= {"reason": own["reason"] if own else "", "stored": symbol in stored}
        if own and len(names) > len(_SHORT):
            row |= {name: own.get(name) for name in ("book", "book_since", "book_why", "gaps")}
        rows.append(row)
    return rows
