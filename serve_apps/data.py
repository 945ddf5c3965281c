"""The data API: ranges of column files as bytes or in other formats, and which symbols there are. Pure ASGI, no
framework.
"""

from collections.abc import Mapping
from functools import partial

import pyarrow as pa

from config import Settings
from config.node_folder import on_this_node
from serve_apps.asgi import Receive, Scope, Send, is_request, send_whole
from serve_apps.data_answers import ERROR_HEADERS, DataAnswers
from serve_apps.data_lists import DataLists, Listed
from serve_apps.other_nodes import Elsewhere
from storage.column_reader import ColumnReader


async def nobody_lists() -> Mapping[str, pa.Table | None]:
    """Where no collector can be asked, symbols are those that are stored."""
    return {}


class DataApp:
    """ASGI application that answers `/api/data` by `answers` and the rest of `/api` by `lists`."""

    def __init__(self, answers: DataAnswers, lists: DataLists) -> None:
        self._answers = answers
        self._lists = lists

    def at_once(self, query_string: bytes) -> tuple[bytes, bytes] | None:
        """See `DataAnswers.at_once`."""
        return self._answers.at_once(query_string)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not await is_request(scope, receive, send):
            return
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            path = ""
        if path == "/api/data":
            await self._answers(scope, receive, send)
        elif path == "/api/symbols":
            await self._lists.symbols(scope, send)
        elif path == "/api/symbol-search":
            await self._lists.search(scope, send)
        elif path == "/api/status":
            await self._lists.status(send)
        else:
            await send_whole(send, 404, ERROR_HEADERS, b"Not Found")


def build(settings: Settings, listed: Listed = nobody_lists, elsewhere: Elsewhere | None = None) -> DataApp:
    """The application as the settings want it, for the files of the node it is on, and those `elsewhere`."""
    reader = partial(ColumnReader, on_this_node(settings).columns)
    answers = DataAnswers(reader(), settings.serving.max_reply_bytes, reader(), elsewhere)
    enabled = [name for name, own in settings.exchanges.items() if own.enabled]
    return DataApp(answers, DataLists(reader(), listed, enabled, elsewhere=elsewhere))
