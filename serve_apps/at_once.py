"""Requests that are answered while they are being read: a plain GET of data, which nobody has to be asked about, takes
a third of the time that a task, a scope and messages of its own would.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: One whole GET of data and nothing behind it, without a header that asks for anything but the plain answer, says where
#: the request ends, who asks, or is about the connection. Whatever does not look like this goes the usual way.
_PLAIN: Final = re.compile(rb"GET /api/data\?([A-Za-z0-9&=,._~:/+%-]+)")
_PLAIN_HEADERS: Final = re.compile(
    rb"(?:(?!(?i:content-|transfer-|connection:|keep-alive:|upgrade:|expect:|range:|if-|te:|trailer:))"
    rb"(?!(?i:authorization:|x-api-key:))"
    rb"(?!(?i:accept:)(?! \*/\*\r))"
    rb"[A-Za-z0-9_-]+:[\t -~]*\r\n)+\r\n"
)

#: A client sends the same headers with each request; they are looked at once unless they are longer than this.
_REMEMBERED_BYTES: Final = 1024

#: A query string -> the lines of headers and the body of `/api/data`, or None.
AtOnce = Callable[[bytes], tuple[bytes, bytes] | None]


def protocol(at_once: AtOnce) -> type[HttpToolsProtocol]:
    """For uvicorn: it answers plain requests with what `at_once` says, and leaves all others to the application."""

    class Connection(HttpToolsProtocol):
        _within = False

        def data_received(self, data: bytes) -> None:
            start, _, headers = data.partition(b" HTTP/1.1\r\n")
            plain = None if self._within else _PLAIN.fullmatch(start)
            if plain is None or not _are_plain(headers) or not self._idle() or (answer := at_once(plain[1])) is None:
                super().data_received(data)
                return
            own = [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
            self.transport.write(b"".join([b"HTTP/1.1 200 OK\r\n", *own, answer[0], b"\r\n", answer[1]]))
            self.on_response_complete()

        def on_message_begin(self) -> None:
            self._within = True
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self._within = False
            super().on_message_complete()

        def _idle(self) -> bool:
            """Whether nobody else writes to this connection, whoever is at the other end reads, and there is room."""
            limit = self.limit_concurrency
            return (
                (self.cycle is None or self.cycle.response_complete)
                and not self.flow.write_paused
                and not self.transport.is_closing()
                and (limit is None or len(self.connections) < limit)
            )

    return Connection


def _are_plain(headers: bytes) -> bool:
    return len(headers) <= _REMEMBERED_BYTES and _known_to_be_plain(headers)


@lru_cache(maxsize=1024)
def _known_to_be_plain(headers: bytes) -> bool:
    return _PLAIN_HEADERS.fullmatch(headers) is not None
