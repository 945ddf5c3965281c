"""What a client of the live feed says and is answered: subscriptions, resuming, fresh tokens."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from serve_apps.live_client import TOO_FAST, TOO_LARGE, UNKNOWN_USER, Client, Subscription
from serve_apps.live_feed import Away, Feed, Rows
from serve_apps.live_topics import CHART, TOPICS, InvalidTopic, Topic, interval_of
from serve_apps.live_updates import message

#: A snapshot that takes longer is left out.
SNAPSHOT_S: Final = 5.0
#: Whoever has shown a token is asked after this whether it is still good.
STILL_S: Final = 5.0

_encode: Final = msgspec.json.Encoder().encode

#: Until when (seconds since the epoch, None: for ever) who has this token may read; raises `Refused`.
Authenticate = Callable[[str | None], Awaitable[float | None]]


class Refused(Exception):
    """Why somebody may not read, in one line for them."""


async def anybody(token: str | None) -> float | None:
    """No token is needed."""
    return None


class Command(msgspec.Struct):
    """What a client sends."""

    type: str
    topics: list[str] = []
    #: Updates a second of the same key; 0: every one.
    rate: float | None = None
    #: Resume after this number.
    since: int | None = None
    format: str = "json"
    token: str | None = None
    id: str | int | None = None


_decode: Final = msgspec.json.Decoder(Command).decode


class Session:
    """Of one client. `heard` may take as long as what it asks for."""

    def __init__(self, feed: Feed, authenticate: Authenticate, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed = feed
        self._authenticate = authenticate
        self._clock = clock
        self.client = Client(feed.settings)
        self._allowed = float(feed.settings.max_burst)
        self._allowed_at = clock()
        self._token: str | None = None

    async def admit(self, token: str | None) -> None:
        """`Refused`."""
        self.client.expires = await self._authenticate(token)
        self._token = token

    async def stay(self) -> None:
        """Close it once its token is not good any more: a key or a user that is removed and a session that ends count
        here too, and a key may have no other end."""
        while True:
            await asyncio.sleep(STILL_S)
            try:
                if (token := self._token) is not None:
                    await self._authenticate(token)
            except Refused as error:
                # A fresh one may have taken its place meanwhile.
                if token == self._token:
                    self.client.close(UNKNOWN_USER, str(error))

    def welcome(self) -> None:
        self._say("welcome", seq=self._feed.seq, heartbeat_s=self._feed.settings.heartbeat_s, topics=list(TOPICS))

    async def heard(self, text: str | bytes | None) -> None:
        """A message from the client; what is wrong with it is answered."""
        if not self._may_speak():
            self.client.close(TOO_FAST, "too many messages")
            return
        if not isinstance(text, str):
            self.fail("invalid_message", "Say it as JSON, in a text message.")
            return
        # Serve's own proxy, unlike the lane, lets longer ones through.
        if len(text) > self._feed.settings.max_message_bytes:
            self.client.close(TOO_LARGE, "the message is too long")
            return
        try:
            command = _decode(text)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            self.fail("invalid_message", f"That is no message: {error}.")
            return
        match command.type:
            case "ping":
                self._say("pong", id=command.id, time=time.time_ns() // 1_000_000)
            case "subscribe":
                await self._subscribe(command)
            case "unsubscribe":
                self._unsubscribe(command)
            case "auth":
                await self._renew(command)
            case _:
                known = "subscribe, unsubscribe, auth, ping"
                self.fail("invalid_message", f"There is no type {command.type[:40]!r}; there are: {known}.", command.id)

    def check(self, topics: Iterable[Topic], rate: float | None) -> None:
        """`InvalidTopic` where a client may not look at these, at this rate."""
        for topic in topics:
            interval_of(topic.topic, rate)
        limit = self._feed.settings.max_subscriptions
        if len(self.client.subscriptions.keys() | set(topics)) > limit:
            raise InvalidTopic(f"No more than {limit} topics.")
        if not self._feed.has_room_for(topics):
            raise InvalidTopic("Clients look at too many different topics here; try again later.")

    async def subscribe(
        self, topics: Iterable[Topic], rate: float | None, since: int | None, binary: bool = False
    ) -> None:
        """Look at them: what is known of each, or what came after `since`, then its updates. `InvalidTopic`."""
        topics = list(dict.fromkeys(topics))
        self.check(topics, rate)
        made = [Subscription(self.client, topic, interval_of(topic.topic, rate), binary) for topic in topics]
        for subscription in made:
            self._feed.add(subscription)
        await asyncio.gather(*(self._begin(subscription, since) for subscription in made))

    def _may_speak(self) -> bool:
        limits, now = self._feed.settings, self._clock()
        more = (now - self._allowed_at) * limits.max_messages_per_s
        self._allowed, self._allowed_at = min(limits.max_burst, self._allowed + more), now
        self._allowed -= 1
        return self._allowed >= 0

    async def _subscribe(self, command: Command) -> None:
        try:
            if command.format not in ("json", "arrow"):
                raise InvalidTopic("format is json or arrow.")
            if not command.topics:
                raise InvalidTopic("Name topics: trades:binance:BTCUSDT, say.")
            topics = [Topic.of(text) for text in command.topics]
            self.check(topics, command.rate)
            self._say("subscribed", id=command.id, topics=[str(topic) for topic in topics])
            await self.subscribe(topics, command.rate, command.since, command.format == "arrow")
        except InvalidTopic as error:
            self.fail("invalid_topic", str(error), command.id)

    def _unsubscribe(self, command: Command) -> None:
        try:
            topics = [Topic.of(text) for text in command.topics] or list(self.client.subscriptions)
        except InvalidTopic as error:
            self.fail("invalid_topic", str(error), command.id)
            return
        left = [str(topic) for topic in topics if self._feed.remove(self.client, topic)]
        self._say("unsubscribed", id=command.id, topics=left)

    async def _renew(self, command: Command) -> None:
        try:
            await self.admit(command.token)
        except Refused as error:
            self.client.close(UNKNOWN_USER, str(error))
        else:
            self._say("authenticated", id=command.id, expires=self.client.expires)

    async def _begin(self, subscription: Subscription, since: int | None) -> None:
        topic = subscription.topic
        seq = self._feed.seq
        try:
            if since is not None and topic.topic != CHART:
                async with asyncio.timeout(SNAPSHOT_S):
                    past = await self._feed.past(topic, since, subscription.interval_s)
                if past is not None:
                    seq, updates = past
                    await subscription.resume(updates)
                    self._say("resumed", topic=str(topic), after=since, seq=seq)
                    return
                self._say("too_old", topic=str(topic), after=since, message="A snapshot follows instead.")
            async with asyncio.timeout(SNAPSHOT_S):
                seq, known = await self._feed.snapshot(topic)
            self._show(topic, seq, known)
        except (Away, TimeoutError):
            self.fail("no_snapshot", f"{topic}: who knows it does not answer now; updates follow.")
        finally:
            self._feed.release(subscription, seq)

    def _show(self, topic: Topic, seq: int, known: Rows) -> None:
        if topic.topic == CHART:
            bars = known[0][1] if known else []
            series = {"symbol": topic.symbol, "exchange": topic.exchange, "timeframe": topic.timeframe}
            # What is computed of closed bars, as of the newest of them.
            indicators = next((bar["indicators"] for bar in reversed(bars) if bar["indicators"]), None)
            self._say("initial", **series, seq=seq, bars=bars, indicators=indicators or {})
            return
        for channel, rows in known:
            self.client.put(message("snapshot", channel, seq, rows), seq)
        if not known:
            self._say("snapshot", topic=str(topic), seq=seq, data=[])

    def fail(self, code: str, text: str, about: str | int | None = None) -> None:
        """Answer that something cannot be."""
        self._say("error", code=code, message=text, id=about)

    def _say(self, kind: str, **said: Any) -> None:
        known = {name: value for name, value in said.items() if value is not None}
        self.client.put(_encode({"type": kind, **known}).decode())
