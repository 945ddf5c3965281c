"""What is written down about an instance itself, in the tables `audit_log`, `symbols` and `users`: who changed what
and what happened, what is collected, and who may sign in. Nobody waits for it: while the database actor is away, what
is to be written waits here, the newest of it.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from storage.record_schema import AUDIT_LOG, USERS
from storage.schema import SYMBOLS
from storage.users import User

#: Tables that wait for the database actor.
MOST_WAITING: Final = 1000
#: What an exchange says of its symbols is looked at this often, and when others are collected.
LIST_INTERVAL_S: Final = 600.0

log = structlog.get_logger(__name__)


class Chronicle:
    """Writes to `database`, the handle of an actor; `clock` tells ns."""

    def __init__(self, database: Any, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock
        self._waiting: deque[tuple[str, str | None, pa.Table]] = deque(maxlen=MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        #: By exchange: the symbols that are collected, and when that was told.
        self._told: dict[str, tuple[frozenset[str], int]] = {}
        #: By exchange: what the table has of it.
        self._listed: dict[str, pa.Table] = {}

    def note(
        self,
        event: str,
        component: str,
        message: str,
        *,
        exchange: str = "",
        symbols: Iterable[str] = ("",),
        severity: str = "info",
        user: str = "",
        **details: Any,
    ) -> None:
        """Something happened, or somebody did it: a row for each of the symbols."""
        said = msgspec.json.encode(details).decode()
        same = {"time": self._clock(), "event": event, "severity": severity, "component": component, "user": user}
        same |= {"exchange": exchange, "message": message, "details": said}
        rows = [{**same, "id": str(uuid.uuid4()), "symbol": symbol} for symbol in symbols]
        if rows:
            self._write("audit_log", None, pa.Table.from_pylist(rows, schema=AUDIT_LOG))

    def is_due(self, exchange: str, collected: Collection[str]) -> bool:
        """Whether it is time to say what the exchange lists."""
        told, at = self._told.get(exchange, (frozenset(), 0))
        return told != frozenset(collected) or self._clock() - at > LIST_INTERVAL_S * 1e9

    def list_is(self, exchange: str, instruments: pa.Table, collected: Collection[str]) -> None:
        """What the exchange lists (`storage.schema.INSTRUMENTS`), and which of it is collected. What it no longer lists
        is no longer active."""
        self._told[exchange] = (frozenset(collected), self._clock())
        is_collected = pc.is_in(instruments["symbol"], pa.array(list(collected), pa.string()))
        now = instruments.append_column(SYMBOLS.field("collected"), is_collected).select(SYMBOLS.names).cast(SYMBOLS)
        before = self._listed.get(exchange)
        if before is not None:
            gone = before.filter(pc.invert(pc.is_in(before["symbol"], now["symbol"].combine_chunks())))
            for name in ("active", "collected"):
                never = pa.repeat(pa.scalar(False), gone.num_rows)
                gone = gone.set_column(SYMBOLS.get_field_index(name), SYMBOLS.field(name), never)
            now = pa.concat_tables([now, gone])
            if now.equals(before):
                return
        self._listed[exchange] = now
        self._write("symbols", exchange, now)

    def users_are(self, users: Iterable[User], active: bool = True) -> None:
        """Users who may sign in, or may no more; what they sign in with stays where it is."""
        rows = [
            {**{name: getattr(one, name) for name in USERS.names if name != "active"}, "active": active}
            for one in users
        ]
        if rows:
            self._write("users", None, pa.Table.from_pylist(rows, schema=USERS))

    async def flush(self, timeout_s: float) -> None:
        """Wait until the database actor has everything, not longer than that."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=timeout_s)

    def _write(self, table: str, exchange: str | None, rows: pa.Table) -> None:
        self._waiting.append((table, exchange, rows))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._hand_on(), name="chronicle")

    async def _hand_on(self) -> None:
        while self._waiting:
            table, exchange, rows = self._waiting.popleft()
            try:
                await self._database.insert.remote(table, exchange, rows)
            except Exception as error:  # noqa: BLE001 - it is about what happened, which goes on
                log.warning("rows were not written down", table=table, rows=rows.num_rows, error=repr(error))
