"""A client of a rayfeed over HTTP, for notebooks and programs: `connect("http://127.0.0.1:8080")`.

Tables of trades and quotes come as Arrow, however long the range; what failed on the way and may be asked again is
asked again. `AsyncClient` is for asyncio, `Client` does the same for everybody else, in a thread of its own.
"""

import asyncio
import operator
import random
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, SupportsIndex

import aiohttp
import pyarrow as pa

from cluster.client_columns import BadAnswer, Kind, Range, table_of
from cluster.client_live import LOST, UNKNOWN_USER, FeedError, Following
from cluster.moments import moment

#: int ns, a datetime (also of pandas) that knows its time zone, or a text as on the command line (`2026-01-31T12:00`,
#: `2h ago`).
Moment = SupportsIndex | str | datetime

ATTEMPTS: Final = 6
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
TIMEOUT_S: Final = 60.0
#: A live feed that is left has so long to say good-bye, and what Ctrl-C has interrupted to end.
GOOD_BYE_S: Final = 1.0
ENDS_S: Final = 2.0
#: Of the live feed, in bytes: a snapshot of many symbols.
LONGEST_MESSAGE: Final = 64 << 20
_RETRIED: Final = frozenset((408, 429, 502, 503, 504))
_TOO_LARGE: Final = 413


