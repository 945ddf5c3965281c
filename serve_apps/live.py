"""The live feed: WebSockets at `/ws` (topics) and `/ws/{symbol}` (bars of one symbol with their indicators), and the
same as server-sent events at `/api/v1/stream`.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog

from config.live_settings import LiveFeedSettings
from serve_apps.asgi import (
    ANY_ORIGIN,
    BadRequest,
    Receive,
    Scope,
    Send,
    disconnected,
    is_request,
    last_segment,
    send_problem,
    send_whole,
)
from serve_apps.client_address import is_unheard
from serve_apps.live_client import FAILED, TRY_AGAIN, UNKNOWN_USER
from serve_apps.live_feed import Feed, Source
from serve_apps.live_session import Authenticate, Refused, Session, anybody
from serve_apps.live_topics import CHART, InvalidTopic, Topic
from serve_apps.symbol_names import Symbols, find_symbol
from storage.timeframes import MINUTE, TIMEFRAMES

SOCKETS: Final = "/ws"
STREAM: Final = "/api/v1/stream"
#: Whoever checks whether a replica answers.
HEALTH: Final = "/api/v1/stream/health"
#: Who is to be closed but reads nothing is waited for this long.
CLOSE_S: Final = 2.0
_EVENTS: Final = (
    ANY_ORIGIN,
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)

log = structlog.get_logger(__name__)


class LiveApp:
    """ASGI application; its life cycle is that of the feed. `symbols`: what there is, for `/ws/{symbol}`. With
    `only_tls` nobody shows a token or key where others may hear it."""

    def __init__(
        self,
        settings: LiveFeedSettings,
        source: Source,
        symbols: Symbols,
        authenticate: Authenticate = anybody,
        only_tls: bool = False,
    ) -> None:
        self.feed = Feed(settings, source)
        self._settings = settings
        self._symbols = symbols
        self._authenticate = authenticate
        self._only_tls = only_tls
        self._connections = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif await is_request(scope, receive, send):
            if scope["method"] not in ("GET", "HEAD"):
                await send_problem(send, 405, "Only GET is answered here.", [(b"allow", b"GET")])
            elif scope["path"] == HEALTH:
                await send_whole(send, 200, [(b"content-type", b"text/plain")], b"ok")
            elif scope["path"] == STREAM:
                await self._stream(scope, receive, send)
            elif scope["path"] == SOCKETS or scope["path"].startswith(f"{SOCKETS}/"):
                await send_problem(send, 426, "Connect here with a WebSocket.", [(b"upgrade", b"websocket")])
            else:
                await send_problem(send, 404, f"There is nothing here; try {SOCKETS} or {STREAM}?topics=...")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.feed:
            await send({"type": "lifespan.startup.complete"})
            await receive()
            for client in list(self.feed.clients):
                client.close(TRY_AGAIN, "this server stops; connect again")
        await send({"type": "lifespan.shutdown.complete"})

    def _authenticated(self, scope: Scope) -> Authenticate:
        if not self._only_tls or is_unheard(scope):
            return self._authenticate

        async def without_token(token: str | None) -> float | None:
            if token is not None:
                raise Refused("Tokens and keys are taken over HTTPS only.")
            return await self._authenticate(None)

        return without_token

    # ---- WebSockets

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        # A browser sees why it is closed only after it was let in.
        await send({"type": "websocket.accept"})
        session = Session(self.feed, self._authenticated(scope))
        client = session.client
        if self._connections >= self._settings.max_connections:
            client.close(TRY_AGAIN, "too many connections; connect again later")
        self._connections += 1
        try:
            if not client.closed.done():
                await self._admit(session, scope)
            if not client.closed.done():
                await self._converse(session, scope, receive, send)
        finally:
            self._connections -= 1
            self.feed.leave(client)
        if client.closed.done():
            code, reason = client.closed.result()
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(CLOSE_S):
                    await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _admit(self, session: Session, scope: Scope) -> None:
        try:
            await session.admit(_token(scope))
        except Refused as error:
            log.info("refused on the live feed", client=_address(scope), reason=str(error))
            session.client.close(UNKNOWN_USER, str(error))

    async def _converse(self, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        client = session.client

        async def read() -> None:
            session.welcome()
            if scope["path"] != SOCKETS:
                await self._show_chart(session, scope)
            while (message := await receive())["type"] == "websocket.receive":
                await session.heard(message.get("text"))

        async def write() -> None:
            while True:
                content = (await client.take()).content
                await send({"type": "websocket.send", "text" if isinstance(content, str) else "bytes": content})

        self.feed.clients.add(client)
        tasks: list[asyncio.Future[Any]] = [asyncio.create_task(one) for one in (read(), write(), session.stay())]
        try:
            await asyncio.wait([*tasks, client.closed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                # Of one that has gone away there is nothing to tell.
                if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
                    log.error("a client of the live feed could not be served", error=repr(outcome))
                    client.close(FAILED, "something failed here; connect again")

    async def _show_chart(self, session: Session, scope: Scope) -> None:
        query = _query(scope)
        try:
            timeframe = query.get("timeframe", MINUTE)
            if timeframe not in TIMEFRAMES:
                raise BadRequest(400, f"There is no timeframe {timeframe[:20]!r}; there are: {', '.join(TIMEFRAMES)}.")
            named = last_segment(scope, f"{SOCKETS}/")
            exchange, symbol = find_symbol(self._symbols(), named, query.get("exchange"))
            await session.subscribe([Topic(CHART, exchange, symbol, timeframe)], _rate(query), None)
        except (BadRequest, InvalidTopic) as error:
            session.fail("invalid_topic", str(error))

    # ---- server-sent events

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = _query(scope)
        session = Session(self.feed, self._authenticated(scope))
        if self._connections >= self._settings.max_connections:
            await send_problem(send, 503, "There are too many connections; try again later.", [(b"retry-after", b"5")])
            return
        self._connections += 1
        try:
            await session.admit(_token(scope))
            topics = [Topic.of(text) for text in query.get("topics", "").split(",") if text]
            if not topics:
                raise InvalidTopic("Name topics: ?topics=trades:binance:BTCUSDT,bars:binance:*")
            since, rate = _since(scope, query), _rate(query)
            session.check(topics, rate)
            await send({"type": "http.response.start", "status": 200, "headers": list(_EVENTS)})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            await self._send_events(session, topics, rate, since, receive, send)
        except Refused as error:
            log.info("refused on the live feed", client=_address(scope), reason=str(error))
            await send_problem(send, 401, str(error), [(b"www-authenticate", b"Bearer")])
        except InvalidTopic as error:
            await send_problem(send, 400, str(error))
        finally:
            self._connections -= 1
            self.feed.leave(session.client)

    async def _send_events(
        self, session: Session, topics: list[Topic], rate: float | None, since: int | None, receive: Receive, send: Send
    ) -> None:
        client = session.client

        async def write() -> None:
            while True:
                frame = await client.take()
                assert isinstance(frame.content, str)
                number = f"id: {frame.seq}\n" if frame.seq else ""
                body = f"{number}data: {frame.content}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})

        self.feed.clients.add(client)
        session.welcome()
        tasks: list[asyncio.Future[Any]] = [
            asyncio.create_task(write()),
            asyncio.create_task(disconnected(receive)),
            asyncio.create_task(session.stay()),
            asyncio.create_task(session.subscribe(topics, rate, since)),
        ]
        try:
            await asyncio.wait([*tasks[:3], client.closed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # The client connects again by itself and says up to where it has come.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_S):
                await send({"type": "http.response.body", "body": b""})


def _query(scope: Scope) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        # So many say nothing.
        return {}


def _token(scope: Scope) -> str | None:
    given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    kind, _, token = given.partition(" ")
    return token.strip() if kind.lower() == "bearer" else _query(scope).get("token")


def _rate(query: Mapping[str, str]) -> float | None:
    if "rate" not in query:
        return None
    with contextlib.suppress(ValueError):
        return float(query["rate"])
    raise InvalidTopic("rate is a number: updates a second, 0 for every one.")


def _since(scope: Scope, query: Mapping[str, str]) -> int | None:
    said = dict(scope["headers"]).get(b"last-event-id", b"").decode("latin-1") or query.get("since")
    if said is None or said == "":
        return None
    if not (said.isascii() and said.isdigit() and len(said) <= 16):
        raise InvalidTopic("since (or Last-Event-ID) is the number of an update.")
    return int(said)


def _address(scope: Scope) -> str:
    forwarded = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1")
    return forwarded or str((scope.get("client") or ("",))[0])
