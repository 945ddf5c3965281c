"""The live feed of one replica: follows the hub for all its clients together, and hands each update to those who look
at it. Only what somebody looks at is asked for and encoded, once for all; whoever is slow is alone with that.
"""

import asyncio
import heapq
import random
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final, Protocol

import msgspec
import structlog

from actors.live_hub import Wanted
from actors.live_log import Entry
from actors.metering.meters import LAG, Counted, Samples, watch
from config.live_settings import LiveFeedSettings
from serve_apps.live_client import Client, Subscription
from serve_apps.live_topics import Channel, Topic
from serve_apps.live_updates import Reader, Update

#: The hub is asked again after this when it did not answer.
RETRY_S: Final = 0.2
#: What nobody looks at any more is followed for no longer than this.
UNFOLLOW_S: Final = 1.0
#: Who is due is looked for this often; clients are looked after this often.
TICK_S: Final = 0.02
CHECK_S: Final = 0.25
#: Between telling everybody that something was lost.
GAP_S: Final = 5.0
#: Clients that are told in one go, before whoever gets every update has a turn.
AT_ONCE: Final = 50
#: The newest of each key is kept for those who are not told every update for so long, which is longer than between two.
KEPT_S: Final = 30.0
#: Trades are told before they are stored: for so long a snapshot may lack them.
STORED_S: Final = 2.0
#: Updates of one symbol that are kept for that.
MOST_RECENT: Final = 1_000
#: Questions for a snapshot wait this long for others with the same question.
GATHER_S: Final = 0.02
MOST_CHANNELS: Final = 50_000
#: Different topics of all clients together, and of these those that are patterns, which every channel is held against.
MOST_TOPICS: Final = 20_000
MOST_PATTERNS: Final = 1_000

log = structlog.get_logger(__name__)
_GAPS: Final = Counted("rayfeed_live_gaps_total")
_encode: Final = msgspec.json.Encoder().encode


#: The number it reaches to, the one after which everything is there, and the updates.
Past = tuple[int, int, list[Update]]
#: What is known, by channel.
Rows = list[tuple[Channel, list[dict[str, Any]]]]


class Away(Exception):
    """The hub, or who else knows, cannot be asked now."""


class Source(Protocol):
    """Where the feed comes from: see `actors.live_hub.LiveHub` of the same names. All raise `Away`."""

    async def follow(self, follower: str, wanted: frozenset[Wanted]) -> int: ...
    async def entries(self, follower: str, since: int) -> tuple[int, bool, list[Entry]] | None: ...
    async def past(
        self, wanted: Wanted, sinces: Sequence[int], before_s: float
    ) -> tuple[int, int, list[Entry]] | None: ...
    async def snapshot(self, topic: Topic) -> Rows:
        """What is to be known of a topic before its updates; nothing where nobody knows anything."""
        ...


