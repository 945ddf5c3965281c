"""`/api/symbols`, `/api/symbol-search` and `/api/status`: which symbols there are, and when each exchange was last
written."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from actors.placement import Series
from serve_apps.asgi import ANY_ORIGIN, Scope, Send, send_whole
from serve_apps.other_nodes import Elsewhere, both
from serve_apps.shared_answer import Shared
from serve_apps.symbol_search import SymbolIndex
from storage.column_layout import folder_name
from storage.column_reader import ColumnReader
from storage.schema import COLUMNS, RowType

#: What exchanges list, and the folders, are looked at again after this time: a new symbol is found within 5 s.
INDEX_FRESH_S: Final = 3.0
STATUS_FRESH_S: Final = 5.0

_JSON: Final = (ANY_ORIGIN, (b"content-type", b"application/json"))
_SEARCH_HEADERS: Final = (*_JSON, (b"cache-control", b"public, max-age=1"))
_SYMBOLS_HEADERS: Final = (*_JSON, (b"x-cache-status", b"MEMORY"), (b"x-fetch-time-ms", b"0"))
_INDEXED: Final = ("symbol", "instrument", "kind", "base", "quote", "expiry", "strike", "option_type", "active")

#: What exchanges list now (`storage.schema.INSTRUMENTS`), those that can be asked.
Listed = Callable[[], Awaitable[Mapping[str, pa.Table | None]]]


class DataLists:
    """Answers from the folders that `reader` sees, and from what `listed` says. `exchanges` are those that should have
    rows; `clock` says the wall clock's seconds."""

    def __init__(
        self,
        reader: ColumnReader,
        listed: Listed,
        exchanges: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._reader = reader
        self._listed = listed
        self._exchanges = exchanges
        self._clock = clock
        self._elsewhere = elsewhere
        self._index = Shared(self._indexed, INDEX_FRESH_S)
        self._status = Shared(self._looked, STATUS_FRESH_S)
        self._status_asked: bytes | None = None
        self._index_of: tuple[Any, SymbolIndex] | None = None

    async def symbols(self, scope: Scope, send: Send) -> None:
        """Answer `/api/symbols`."""
        symbols = await self._stored()
        on_disk = {exchange: sorted(map(folder_name, names)) for exchange, names in symbols.items()}
        await send_whole(send, 200, _SYMBOLS_HEADERS, symbols_body(on_disk, scope["query_string"]))

    async def search(self, scope: Scope, send: Send) -> None:
        """Answer `/api/symbol-search`."""
        query = _first(scope["query_string"], b"q")
        if not query:
            answer: dict[str, Any] = {"message": "Please provide a search query", "results": []}
        elif results := await asyncio.to_thread((await self._index()).search, query):
            answer = {"query": query, "results": results}
        else:
            answer = {"message": "No matching symbols found", "query": query, "results": []}
        await send_whole(send, 200, _SEARCH_HEADERS, _body(answer))

    async def status(self, send: Send) -> None:
        """Answer `/api/status`."""
        body, took_ms = await self._status()
        headers = [*_JSON, (b"x-cache-status", b"HIT" if body is self._status_asked else b"MISS")]
        if body is not self._status_asked:
            headers.append((b"x-fetch-time-ms", b"%d" % took_ms))
        self._status_asked = body
        await send_whole(send, 200, headers, body)

    async def _indexed(self) -> SymbolIndex:
        listed, stored = await asyncio.gather(self._listed(), self._stored())
        if self._index_of is None or self._index_of[0] != (listed, stored):
            rows = {exchange: table.select(_INDEXED) for exchange, table in listed.items() if table is not None}
            index = await asyncio.to_thread(
                lambda: SymbolIndex({exchange: table.to_pylist() for exchange, table in rows.items()}, stored)
            )
            self._index_of = ((listed, stored), index)
        return self._index_of[1]

    async def _looked(self) -> tuple[bytes, int]:
        begin = time.monotonic()
        others = {} if self._elsewhere is None else await self._elsewhere.last_changes()
        exchanges = await asyncio.to_thread(self._last_changes, await self._stored(), others)
        took_ms = round((time.monotonic() - begin) * 1000)
        answer = {
            "cached": False,
            "exchanges": exchanges,
            "fetch_time_ms": took_ms,
            "timestamp": int(self._clock()),
        }
        return _body(answer), took_ms

    async def _stored(self) -> dict[str, list[str]]:
        own = await asyncio.to_thread(self._reader.symbols)
        if self._elsewhere is None:
            return own
        await self._elsewhere.first_look()
        return both(own, self._elsewhere.symbols())

    def _last_changes(
        self, stored: Mapping[str, Sequence[str]], others: Mapping[Series, tuple[int, int]]
    ) -> list[dict[str, Any]]:
        names = sorted({*stored, *self._exchanges})
        return [self._exchange(exchange, stored.get(exchange, ()), others) for exchange in names]

    def _exchange(
        self, exchange: str, symbols: Sequence[str], others: Mapping[Series, tuple[int, int]]
    ) -> dict[str, Any]:
        newest: dict[RowType, tuple[int, str]] = dict.fromkeys(COLUMNS, (0, ""))
        for symbol in symbols:
            there = others.get((exchange, symbol))
            for row_type in COLUMNS:
                if there is None:
                    last = self._reader.last_change(exchange, symbol, row_type) or 0
                else:
                    last = there[row_type == "MD"]
                changed = last // 1_000_000_000
                newest[row_type] = max(newest[row_type], (changed, folder_name(symbol)))
        last, checked = max(newest.values())
        return {
            "exchange": exchange,
            **_moment(last),
            "md": _moment(newest["MD"][0]),
            "symbol_checked": checked or "no symbol (not found)",
            "symbols_checked": len(symbols),
            "trades": _moment(newest["TRADES"][0]),
        }


def symbols_body(symbols: dict[str, list[str]], query_string: bytes) -> bytes:
    """All symbols, or those of the first `exchange` in the query string, whose value is taken as it is."""
    for pair in query_string.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == b"exchange":
            exchange = value.decode(errors="replace")
            symbols = {exchange: symbols[exchange]} if exchange in symbols else {}
            break
    answer = {
        "exchanges": {exchange: symbols[exchange] for exchange in sorted(symbols)},
        "symbols": sorted(set().union(*symbols.values())),
    }
    return _body(answer)


def _first(query_string: bytes, wanted: bytes) -> str:
    for pair in query_string.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == wanted:
            return unquote_to_bytes(value.replace(b"+", b" ")).decode(errors="replace")
    return ""


def _moment(seconds: int) -> dict[str, Any]:
    date = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if seconds else "Never"
    return {"last_update": seconds, "last_update_date": date}


def _body(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
