"""`/api/data`: rows of one symbol in a time range, as the bytes of the column files or in another format.

A request runs on the event loop while it can only touch little: a short range to select and few pages to
answer from. What may read much from disk goes through a thread, because a page fault in a mapped file blocks
whoever touches it: the selection over many days, the gathering of decimated rows, and, for a large reply, loading
those of its pages that are not in memory, a window ahead of the socket, which sends them from there without a copy.
"""

import asyncio
import errno
import itertools
from collections.abc import AsyncGenerator, Buffer, Iterator, Sequence
from contextlib import aclosing
from functools import cache, lru_cache
from typing import Final

import numpy as np

from serve_apps.asgi import (
    ANY_ORIGIN,
    Headers,
    Receive,
    Scope,
    Send,
    disconnected,
    matches,
    send_head,
    send_problem,
    send_whole,
)
from serve_apps.data_conditions import (
    IMMUTABLE_FOR_S,
    Conditions,
    accepted_encoding,
    accepted_format,
    all_sealed,
    byte_range,
    conditions,
    etag,
)
from serve_apps.data_formats import CONTENT_TYPES, ENCODINGS, Encoding, compressed, encoded
from serve_apps.data_query import BadOption, BadRequest, DataQuery, Format, parse, parse_again
from serve_apps.data_rows import PAGE, joined, pages_to_read, rows_of, stored_columns, windows
from serve_apps.other_nodes import Elsewhere, NodeAway
from storage.column_map import in_memory
from storage.column_reader import BeingRewritten, ColumnReader, DayState, MissingColumn, Selection
from storage.thinned_rows import Rows, Values

#: A range longer than this is selected in a thread: each day of it may cost several files to open and search.
INLINE_RANGE_NS: Final = 8 * 86_400 * 1_000_000_000
#: A reply up to this many bytes is one message, never compressed as numbers: it travels in a moment.
WHOLE_REPLY_BYTES: Final = 64 * 1024
#: Pages up to this many bytes are read on the event loop.
INLINE_PAGE_BYTES: Final = 1024 * 1024
#: A large reply is sent in pieces of this many bytes, loaded a window of several pieces at a time.
PIECE_BYTES: Final = 1024 * 1024

_ATTEMPTS: Final = 5
_ATTEMPT_DELAY_S: Final = 0.05

ERROR_HEADERS: Final = (ANY_ORIGIN,)
_RETRY_HEADERS: Final = (ANY_ORIGIN, (b"retry-after", b"1"))
_BINARY: Final = (b"content-type", CONTENT_TYPES["binary"])
_ACCEPT_RANGES: Final = (b"accept-ranges", b"bytes")
_IMMUTABLE: Final = (b"cache-control", b"public, max-age=%d, immutable" % IMMUTABLE_FOR_S)
_ASK_AGAIN: Final = (b"cache-control", b"no-cache")


