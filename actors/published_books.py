"""The best levels of the order books of an exchange, asked of its collector for as long as there is one."""

from collections.abc import Awaitable, Callable
from typing import Final

import pyarrow as pa
import ray

from actors.directory import Handles, collector_name
from storage.redis import BOOK_LEVELS

#: Gives the books of an exchange as `storage.schema.DEPTH`; none when nobody has them now.
Books = Callable[[str], Awaitable[list[pa.RecordBatch]]]

_ALL: Final = None


class CollectorBooks:
    """The books of this instance's collectors."""

    def __init__(self) -> None:
        self._collectors = Handles()

    async def __call__(self, exchange: str) -> list[pa.RecordBatch]:
        try:
            books: list[pa.RecordBatch] = await self._collectors.ask(
                collector_name(exchange), "book", _ALL, BOOK_LEVELS
            )
        except (ValueError, ray.exceptions.RayError):
            return []
        return books