class RefusedError(Exception):
    """What the server said to a request it does not answer: `status` and, as text, why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{status}: {why}")
        self.status = status
        self.why = why


class AsyncClient:
    """Use as an async context manager. Methods raise `RefusedError`, and `ConnectionError` when nobody answers."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def symbols(self) -> dict[str, list[str]]:
        """Exchange -> its symbols that have traded, as the folders of their files are called."""
        said: dict[str, list[str]] = (await self.get("/api/symbols"))["exchanges"]
        return said

    async def trades(self, exchange: str, symbol: str, start: Moment, end: Moment = "now") -> pa.Table:
        """`ts_event` (int64 ns), `trade_id`, `price`, `size`, `side` (the taker's: 0 buy, 1 sell), by time."""
        return await self._table("trades", exchange, symbol, start, end)

    async def quotes(self, exchange: str, symbol: str, start: Moment, end: Moment = "now") -> pa.Table:
        """Best bid and ask: `ts_event` (int64 ns), `sequence`, `bid_price`, `bid_size`, `ask_price`, `ask_size`,
        `last_price`, `last_size`, by time; null where not known."""
        return await self._table("quotes", exchange, symbol, start, end)

    async def batches(
        self, kind: Kind, exchange: str, symbol: str, start: Moment, end: Moment = "now", span_s: int = 3600
    ) -> AsyncGenerator[pa.Table]:
        """The same as `trades` or `quotes`, in tables of `span_s` seconds, those without rows left out: for ranges that
        do not fit in memory."""
        if span_s < 1:
            raise ValueError(f"span_s: expected a whole number of seconds, 1 or more, not {span_s}")
        begin, last = _ns(start), _ns(end, end=True)
        while begin <= last:
            until = min(last, (begin // 1_000_000_000 + span_s) * 1_000_000_000 - 1)
            table = await self._asked(Range(kind, exchange, symbol, begin, until))
            if table.num_rows:
                yield table
            begin = until + 1

    async def live(self, *topics: str, rate: float | None = None) -> AsyncGenerator[dict[str, Any]]:
        """Snapshots and updates of topics of the live feed (docs/live.md), `rate` updates a second of each at most (0:
        every one). A lost connection is made again, and what was missed meanwhile comes first; where that is too long
        ago, or the feed has lost it, a snapshot. Ends when you stop asking; `FeedError` when the topics cannot be
        followed."""
        following, wait = Following(topics, rate), FIRST_WAIT_S
        while True:
            try:
                async with self._session.ws_connect(
                    f"{self.url}/ws", max_msg_size=LONGEST_MESSAGE, timeout=aiohttp.ClientWSTimeout(ws_close=GOOD_BYE_S)
                ) as socket:
                    await _say(socket, following)
                    while (said := await socket.receive(following.silence_s)).type == aiohttp.WSMsgType.TEXT:
                        wait = FIRST_WAIT_S
                        if following.take(message := said.json()):
                            yield message
                        elif message.get("type") == LOST:
                            await _say(socket, following)
                    if socket.close_code == UNKNOWN_USER:
                        raise FeedError(str(said.extra or "the token is not known, or no longer"))
            except aiohttp.WSServerHandshakeError as error:
                if error.status not in _RETRIED:
                    raise RefusedError(error.status, error.message) from None
            except (aiohttp.ClientError, TimeoutError):
                pass  # asked again
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
            wait = min(LONGEST_WAIT_S, 2 * wait)

    async def get(self, path: str, **query: Any) -> Any:
        """What any path that speaks JSON answers, for example `get("/api/v1/charts/BTCUSDT", timeframe="1m")`."""
        return await self._answer(path, query, _json)

    async def _table(self, kind: Kind, exchange: str, symbol: str, start: Moment, end: Moment) -> pa.Table:
        return await self._asked(Range(kind, exchange, symbol, _ns(start), _ns(end, end=True)))

    async def _asked(self, wanted: Range) -> pa.Table:
        try:
            body = await self._answer(wanted.target, {}, aiohttp.ClientResponse.read)
        except RefusedError as error:
            if error.status != _TOO_LARGE:
                raise
            return pa.concat_tables([await self._asked(half) for half in wanted.halves()])
        return table_of(wanted, body)

    async def _answer(self, path: str, query: Mapping[str, Any], read: Any) -> Any:
        """Only what may be repeated is asked here."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        for attempt in range(1, ATTEMPTS + 1):
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311
            try:
                async with self._session.get(self.url + path, params=given) as answer:
                    if answer.status == 200:
                        return await read(answer)
                    refused = RefusedError(answer.status, await _reason(answer))
                    if answer.status not in _RETRIED or attempt == ATTEMPTS:
                        raise refused
                    wait = max(wait, _retry_after(answer))
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == ATTEMPTS:
                    raise ConnectionError(f"{self.url} does not answer: {error or type(error).__name__}") from error
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


class Client:
    """`AsyncClient` for programs without an event loop, and for notebooks, which have one already. Use as a context
    manager, or `close` it."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rayfeed-client", daemon=True)
        self._thread.start()
        self._client = self._run(_made(url, token))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self._run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def symbols(self) -> dict[str, list[str]]:
        return self._run(self._client.symbols())

    def trades(self, exchange: str, symbol: str, start: Moment, end: Moment = "now") -> pa.Table:
        return self._run(self._client.trades(exchange, symbol, start, end))

    def quotes(self, exchange: str, symbol: str, start: Moment, end: Moment = "now") -> pa.Table:
        return self._run(self._client.quotes(exchange, symbol, start, end))

    def batches(
        self, kind: Kind, exchange: str, symbol: str, start: Moment, end: Moment = "now", span_s: int = 3600
    ) -> Iterator[pa.Table]:
        return self._each(self._client.batches(kind, exchange, symbol, start, end, span_s))

    def live(self, *topics: str, rate: float | None = None) -> Iterator[dict[str, Any]]:
        return self._each(self._client.live(*topics, rate=rate))

    def get(self, path: str, **query: Any) -> Any:
        return self._run(self._client.get(path, **query))

    def _run[Result](self, work: Awaitable[Result]) -> Result:
        answer: Future[Result] = Future()
        ended = threading.Event()
        task: asyncio.Task[None] | None = None

        async def wait() -> None:
            try:
                answer.set_result(await work)
            except BaseException as error:
                answer.set_exception(error)
                if not isinstance(error, Exception | asyncio.CancelledError):
                    raise

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(wait())
            # One that is cancelled before its first step never gets to its end.
            task.add_done_callback(lambda _: ended.set())

        def stop() -> None:
            if task is None:
                ended.set()
            else:
                task.cancel()

        try:
            # Ctrl-C may come while this is said, and it may be under way then or not.
            self._loop.call_soon_threadsafe(begin)
            return answer.result()
        except KeyboardInterrupt:
            # Nobody waits for it any more, and what still runs cannot be closed.
            self._loop.call_soon_threadsafe(stop)
            ended.wait(ENDS_S)
            raise

    def _each[Item](self, items: AsyncGenerator[Item]) -> Iterator[Item]:
        try:
            while True:
                try:
                    yield self._run(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            self._run(items.aclose())


def connect(url: str = "http://127.0.0.1:8080", token: str | None = None) -> Client:
    """A client of the instance at `url`; `token` where it wants one. Nothing is asked yet."""
    return Client(url, token)


async def _made(url: str, token: str | None) -> AsyncClient:
    return AsyncClient(url, token)


async def _say(socket: aiohttp.ClientWebSocketResponse, following: Following) -> None:
    for said in following.hello():
        await socket.send_json(said)


async def _json(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json(content_type=None)


async def _reason(answer: aiohttp.ClientResponse) -> str:
    text = (await answer.text(errors="replace")).strip()
    if answer.content_type == "application/problem+json":
        return str((await answer.json(content_type=None)).get("detail", text))
    return text[:500] or (answer.reason or "no reason given")


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    said = answer.headers.get("Retry-After", "")
    return min(float(said), TIMEOUT_S) if said.isdigit() else 0.0


def _ns(at: Moment, end: bool = False) -> int:
    """ValueError for what is no moment."""
    if isinstance(at, str):
        return moment(at, time.time_ns(), end)
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError(f"{at} says no time zone")
        # Those of pandas have nanoseconds, which a text of a time cannot have.
        return moment(at.isoformat(), 0) + int(getattr(at, "nanosecond", 0))
    return operator.index(at)


__all__ = ["AsyncClient", "BadAnswer", "Client", "FeedError", "RefusedError", "connect"]
