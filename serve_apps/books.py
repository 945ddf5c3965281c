"""Order books: the best levels of one symbol, and only of a book that can be trusted. A book that is being built, has a
hole or went stale is answered with 503 and its state, never with levels.
"""

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl

import msgspec
import pyarrow as pa

from serve_apps.asgi import ANY_ORIGIN, BadRequest, Receive, Scope, Send, last_segment, send_problem, send_whole

BOOKS: Final = "/api/v1/books/"
MOST_LEVELS: Final = 5000
DEFAULT_LEVELS: Final = 25
_HEADERS: Final = (ANY_ORIGIN, (b"cache-control", b"no-cache"))
_JSON: Final = (b"content-type", b"application/json")
_ARROW: Final = (b"content-type", b"application/vnd.apache.arrow.stream")

#: (exchange, symbol, levels or None for all) -> one row of `storage.schema.DEPTH`; KeyError when nobody collects it.
Books = Callable[[str, str, int | None], Awaitable[pa.RecordBatch]]


class BooksApp:
    """ASGI application that answers GET `/api/v1/books/{symbol}?exchange=&levels=25|full&format=json|arrow`."""

    def __init__(self, books: Books) -> None:
        self._books = books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        symbol = last_segment(scope, BOOKS)
        try:
            exchange, levels, as_arrow = _parse(scope["query_string"])
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
            await send_whole(send, 200, (*_HEADERS, _ARROW), _stream(row))
        else:
            await send_whole(send, 200, (*_HEADERS, _JSON), _json(exchange, row))


def _parse(query_string: bytes) -> tuple[str, int | None, bool]:
    query = dict(parse_qsl(query_string.decode("ascii", "replace"), keep_blank_values=True))
    if "exchange" not in query:
        raise BadRequest(400, "exchange is missing: a symbol may trade on several.")
    levels = query.get("levels", str(DEFAULT_LEVELS))
    if levels != "full" and not (levels.isascii() and levels.isdigit() and 1 <= int(levels[:6]) <= MOST_LEVELS):
        raise BadRequest(400, f"levels must be full or a whole number from 1 to {MOST_LEVELS}.")
    wanted = query.get("format", "json")
    if wanted not in ("json", "arrow"):
        raise BadRequest(400, "format must be json or arrow.")
    return query["exchange"], None if levels == "full" else int(levels), wanted == "arrow"


def _stream(row: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    return sink.getvalue().to_pybytes()


def _json(exchange: str, row: pa.RecordBatch) -> bytes:
    (book,) = row.to_pylist()
    sides = {side: [[level["price"], level["size"]] for level in book[side]] for side in ("bids", "asks")}
    return msgspec.json.encode({"exchange": exchange, **book, **sides})