class DataAnswers:
    """Answers from column files, up to `max_reply_bytes` each.

    A reader is locked while it selects. With a `long_range_reader` of the same files for the selections in
    threads, one over years does not hold up `reader`, which is used on the event loop. Rows that are on other nodes
    come from `elsewhere`.
    """

    def __init__(
        self,
        reader: ColumnReader,
        max_reply_bytes: int,
        long_range_reader: ColumnReader,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._reader = reader
        self._long_range_reader = long_range_reader
        self._max_reply_bytes = max_reply_bytes
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET or HEAD."""
        try:
            query = parse(scope["query_string"])
            if self._elsewhere is not None and not self._elsewhere.known:
                await self._elsewhere.first_look()
            if self._elsewhere is not None and self._elsewhere.has(query.exchange, query.symbol):
                rows, states = await self._elsewhere.rows(query)
            else:
                rows, states = await self._own(query)
        except BadOption as error:
            await send_problem(send, 400, str(error), ERROR_HEADERS)
        except BadRequest as error:
            await send_whole(send, 400, ERROR_HEADERS, str(error).encode())
        except MissingColumn as error:
            await send_whole(send, 500, ERROR_HEADERS, str(error).encode())
        except BeingRewritten:
            await send_problem(send, 503, "Rows of this range are being rewritten: ask again.", _RETRY_HEADERS)
        except NodeAway:
            await send_problem(send, 503, "Who has these rows does not answer now: ask again.", _RETRY_HEADERS)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            detail = "Too many files are in use: ask for a shorter range, or again later."
            await send_problem(send, 503, detail, _RETRY_HEADERS)
        else:
            await self._answer(query, rows, states, scope, receive, send)

    def at_once(self, query_string: bytes) -> tuple[bytes, bytes] | None:
        """The lines of headers and the body that answer a plain GET; None where that may take long, or is an error."""
        try:
            query = parse_again(query_string)
            if query.end_ns - query.start_ns > INLINE_RANGE_NS or query.format not in (None, "binary"):
                return None
            others = self._elsewhere
            if others is not None and (not others.known or others.has(query.exchange, query.symbol)):
                return None
            selection = self._reader.select(*_where(query))
        except (BadRequest, MissingColumn, BeingRewritten, OSError):
            return None
        if query.decimate == "minmax" and query.max_points:
            return None
        rows = rows_of(query, selection)
        header = header_line(query.columns, query.record_sizes, rows.count)
        length = len(header) + rows.count * sum(query.record_sizes)
        if (
            length > min(WHOLE_REPLY_BYTES, self._max_reply_bytes)
            or pages_to_read(rows, query.record_sizes) > INLINE_PAGE_BYTES
        ):
            return None
        tag = etag(query_string, "binary", None, selection.states)
        sealed = all_sealed(query.start_ns, query.end_ns, selection.states)
        body = joined(header, [part for name in query.columns for part in rows.parts(name)])
        return _plain_lines(sealed, query.format) % (tag, length), body

    async def _select(self, query: DataQuery) -> Selection:
        """Raises `MissingColumn`, and `BeingRewritten` when that lasts over several attempts."""
        where = _where(query)
        for _ in range(_ATTEMPTS - 1):
            try:
                if query.end_ns - query.start_ns <= INLINE_RANGE_NS:
                    return self._reader.select(*where)
                return await asyncio.to_thread(self._long_range_reader.select, *where)
            except BeingRewritten:
                await asyncio.sleep(_ATTEMPT_DELAY_S)
        return await asyncio.to_thread(self._long_range_reader.select, *where)

    async def _own(self, query: DataQuery) -> tuple[Rows, Sequence[DayState]]:
        """Those of this node; raises as `_select` does."""
        selection = await self._select(query)
        if query.decimate == "minmax" and selection.rows * 16 > INLINE_PAGE_BYTES:
            return await asyncio.to_thread(rows_of, query, selection), selection.states
        return rows_of(query, selection), selection.states

    async def _answer(
        self, query: DataQuery, rows: Rows, states: Sequence[DayState], scope: Scope, receive: Receive, send: Send
    ) -> None:
        length = rows.count * sum(query.record_sizes)
        header = header_line(query.columns, query.record_sizes, rows.count)
        length += len(header)
        if length > self._max_reply_bytes:
            await send_whole(send, 413, ERROR_HEADERS, self._too_large(length))
            return
        said = conditions(scope)
        form = query.format or (accepted_format(said.accept) if said.accept else "binary")
        encodings = () if form == "binary" and (length <= WHOLE_REPLY_BYTES or said.range) else ENCODINGS[form]
        encoding = accepted_encoding(said.accept_encoding, encodings) if encodings else None
        tag = etag(scope["query_string"], form, encoding, states)
        sealed = all_sealed(query.start_ns, query.end_ns, states)
        headers = _caching(tag, sealed, query.format, encodings)
        if said.if_none_match and matches(said.if_none_match, tag):
            await send_head(send, 304, headers)
            return
        headers.append((b"content-type", CONTENT_TYPES[form]))
        if encoding is not None:
            headers.append((b"content-encoding", encoding.encode()))
        if form == "binary" and encoding is None:
            headers.append(_ACCEPT_RANGES)
            await self._send_binary(query, rows, header, length, said, tag, headers, scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await send_head(send, 200, headers)
            return
        steps = _encoded_steps(query, rows, header, form, encoding)
        await send_steps(receive, send, 200, headers, _taken_in_a_thread(steps))

    async def _send_binary(
        self, query: DataQuery, rows: Rows, header: bytes, length: int, said: Conditions, tag: bytes,
        headers: list[tuple[bytes, bytes]], scope: Scope, receive: Receive, send: Send,
    ) -> None:  # fmt: skip
        status, first, last = 200, 0, length - 1
        if said.range and (not said.if_range or said.if_range.encode() == tag):
            try:
                wanted = byte_range(said.range, length)
            except ValueError:
                refused = [*headers[:1], (b"content-range", b"bytes */%d" % length)]
                await send_problem(send, 416, f"The answer has {length} bytes.", refused)
                return
            if wanted is not None:
                status, (first, last) = 206, wanted
                headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last, length)))
        if scope["method"] == "HEAD":
            await send_head(send, status, [*headers, (b"content-length", b"%d" % (last - first + 1))])
            return
        parts = [part for name in query.columns for part in rows.parts(name)]
        if length > WHOLE_REPLY_BYTES:
            headers.append((b"content-length", b"%d" % (last - first + 1)))
            await send_steps(receive, send, status, headers, _loaded(binary_steps(header, parts, first, last)))
            return
        if pages_to_read(rows, query.record_sizes) <= INLINE_PAGE_BYTES:
            body = joined(header, parts)
        else:
            body = await asyncio.to_thread(joined, header, parts)
        await send_whole(send, status, headers, body if status == 200 else body[first : last + 1])

    def _too_large(self, length: int) -> bytes:
        return (
            f"Reply of {length} bytes is over the limit of {self._max_reply_bytes}: "
            "ask for a shorter range, fewer columns, or set max_points"
        ).encode()


def _where(query: DataQuery) -> tuple[str, str, str, int, int, Sequence[str]]:
    """What to select."""
    return query.exchange, query.symbol, query.row_type, query.start_ns, query.end_ns, stored_columns(query)


def _caching(tag: bytes, sealed: bool, form: Format | None, encodings: Sequence[Encoding]) -> list[tuple[bytes, bytes]]:
    """Headers for who may keep the answer. `form` is the format that the query says."""
    headers = [ANY_ORIGIN, (b"etag", tag), _IMMUTABLE if sealed else _ASK_AGAIN]
    if form is None:
        headers.append((b"vary", b"Accept, Accept-Encoding" if encodings else b"Accept"))
    elif encodings:
        headers.append((b"vary", b"Accept-Encoding"))
    return headers


@cache
def _plain_lines(sealed: bool, form: Format | None) -> bytes:
    """With places for the tag and the length."""
    headers = [*_caching(b"%b", sealed, form, ()), _BINARY, _ACCEPT_RANGES, (b"content-length", b"%d")]
    return b"".join([b"%b: %b\r\n" % line for line in headers])


@lru_cache(maxsize=4096)
def header_line(columns: Sequence[str], record_sizes: Sequence[int], rows: int) -> bytes:
    """The JSON line before the binary part, with its newline. Column names are of the schema: no escapes."""
    entries = [
        f'{{"data_length":{rows * size},"name":"{name}","num_records":{rows},"record_size":{size}}}'
        for name, size in zip(columns, record_sizes, strict=True)
    ]
    return f'{{"columns":[{",".join(entries)}]}}\n'.encode()


#: Of a window of values, which of its bytes.
Step = tuple[Values, int, int]


def binary_steps(header: bytes, parts: Sequence[Values], first: int, last: int) -> Iterator[Step]:
    """The windows that have the bytes `first` to `last` of the body."""
    place = 0
    for window in windows([np.frombuffer(header, np.uint8), *parts]):
        size = len(window) * window.itemsize
        if first < place + size and place <= last:
            yield window, max(0, first - place), min(size, last + 1 - place)
        place += size


def pieces(window: Values, first: int, end: int) -> list[Buffer]:
    """These bytes of a window, without a copy where it can be."""
    view = np.ascontiguousarray(window).view(np.uint8)[first:end]
    return [memoryview(view[low : low + PIECE_BYTES]) for low in range(0, len(view), PIECE_BYTES)]


def loaded(window: Values, first: int, end: int) -> list[Buffer]:
    """The same, after their pages were read from disk."""
    found = pieces(window, first, end)
    for piece in found:
        np.frombuffer(piece, np.uint8)[::PAGE].max()
    return found


async def _loaded(steps: Iterator[Step]) -> AsyncGenerator[Sequence[Buffer]]:
    """A thread reads what is not in memory."""
    for window, first, end in steps:
        if isinstance(window, np.ndarray) and window.flags.c_contiguous and in_memory(window):
            yield pieces(window, first, end)
        else:
            yield await asyncio.to_thread(loaded, window, first, end)


async def _taken_in_a_thread(steps: Iterator[Sequence[Buffer]]) -> AsyncGenerator[Sequence[Buffer]]:
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step


async def send_steps(
    receive: Receive, send: Send, status: int, headers: Headers, steps: AsyncGenerator[Sequence[Buffer]]
) -> None:
    """Send the body a piece at a time, while the client is there.

    Leaves the answer unfinished when the client has gone away, which the server notices itself.
    """
    gone = asyncio.create_task(disconnected(receive))
    try:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        async with aclosing(steps):
            async for step in steps:
                for piece in step:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        await asyncio.wait([gone])


def _encoded_steps(
    query: DataQuery, rows: Rows, header: bytes, form: Format, encoding: Encoding | None
) -> Iterator[list[Buffer]]:
    if form == "binary":
        parts = [part for name in query.columns for part in rows.parts(name)]
        every_byte = header, parts, 0, len(header) + rows.count * sum(query.record_sizes)
        body: Iterator[Buffer] = itertools.chain.from_iterable(itertools.starmap(loaded, binary_steps(*every_byte)))
    else:
        body = encoded(form, query.columns, rows)
    if encoding is not None:
        body = compressed(encoding, body)
    return ([piece] for piece in body)
