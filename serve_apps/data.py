"""The binary data API: ranges of column files as bytes, and the list of symbols. Pure ASGI, no framework.

A request runs on the event loop while it can only touch little: a short range to select and few pages to
answer from. What may read much from disk goes through a thread, because a page fault in a mapped file blocks
whoever touches it: the selection over many days, the gathering of decimated rows, and, for a large reply,
loading its pages a window ahead of the socket, which then sends them from the page cache without a copy.
"""

import asyncio
import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from config import Settings
from serve_apps.asgi import (
    ANY_ORIGIN,
    Receive,
    Scope,
    Send,
    disconnected,
    is_request,
    send_problem,
    send_whole,
)
from serve_apps.data_query import BadRequest, DataQuery, parse
from storage.column_layout import Column, folder_name
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn, Selection

#: A range longer than this is selected in a thread: each day of it may cost several files to open and search.
INLINE_RANGE_NS: Final = 8 * 86_400 * 1_000_000_000
#: A reply up to this many bytes is one message.
WHOLE_REPLY_BYTES: Final = 64 * 1024
#: Pages up to this many bytes are read on the event loop.
INLINE_PAGE_BYTES: Final = 1024 * 1024
#: A large reply is sent in pieces of this many bytes, loaded a window of several pieces at a time.
PIECE_BYTES: Final = 1024 * 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024

_PAGE: Final = 4096
_ATTEMPTS: Final = 5
_ATTEMPT_DELAY_S: Final = 0.05

_ERROR_HEADERS: Final = (ANY_ORIGIN,)
_RETRY_HEADERS: Final = (ANY_ORIGIN, (b"retry-after", b"1"))
_BINARY_HEADERS: Final = (ANY_ORIGIN, (b"content-type", b"application/octet-stream"))
_SYMBOLS_HEADERS: Final = (
    ANY_ORIGIN,
    (b"content-type", b"application/json"),
    (b"x-cache-status", b"MEMORY"),
    (b"x-fetch-time-ms", b"0"),
)


