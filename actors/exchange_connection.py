"""One connection to an exchange with all that belongs to it: the socket, the feed that speaks its protocol, the order
books built from it, and the machine that decides over its life. Frames gather here until `flush` turns them into
batches. The collector owns several of these and gives them what they share: budgets, REST, the journal.
"""

import asyncio
import math
import random
import re
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec
import numpy as np
import picows
import pyarrow as pa
import structlog

from actors import recorded_clock
from actors.aggregation.book_resync import Pace
from actors.aggregation.book_sync import SILENCE, BookEvent, BookSync, RenewSubscription, RequestSnapshot
from actors.aggregation.consolidated import Reception
from actors.connection import Connection, Disconnect, Effect, Ping, Send, Subscribe, Succeed
from actors.coverage import Break, Coverage
from actors.feeds.feed import Channel, Credentials, Decoded, Feed, Refusal
from actors.feeds.registry import FEEDS
from actors.frame_receiver import FrameReceiver, RecordedFrameReceiver
from actors.metering.meters import Counted
from actors.recorder import Recorder
from actors.request_budget import RequestBudget
from actors.rest_client import RestClient, RestError, retry_after, spend
from config.settings import CollectorSettings
from storage.schema import symbols_of

CONNECT_TIMEOUT_S: Final = 10.0
#: Snapshots asked for at the same time; the budget of the exchange spreads them further.
SNAPSHOTS_AT_ONCE: Final = 4
#: Such a question is never overdue: it ends with a snapshot or a failure, and may wait for the budget for many minutes.
_SNAPSHOT_PACE: Final = Pace(open_at_once=SNAPSHOTS_AT_ONCE, answer_s=1e9)
#: A connection that takes over has this long to get everything; then it does with what it has.
TAKE_OVER_S: Final = 60.0
#: What gathered while a socket was not read has been read this long after it is read again.
CATCH_UP_S: Final = 10.0


#: What deribit answers to the credentials is as good as they are: "access_token" and "refresh_token".
_TOKEN: Final = re.compile(rb'("\w+_token"\s*:\s*)"[^"]*"')

log = structlog.get_logger(__name__)

_BYTES: Final = Counted("rayfeed_received_bytes_total")
_CONNECTS: Final = Counted("rayfeed_connects_total")
_RECONNECTS: Final = Counted("rayfeed_reconnects_total")
_BOOK_GAPS: Final = Counted("rayfeed_book_gaps_total")


@dataclass(slots=True)
class Shared:
    """What the connections of one exchange have in common."""

    exchange: str
    endpoint: str
    settings: CollectorSettings
    channels: frozenset[Channel]
    credentials: Credentials | None
    recorded: bool
    rest: RestClient
    connects: RequestBudget
    #: Takes what frames said, how many they were, and when the last of them was received (ns).
    deliver: Callable[[Decoded, int, int], None]
    #: Called when frames wait to be flushed.
    arrived: Callable[[], None]
    #: How many connections share the bounds on what waits.
    connections: Callable[[], int]
    recorder: Recorder
    #: What all of them receive together, and what takes the times nobody received something.
    coverage: Coverage
    broke: Callable[[Sequence[Break], int], None]