class Group:
    """All who look at the same topic."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.every: set[Subscription] = set()
        self.paced: set[Subscription] = set()
        self._of_trades = topic.channel if topic.topic == "trades" else None
        #: Trades that may not be stored yet: when they came, their number, and the rows.
        self._recent: deque[tuple[float, int, Sequence[dict[str, Any]]]] = deque(maxlen=MOST_RECENT)
        #: By key, with when it came; what came last is last.
        self._newest: OrderedDict[object, tuple[float, Update]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.every or self.paced)

    def take(self, update: Update, now: float) -> None:
        for subscription in self.every:
            subscription.give(update)
        if self._of_trades is not None:
            self._recent.append((now, update.seq, update.rows))
            while now - self._recent[0][0] > STORED_S:
                self._recent.popleft()
        if self.paced:
            self._newest[update.key] = (now, update)
            self._newest.move_to_end(update.key)
            while now - next(iter(self._newest.values()))[0] > KEPT_S:
                self._newest.popitem(last=False)

    def with_recent(self, stored: Rows, seq: int) -> Rows:
        """What is stored of the symbol, and the trades up to a number that are not there yet."""
        if self._of_trades is None or not self._recent:
            return stored
        rows = stored[0][1] if stored else []
        known = {row["trade_id"] for row in rows}
        more = [
            row for _, number, told in self._recent if number <= seq for row in told if row["trade_id"] not in known
        ]
        # Of those that are older it has the newest alone.
        more = [row for row in more if not rows or row["ts_event"] >= rows[0]["ts_event"]]
        return [(self._of_trades, sorted([*rows, *more], key=lambda row: (row["ts_event"], row["trade_id"])))]

    def newest(self, after: int) -> list[Update]:
        """Of each key the newest after a number, oldest first."""
        found = []
        for _, update in reversed(self._newest.values()):
            if update.seq <= after:
                break
            found.append(update)
        return found[::-1]


class Feed:
    """Use as a context while it runs. No method waits for a client."""

    def __init__(self, settings: LiveFeedSettings, source: Source) -> None:
        self.settings = settings
        self.clients: set[Client] = set()
        self._source = source
        self._name = uuid.uuid4().hex
        self._groups: dict[Topic, Group] = {}
        self._patterns: dict[Topic, Group] = {}
        self._exact: dict[Channel, Group] = {}
        #: The groups of a channel, as long as no other group comes or goes.
        self._matching: dict[Channel, list[Group]] = {}
        self._reader = Reader(lambda channel: bool(self._groups_of(channel)))
        #: What is followed, and up to which number it has come.
        self._followed: frozenset[Wanted] = frozenset()
        self._following = asyncio.Lock()
        self._wanted = asyncio.Event()
        self.seq = 0
        self._due: list[tuple[float, int, Subscription]] = []
        #: Something after this was lost and nobody was told; and when that may be told.
        self._lost_after: int | None = None
        self._gap_due = 0.0
        self._order = count()
        self._asked: dict[Topic, asyncio.Task[tuple[int, Rows]]] = {}
        self._resuming: dict[Topic, tuple[dict[int, float], asyncio.Task[Past | None]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        watch(self._samples)

    async def __aenter__(self) -> "Feed":
        steps = (self._follow_for_ever, self._tick_for_ever, self._check_for_ever)
        self._tasks = [asyncio.create_task(self._for_ever(step)) for step in steps]
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *self._asked.values(), *(asked for _, asked in self._resuming.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _samples(self) -> Samples:
        looking = sum(len(client.subscriptions) for client in self.clients)
        return {("rayfeed_live_clients", ()): len(self.clients), ("rayfeed_live_subscriptions", ()): looking}

    # ---- clients

    def add(self, subscription: Subscription) -> None:
        """It is held until it is released. Takes the place of one of the same topic."""
        client, topic = subscription.client, subscription.topic
        self.remove(client, topic)
        if topic not in self._groups:
            self._groups[topic] = group = Group(topic)
            if (channel := topic.channel) is not None:
                self._exact[channel] = group
                self._matching.pop(channel, None)
            else:
                self._patterns[topic] = group
                self._matching.clear()
        client.subscriptions[topic] = subscription
        group = self._groups[topic]
        (group.paced if subscription.interval_s else group.every).add(subscription)
        self._wanted.set()

    def remove(self, client: Client, topic: Topic) -> bool:
        """Whether it looked at it."""
        if (known := client.subscriptions.pop(topic, None)) is None:
            return False
        group = self._groups[topic]
        group.every.discard(known)
        group.paced.discard(known)
        if not group:
            del self._groups[topic]
            if (channel := topic.channel) is not None:
                del self._exact[channel]
                self._matching.pop(channel, None)
            else:
                del self._patterns[topic]
                self._matching.clear()
        return True

    def has_room_for(self, topics: Iterable[Topic]) -> bool:
        """Whether clients do not look at too many different topics with these."""
        new = [topic for topic in topics if topic not in self._groups]
        patterns = sum(topic.channel is None for topic in new)
        return len(self._groups) + len(new) <= MOST_TOPICS and len(self._patterns) + patterns <= MOST_PATTERNS

    def leave(self, client: Client) -> None:
        for topic in list(client.subscriptions):
            self.remove(client, topic)
        self.clients.discard(client)

    def release(self, subscription: Subscription, seq: int) -> None:
        """Its snapshot, which is as of that number, has been put: updates follow."""
        if subscription.ended:
            return
        subscription.release(seq)
        if subscription.interval_s:
            self._schedule(subscription, random.random() * subscription.interval_s)  # noqa: S311 - spreads the load

    async def snapshot(self, topic: Topic) -> tuple[int, Rows]:
        """Of a topic that somebody here looks at: what is known of it, and the number it reaches to. `Away`."""
        await self._follow(topic.wanted)
        if topic not in self._asked:
            self._asked[topic] = asked = asyncio.create_task(self._ask(topic))
            asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        # One who goes away does not take the answer from the others.
        return await asyncio.shield(self._asked[topic])

    async def past(self, topic: Topic, since: int, interval_s: float) -> tuple[int, list[Update]] | None:
        """What came of a topic after a number, and the number it reaches to; None when that is not known any more. Who
        is told at an interval may have waited for what came so long before the number, which another topic had. Many
        come back at once when a replica dies: the hub is asked once for all of them."""
        await self._follow(topic.wanted)
        if topic not in self._resuming:
            sinces: dict[int, float] = {}
            self._resuming[topic] = sinces, asyncio.create_task(self._ask_past(topic))
            self._resuming[topic][1].add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        sinces, asked = self._resuming[topic]
        sinces[since] = max(interval_s, sinces.get(since, 0.0))
        if (found := await asyncio.shield(asked)) is None:
            return None
        seq, reached, updates = found
        return (seq, [one for one in updates if interval_s or one.seq > since]) if reached <= since <= seq else None

    # ---- what it follows

    async def _ask_past(self, topic: Topic) -> Past | None:
        await asyncio.sleep(GATHER_S)
        sinces, _ = self._resuming.pop(topic)
        (wanted,) = topic.wanted
        if (found := await self._source.past(wanted, sorted(sinces), max(sinces.values()))) is None:
            return None
        seq, reached, entries = found
        reader = Reader(topic.covers)
        updates: list[Update] = []
        for entry in entries:
            if not entry.topic:
                # Something was lost here: who was told less than this cannot have all of it.
                reached = max(reached, entry.seq)
                continue
            updates += reader.updates(entry)
            # So that nobody waits for who has been away for long.
            await asyncio.sleep(0)
        return seq, reached, updates

    async def _ask(self, topic: Topic) -> tuple[int, Rows]:
        await asyncio.sleep(GATHER_S)
        # Whoever asks from now on may have missed something by then.
        del self._asked[topic]
        seq = self.seq
        rows = await self._source.snapshot(topic)
        group = self._groups.get(topic)
        return seq, rows if group is None else group.with_recent(rows, seq)

    async def _follow(self, wanted: Iterable[Wanted]) -> None:
        """Have the hub tell this, from here on at the latest."""
        if not self._followed.issuperset(wanted):
            async with self._following:
                if not self._followed.issuperset(wanted):
                    # Together with what others look at in this moment.
                    await asyncio.sleep(GATHER_S)
                    await self._say_what_is_wanted()

    async def _say_what_is_wanted(self) -> None:
        wanted = frozenset(one for topic in self._groups for one in topic.wanted)
        seq = await self._source.follow(self._name, wanted)
        if not self._followed:
            self.seq = max(self.seq, seq)
        self._followed = wanted

    async def _follow_for_ever(self) -> None:
        looked_at = time.monotonic()
        while True:
            if not self._groups and not self._followed:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                if time.monotonic() - looked_at > UNFOLLOW_S or not self._followed:
                    looked_at = time.monotonic()
                    async with self._following:
                        if self._followed != frozenset(one for topic in self._groups for one in topic.wanted):
                            await self._say_what_is_wanted()
                            self._reader.forget()
                    if not self._followed:
                        continue
                answer = await self._source.entries(self._name, self.seq)
                if answer is None:
                    # Another hub: its numbers begin anew.
                    async with self._following:
                        self._followed, lost = frozenset(), self.seq
                        self.seq = 0
                        await self._say_what_is_wanted()
                    self._tell_gap(lost)
                    continue
            except Away:
                await asyncio.sleep(RETRY_S)
                continue
            await self._take(*answer)

    async def _take(self, seq: int, whole: bool, entries: Iterable[Entry]) -> None:
        if not whole:
            self._tell_gap(self.seq)
        now = time.monotonic()
        for entry in entries:
            if not entry.topic:
                self._tell_gap(entry.seq)
                continue
            LAG.observe((time.time_ns() - entry.at_ns) * 1e-9, "hub_to_client", entry.exchange or "all")
            for update in self._reader.updates(entry):
                for group in self._groups_of(update.channel):
                    group.take(update, now)
            self.seq = entry.seq
        self.seq = seq
        await asyncio.sleep(0)

    def _tell_gap(self, seq: int) -> None:
        """Soon: where much is lost, telling everybody of each loss would make it more."""
        _GAPS.add()
        self._lost_after = seq if self._lost_after is None else min(self._lost_after, seq)

    def _tell_what_was_lost(self) -> None:
        if self._lost_after is None or time.monotonic() < self._gap_due:
            return
        seq, self._lost_after, self._gap_due = self._lost_after, None, time.monotonic() + GAP_S
        said = _encode({"type": "gap", "after": seq, "message": "Something was lost; subscribe again for a snapshot."})
        for client in self.clients:
            if client.subscriptions:
                client.put(said.decode())

    def _groups_of(self, channel: Channel) -> list[Group]:
        if (found := self._matching.get(channel)) is None:
            if len(self._matching) >= MOST_CHANNELS:
                self._matching.clear()
            found = [group for topic, group in self._patterns.items() if topic.covers(channel)]
            if channel in self._exact:
                found.append(self._exact[channel])
            self._matching[channel] = found
        return found

    # ---- who is due

    def _schedule(self, subscription: Subscription, wait_s: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + wait_s, next(self._order), subscription))

    async def _tick_for_ever(self) -> None:
        while True:
            self._tell_what_was_lost()
            told = 0
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, subscription = heapq.heappop(self._due)
                if subscription.ended:
                    continue
                told += self._tell(subscription)
                self._schedule(subscription, subscription.interval_s)
                if told >= AT_ONCE:
                    told = 0
                    await asyncio.sleep(0)
            await asyncio.sleep(TICK_S if self._due else CHECK_S)

    def _tell(self, subscription: Subscription) -> int:
        # Who has not taken what it was told before gets newer things later.
        if subscription.client.busy or (group := self._groups.get(subscription.topic)) is None:
            return 0
        updates = group.newest(subscription.told)
        subscription.give_newest(updates)
        return len(updates)

    async def _check_for_ever(self) -> None:
        beats: deque[tuple[float, Client]] = deque()
        known: set[Client] = set()
        while True:
            now, wall_s = time.monotonic(), time.time()
            for client in self.clients:
                client.check(now, wall_s)
                if client not in known:
                    known.add(client)
                    beats.append((now + self.settings.heartbeat_s, client))
            said = _encode({"type": "heartbeat", "seq": self.seq, "time": int(wall_s * 1000)}).decode()
            while beats and beats[0][0] <= now:
                _, client = beats.popleft()
                if client in self.clients:
                    # Who has something to read needs no other sign of life.
                    if not client.busy:
                        client.put(said)
                    beats.append((now + self.settings.heartbeat_s, client))
                else:
                    known.discard(client)
            await asyncio.sleep(CHECK_S)

    async def _for_ever(self, step: Callable[[], Any]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - clients are told, and served again
                log.error("the live feed failed", error=repr(error))
            # Nobody is to go on without knowing that something is missing.
            self._tell_gap(self.seq)
            await asyncio.sleep(RETRY_S)
