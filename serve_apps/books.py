"""Order books: the best levels of one symbol, and only of a book that can be trusted. A book that is being built, has a
hole or went stale is answered with 503 and its state, never with levels.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import pyarrow as pa

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_problem, send_whole
from serve_apps.bodies import ARROW, HEADERS, JSON, arrow_stream
from serve_apps.parameters import known_query, one_of, whole_number

BOOKS: Final = "/api/v1/books/"
MOST_LEVELS: Final = 5000
DEFAULT_LEVELS: Final = 25

#: (exchange, symbol, levels or None for all) -> one row of `storage.schema.DEPTH`; KeyError when nobody collects it.
Books = Callable[[str, str, int | None], Awaitable[pa.RecordBatch]]


class BooksApp:
    """ASGI application that answers GET `/api/v1/books/{symbol}?exchange=&levels=25|full&format=json|arrow`."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        symbol = last_segment(scope, BOOKS)
        try:
            exchange, levels, as_arrow = _parse(known_query(scope, ("exchange", "levels", "format")))
            row = await self._books(exchange, symbol, levels)
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
            return
        except KeyError:
            await send_problem(
                send, 404, f"{symbol} of {exchange} is not collected; /api/v1/subscriptions lists what is."
            )
            return
        state = row.column("state")[0].as_py()
        if state != "synced":
            detail = f"The book of {symbol} on {exchange} is {state}: it cannot be trusted now."
            await send_problem(send, 503, detail, [(b"retry-after", b"1")])
        elif as_arrow:
            await send_whole(send, 200, (*HEADERS, ARROW), arrow_stream(row))
        else:
            await send_whole(send, 200, (*HEADERS, JSON), _json(exchange, row))


def _parse(query: Mapping[str, str]) -> tuple[str, int | None, bool]:
    if "exchange" not in query:
        raise BadRequest(400, "exchange is missing: a symbol may trade on several.")
    whole = query.get("levels") == "full"
    levels = None if whole else whole_number(query, "levels", DEFAULT_LEVELS, MOST_LEVELS, or_else="full or ")
    return query["exchange"], levels, one_of(query, "format", "json", ("json", "arrow")) == "arrow"


def _json(exchange: str, row: pa.RecordBatch) -> bytes:
    (book,) = row.to_pylist()
    sides = {side: [[level["price"], level["size"]] for level in book[side]] for side in ("bids", "asks")}
    return msgspec.json.encode({"exchange": exchange, **book, **sides})