@dataclass(slots=True)
class ExchangeConnection:
    """Symbols on one connection. `run` keeps it connected until it is cancelled."""

    name: str
    shared: Shared
    symbols: dict[str, None]
    life: Connection = field(init=False)
    feed: Feed = field(init=False)
    books: BookSync = field(init=False)
    #: Symbols everything is granted for, and those refused with the reason.
    subscribed: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    #: Why another connection should take over, once one should.
    succeed: str = ""
    successor: "ExchangeConnection | None" = None
    task: asyncio.Task[None] | None = None
    _receiver: FrameReceiver | None = None
    _transport: picows.WSTransport | None = None
    #: Books that wait for a request to be sent; at most one for each book.
    _snapshots: asyncio.Queue[RequestSnapshot] = field(default_factory=asyncio.Queue)
    _held: bool = False
    #: When it was held last.
    _held_at: float = -math.inf
    #: Symbols whose books had no message for too long, and since when (ns): they may have to be subscribed again.
    _silent: dict[str, int] = field(default_factory=dict)
    _last_recv_ns: int = 0
    #: Until when we know what the exchange said: when the last frame came, or when we left without hearing more.
    _heard_ns: int = 0
    _opened_at: float = 0.0
    #: The same on the clock of what is received; a replay that is left begins anew, and what came before holds.
    _opened_ns: int = 0
    #: The state of each book, and since when (ns).
    _book_states: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Why we left the exchange, if it was us.
    _left: str = ""

    def __post_init__(self) -> None:
        _BOOK_GAPS.add(self.shared.exchange, by=0)
        limits = FEEDS[self.shared.exchange].limits
        if self.shared.recorded:
            # Nobody counts messages there, and what is subscribed in one go is played in recorded order.
            limits = replace(limits, messages_per_second=math.inf)
        self.life = Connection(limits, watch_silence=not self.shared.recorded)
        self.feed = self._new_feed()
        by_request = self.feed.snapshot_request(next(iter(self.symbols), "")) is not None
        stale_s = None if self.shared.recorded else self.shared.settings.stale_s
        pace = _SNAPSHOT_PACE if by_request else None
        self.books = BookSync(self.feed.book_rules, by_request, stale_s=stale_s, pace=pace)
        if self._wants_books:
            self.books.add(self.symbols, time.monotonic())

    def __repr__(self) -> str:
        return f"{self.name} ({len(self.symbols)} symbols, {self.life.state})"

    @property
    def complete(self) -> bool:
        """Every symbol is granted or refused, and every granted book is synced."""
        answered = self.symbols.keys() - self.refused.keys()
        if not answered <= self.subscribed or self.life.state != "streaming":
            return False
        return not self._wants_books or answered <= self.books.synced

    @property
    def had_time(self) -> bool:
        """Connected, and read, for so long that what is missing will not come."""
        read_since = max(self._opened_at, self._held_at)
        return self.life.state == "streaming" and time.monotonic() - read_since > TAKE_OVER_S

    @property
    def caught_up(self) -> bool:
        """Nothing that came while it was not read lies unread any more: until then what is read is of another time."""
        return time.monotonic() - self._held_at > CATCH_UP_S

    def book_since(self, symbol: str) -> int | None:
        """Since when (ns) its book is in its state."""
        return self._book_states[symbol][1] if symbol in self._book_states else None

    def reception(self, handed_on_ns: int) -> Reception:
        """How its symbols are received, when all that came until then was handed on."""
        received = self.shared.coverage.received
        since = {
            # What another connection brought before this one took over still holds.
            symbol: min(self._opened_ns, received.get(symbol, self._opened_ns))
            for symbol in self.symbols
            if symbol not in self.refused
        }
        return Reception(self.life.state, min(self._last_recv_ns, handed_on_ns), since)

    @property
    def waiting(self) -> tuple[int, int]:
        """Frames and bytes not yet flushed."""
        return self._receiver.waiting if self._receiver else (0, 0)

    async def run(self) -> None:
        """Stay connected; frames of a lost connection are flushed before the next attempt."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_connected())
            for _ in range(SNAPSHOTS_AT_ONCE):
                tasks.create_task(self._fetch_snapshots())

    def add(self, symbols: Sequence[str]) -> None:
        """Subscribe to further symbols without a new connection."""
        self.symbols |= dict.fromkeys(symbols)
        for symbol in symbols:
            self.refused.pop(symbol, None)
        now = time.monotonic()
        if self._wants_books:
            self.books.add(symbols, now)
        if self._connected:
            self.life.ask(symbols, self.feed.subscribe(symbols), now)

    def remove(self, symbols: Sequence[str], reason: str) -> None:
        """End these symbols; the others are not disturbed."""
        for symbol in symbols:
            self.symbols.pop(symbol, None)
            self.refused.pop(symbol, None)
        self.subscribed.difference_update(symbols)
        self._break(self.shared.coverage.ended(self.name, self._heard_ns, reason, symbols))
        for symbol in symbols:
            self._book_states.pop(symbol, None)
        self.books.remove(symbols)
        self.life.answered(symbols)
        if self._connected:
            self.life.queue(self.feed.unsubscribe(symbols))

    def hold(self, held: bool) -> None:
        """While held the socket is not read: what is behind us is full."""
        if held or self._held:
            self._held_at = time.monotonic()
        self._held = held
        if self._receiver is not None:
            self._receiver.hold(held)

    def close(self, reason: str, graceful: bool = True) -> None:
        """Leave the exchange; `run` connects again unless it is cancelled."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._left = reason
            if graceful and self.caught_up:
                self._heard_ns = time.time_ns()
            self._event("close", reason.encode())
            self._transport.send_close(picows.WSCloseCode.GOING_AWAY)
            self._transport.disconnect(graceful)

    def ended(self, reason: str) -> None:
        """What was received here is received here no more."""
        self._break(self.shared.coverage.ended(self.name, self._heard_ns, reason))

    def flush(self) -> None:
        """Decode what was received, hand it over and do what is due."""
        now = time.monotonic()
        if self._held:
            self._held_at = now
            if self._transport is not None:
                # The answers to our pings are in what we do not read.
                self.life.reading_paused(now)
                self._transport.notify_user_specific_pong_received()
        if self._receiver is not None:
            frames, times = self._receiver.take()
            _BYTES.add(self.shared.exchange, by=self._receiver.taken_bytes)
            if frames:
                self._take(frames, times, now)
        self._act(self.life.tick(now))
        self.books.tick(now)
        self._follow_books()
        self._ask_the_silent(now)

    def _take(self, frames: list[bytes], times: np.ndarray[Any, np.dtype[np.int64]], now: float) -> None:
        public = frames if self.shared.credentials is None else [self._without_secrets(frame) for frame in frames]
        self.shared.recorder.frames(self.name, self.feed.url, public, times)
        decoded = self.feed.decode(frames, times)
        before, self._last_recv_ns = self._last_recv_ns, int(times[-1])
        # What lay unread was sent long before; what we leave was heard until we left. Not the latest time there ever
        # was: the clock may have been set back.
        if not self._left and (self.caught_up or not self._heard_ns):
            self._heard_ns = self._last_recv_ns
        if decoded.books.num_rows and self._wants_books:
            self.books.apply(decoded.books, now)
        rows = (decoded.trades, decoded.quotes, decoded.books, decoded.derivatives, decoded.liquidations)
        self.life.heard(now, data=any(batch.num_rows for batch in rows))
        for hole in decoded.holes:
            lost = sorted(hole.symbols & self.symbols.keys())
            breaks = [Break(symbol, before or int(times[0]), self._last_recv_ns, hole.reason) for symbol in lost]
            self.shared.broke(breaks, self._last_recv_ns)
        self._settle(decoded.subscribed, decoded.refused)
        self._cover(decoded.trades)
        for reply in decoded.replies:
            self._send(reply)
        for notice in decoded.notices:
            self._act(self.life.noticed(notice))
        self.shared.deliver(decoded, len(frames), self._last_recv_ns)

    def _settle(self, granted: Iterable[str], refusals: Iterable[Refusal]) -> None:
        if granted := [symbol for symbol in granted if symbol in self.symbols]:
            self.subscribed.update(granted)
            self._break(self.shared.coverage.granted(self.name, granted, self._last_recv_ns))
            self.life.answered(granted)
            self.books.subscribed(granted, time.monotonic())
        for refusal in refusals:
            for symbol in refusal.symbols & self.symbols.keys():
                self.refused[symbol] = refusal.reason
                self.books.remove([symbol])
            self.life.answered(refusal.symbols)

    def _cover(self, trades: pa.RecordBatch) -> None:
        """What trades is received, also while something else of the symbol is not granted yet. The break that this ends
        must be known before the trade is stored: who is killed between the two has nothing else to tell it from what
        was stored before."""
        if trades.num_rows and len(self.subscribed) < len(self.symbols):
            names, codes = symbols_of(trades)
            traded = [names[code] for code in np.unique(codes) if names[code] in self.symbols]
            self._break(self.shared.coverage.granted(self.name, traded, self._last_recv_ns))

    def _break(self, breaks: Sequence[Break]) -> None:
        # A replay that was left begins anew, and no trade was missed.
        if breaks and not self.shared.recorded:
            self.shared.broke(breaks, self._last_recv_ns)

    def _act(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    self._send(message)
                case Ping():
                    if (ping := self.feed.ping()) is not None:
                        self._send(ping)
                case Subscribe(symbols):
                    self.life.ask(symbols, self.feed.subscribe(symbols), time.monotonic())
                case Disconnect(reason):
                    # Who says nothing does not say good-bye either.
                    self.close(reason, graceful=False)
                case Succeed(reason):
                    self.succeed = reason

    def _follow_books(self) -> None:
        for effect in self.books.take_effects():
            match effect:
                case RequestSnapshot():
                    self._snapshots.put_nowait(effect)
                case RenewSubscription(symbol):
                    if self._connected:
                        self.life.queue(self.feed.renew_book(symbol))
                case BookEvent(symbol, state, reason):
                    if self._book_states.get(symbol, ("", 0))[0] != state:
                        self._book_states[symbol] = state, time.time_ns()
                    if state == "gapped":
                        _BOOK_GAPS.add(self.shared.exchange)
                        name = self.shared.exchange
                        log.warning("a book is wrong", exchange=name, symbol=symbol, reason=reason, epoch=effect.epoch)
                    elif state == "stale" and self._connected:
                        self._silent[symbol] = effect.ts_recv or 0

    def _ask_the_silent(self, now: float) -> None:
        """Subscribe again where nothing has come although the connection lives and was read all the time: subscriptions
        may have ended without a word. What lies unread would be missed by whoever ends his subscription. Together, as
        a quiet market may have thousands of them."""
        if not self._silent or now - self._held_at < self.shared.settings.stale_s:
            return
        silent, self._silent = self._silent, {}
        wanted = self.symbols.keys() - self.refused.keys()
        symbols = tuple(one for one in silent if one in wanted and self._book_states[one][0] == "stale")
        if not symbols:
            return
        self.subscribed.difference_update(symbols)
        for symbol in symbols:
            self._break(self.shared.coverage.ended(self.name, silent[symbol], SILENCE, [symbol]))
        self.life.queue(self.feed.unsubscribe(symbols))
        self.books.add(symbols, now)
        self.life.ask(symbols, self.feed.subscribe(symbols), now)

    async def _stay_connected(self) -> None:
        while True:
            await spend(self.shared.connects, 1)
            self.life.attempting()
            transport: picows.WSTransport | None = None
            rest = 0.0
            try:
                transport = await self._connect()
                await transport.wait_disconnected()
                reason = self._why(transport)
            # ValueError: a replay whose clock says something else than a time.
            except (OSError, picows.WSError, TimeoutError, ValueError) as error:
                failed = f"cannot connect to {self.shared.endpoint}" if transport is None else "connection lost"
                reason = f"{failed}: {str(error) or type(error).__name__}"
                if isinstance(error, picows.WSHandshakeError) and error.response is not None:
                    rest = retry_after(error.response.headers.get("Retry-After"))
                    # That was said to all of us.
                    self.shared.connects.pause(rest, time.monotonic())
            self.flush()
            self.ended(reason)
            self.books.lost(time.monotonic())
            self._follow_books()
            while not self._snapshots.empty():
                # Nobody waits for these any more, and each would cost weight.
                self._snapshots.get_nowait()
            self.subscribed.clear()
            self._silent.clear()
            if not self._left:
                self._event("close", reason.encode())
            # Jitter, not a secret.
            await asyncio.sleep(self.life.lost(reason, random.random(), rest))  # noqa: S311

    async def _connect(self) -> picows.WSTransport:
        limits, sharing = self.shared.settings, max(self.shared.connections(), 1)
        most_frames, most_bytes = max(limits.max_frames // sharing, 1), max(limits.max_bytes // sharing, 1)
        kind = RecordedFrameReceiver if self.shared.recorded else FrameReceiver
        receiver = kind(most_frames, most_bytes, limits.max_frame_bytes, self.shared.arrived)
        self.feed = self._new_feed()
        url = self.feed.url
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, listener = await picows.ws_connect(
                    lambda: receiver,
                    url,
                    ssl_context=ssl.create_default_context() if url.startswith("wss:") else None,
                    enable_auto_ping=True,
                    max_frame_size=limits.max_frame_bytes,
                    extra_headers=recorded_clock.HEADERS if self.shared.recorded else None,
                )
        except BaseException:
            receiver.leave()
            raise
        if listener is None:
            raise ConnectionError("closed before it was a WebSocket")
        self._receiver, self._transport, self._left = receiver, transport, ""
        receiver.hold(self._held)
        # What was refused before is asked for again.
        self.refused.clear()
        now = self._opened_at = time.monotonic()
        self._opened_ns = 0 if self.shared.recorded else time.time_ns()
        if self._wants_books:
            self.books.add(self.symbols, now)
        _CONNECTS.add(self.shared.exchange)
        _RECONNECTS.add(self.shared.exchange, by=int(self.life.connects > 0))
        self.life.opened(now, random.random())  # noqa: S311
        self._event("open", b"")
        self.life.queue(self.feed.greet())
        self.life.ask(self.symbols, self.feed.subscribe(tuple(self.symbols)), now)
        self._act(self.life.tick(now))
        return transport

    async def _fetch_snapshots(self) -> None:
        while True:
            asked = await self._snapshots.get()
            request = self.feed.snapshot_request(asked.symbol)
            if request is None or asked.symbol not in self.symbols:
                continue
            try:
                body = await self.shared.rest.get(request)
                received = self._last_recv_ns if self.shared.recorded else time.time_ns()
                snapshot = self.feed.read_snapshot(asked.symbol, body, received)
            except (RestError, ValueError) as error:
                self.books.snapshot_failed(asked.symbol, str(error), time.monotonic(), asked.question)
            else:
                self.shared.recorder.event("rest", self.name, self.shared.rest.url(request), received, body)
                self.books.snapshot(snapshot, time.monotonic(), asked.question)
            self._follow_books()

    def _new_feed(self) -> Feed:
        shared = self.shared
        return FEEDS[shared.exchange](tuple(self.symbols), shared.endpoint, shared.channels, shared.credentials)

    def _send(self, message: bytes) -> None:
        if self._connected and self._transport is not None:
            self._transport.send(picows.WSMsgType.TEXT, message)
            self._event("send", self._without_secrets(message))

    def _without_secrets(self, text: bytes) -> bytes:
        """For the journal: neither what says who we are, nor what the exchange gave us for it."""
        if self.shared.credentials is None:
            return text
        secret = self.shared.credentials.secret
        for written in (secret.encode(), msgspec.json.encode(secret)[1:-1]):
            text = text.replace(written, b"***")
        return _TOKEN.sub(rb'\1"***"', text) if b"_token" in text else text

    def _event(self, kind: Literal["open", "send", "close"], data: bytes) -> None:
        now = self._last_recv_ns if self.shared.recorded else time.time_ns()
        self.shared.recorder.event(kind, self.name, self.feed.url, now, data)

    @property
    def _connected(self) -> bool:
        return self._transport is not None and not self._transport.is_disconnected

    @property
    def _wants_books(self) -> bool:
        return "book" in self.shared.channels

    def _why(self, transport: picows.WSTransport) -> str:
        if self._left:
            return self._left
        closed = transport.close_handshake
        if closed and closed.recv:
            return f"connection lost: {closed.recv.reason or closed.recv.code}"
        return "connection lost"