class DataApp:
    """ASGI application that answers `/api/data` and `/api/symbols` from column files.

    A reader is locked while it selects. With a `long_range_reader` of the same files for the selections in
    threads, one over years does not hold up `reader`, which is used on the event loop.
    """

    def __init__(
        self, reader: ColumnReader, max_reply_bytes: int, long_range_reader: ColumnReader | None = None
    ) -> None:
        self._reader = reader
        self._long_range_reader = long_range_reader or reader
        self._max_reply_bytes = max_reply_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_request(scope, receive, send):
            return
        if scope["method"] == "GET" and scope["path"] == "/api/data":
            await self._send_data(scope["query_string"], receive, send)
        elif scope["method"] == "GET" and scope["path"] == "/api/symbols":
            symbols = self._reader.symbols()
            on_disk = {exchange: sorted(map(folder_name, names)) for exchange, names in symbols.items()}
            body = symbols_body(on_disk, scope["query_string"])
            await send_whole(send, 200, _SYMBOLS_HEADERS, body)
        else:
            await send_whole(send, 404, _ERROR_HEADERS, b"Not Found")

    async def _send_data(self, query_string: bytes, receive: Receive, send: Send) -> None:
        try:
            query = parse(query_string)
            selection = await self._select(query)
        except BadRequest as error:
            await send_whole(send, 400, _ERROR_HEADERS, str(error).encode())
            return
        except MissingColumn as error:
            await send_whole(send, 500, _ERROR_HEADERS, str(error).encode())
            return
        except BeingRewritten:
            await send_problem(send, 503, "Rows of this range are being rewritten: ask again.", _RETRY_HEADERS)
            return
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            detail = "Too many files are in use: ask for a shorter range, or again later."
            await send_problem(send, 503, detail, _RETRY_HEADERS)
            return
        stride = max(1, -(-selection.rows // query.max_points)) if query.max_points else 1
        rows = -(-selection.rows // stride)
        header = header_line(query.columns, query.record_sizes, rows)
        length = len(header) + rows * sum(query.record_sizes)
        if length > self._max_reply_bytes:
            await send_whole(send, 413, _ERROR_HEADERS, self._too_large(length))
            return
        parts = [part for name in query.columns for part in selection.parts(name)]
        if stride > 1:
            parts = [part for name in query.columns for part in every(selection.parts(name), stride)]
        if length > WHOLE_REPLY_BYTES:
            await send_large(receive, send, header, parts, length)
        elif rows * sum([min(size * stride, _PAGE) for size in query.record_sizes]) <= INLINE_PAGE_BYTES:
            await send_whole(send, 200, _BINARY_HEADERS, joined(header, parts))
        else:
            body = await asyncio.to_thread(joined, header, parts)
            await send_whole(send, 200, _BINARY_HEADERS, body)

    async def _select(self, query: DataQuery) -> Selection:
        """Raises `MissingColumn`, and `BeingRewritten` when that lasts over several attempts."""
        where = (query.exchange, query.symbol, query.row_type, query.start_ns, query.end_ns, query.columns)
        for _ in range(_ATTEMPTS - 1):
            try:
                if query.end_ns - query.start_ns <= INLINE_RANGE_NS:
                    return self._reader.select(*where)
                return await asyncio.to_thread(self._long_range_reader.select, *where)
            except BeingRewritten:
                await asyncio.sleep(_ATTEMPT_DELAY_S)
        return await asyncio.to_thread(self._long_range_reader.select, *where)

    def _too_large(self, length: int) -> bytes:
        return (
            f"Reply of {length} bytes is over the limit of {self._max_reply_bytes}: "
            "ask for a shorter range, fewer columns, or set max_points"
        ).encode()


def header_line(columns: Sequence[str], record_sizes: Sequence[int], rows: int) -> bytes:
    """The JSON line before the binary part, with its newline. Column names are of the schema: no escapes."""
    entries = [
        f'{{"data_length":{rows * size},"name":"{name}","num_records":{rows},"record_size":{size}}}'
        for name, size in zip(columns, record_sizes, strict=True)
    ]
    return f'{{"columns":[{",".join(entries)}]}}\n'.encode()


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
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def every(parts: Iterable[Column], stride: int) -> Iterator[Column]:
    """Views of rows 0, stride, 2 * stride, ... counted across all parts."""
    skipped = 0
    for part in parts:
        yield part[skipped::stride]
        skipped = (skipped - len(part)) % stride


def joined(header: bytes, parts: Sequence[Column]) -> bytes:
    """Header and columns as one body. `ascontiguousarray` copies decimated parts only."""
    return b"".join([header, *map(np.ascontiguousarray, parts)])


async def send_large(receive: Receive, send: Send, header: bytes, parts: Sequence[Column], length: int) -> None:
    """Send the body in pieces without copying them, while the client is there.

    Leaves the answer unfinished when the client has gone away, which the server notices itself.
    """
    gone = asyncio.create_task(disconnected(receive))
    try:
        headers = [*_BINARY_HEADERS, (b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": header, "more_body": True})
        for window in windows(parts):
            for piece in await asyncio.to_thread(loaded, window):
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        await asyncio.wait([gone])


def windows(parts: Iterable[Column]) -> Iterator[Column]:
    """Slices of the parts, in order, none of which has more than `WINDOW_BYTES` of pages to read."""
    for part in parts:
        step = max(1, WINDOW_BYTES // min(abs(part.strides[0]), _PAGE))
        for first in range(0, len(part), step):
            yield part[first : first + step]


def loaded(window: Column) -> list[memoryview]:
    """The bytes of a window in pieces, after their pages were read from disk."""
    view = np.ascontiguousarray(window).view(np.uint8)
    view[::_PAGE].max()
    return [memoryview(view[first : first + PIECE_BYTES]) for first in range(0, len(view), PIECE_BYTES)]


def build(settings: Settings) -> DataApp:
    """The application as the settings want it."""
    return DataApp(ColumnReader(settings.columns), settings.serving.max_reply_bytes, ColumnReader(settings.columns))
