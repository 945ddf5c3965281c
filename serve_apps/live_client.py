"""One client of the live feed, as the feed sees it: what it looks at, and what waits to be sent to it, within bounds.
Pure: whoever carries the frames asks for them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from actors.metering.meters import Counted
from config.live_settings import LiveFeedSettings
from serve_apps.live_topics import Topic
from serve_apps.live_updates import Update

#: Close codes: who it is is not known (any more), it says too much, something failed here, come again later.
UNKNOWN_USER: Final = 4001
TOO_FAST: Final = 1008
TOO_LARGE: Final = 1009
FAILED: Final = 1011
TRY_AGAIN: Final = 1013
#: Bytes; a close frame has room for no more.
MOST_REASON: Final = 123
#: Why clients are closed, as it is counted.
_KINDS: Final = {
    "you read too slowly": "slow",
    "you do not read": "slow",
    "there is more than you can be told": "slow",
    "the token has expired": "expired",
    "too many connections; connect again later": "refused",
}
_CODES: Final = {
    UNKNOWN_USER: "refused",
    TOO_FAST: "too fast",
    TOO_LARGE: "too large",
    FAILED: "failed",
    TRY_AGAIN: "stopped",
}
_CLOSED: Final = Counted(
    "rayfeed_live_clients_closed_total", *((reason,) for reason in sorted({*_KINDS.values(), *_CODES.values()}))
)
_PUT: Final = Counted("rayfeed_live_messages_total")
_DROPPED: Final = Counted("rayfeed_live_messages_dropped_total")


@dataclass(frozen=True, slots=True)
class Frame:
    """What is sent in one piece; `seq`: of what it tells, 0 where it tells nothing."""

    content: str | bytes
    seq: int = 0


class Client:
    """Frames wait until `take`; when there would be too many, or they are not taken for too long, it is closed."""

    def __init__(self, limits: LiveFeedSettings) -> None:
        self.limits = limits
        self._frames: deque[Frame] = deque()
        self._sending_since = 0.0
        self.nbytes = 0
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self.subscriptions: dict[Topic, Subscription] = {}
        #: When its access ends (seconds since the epoch); None: never.
        self.expires: float | None = None
        #: Done with close code and reason once it is to be closed.
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        #: What it was given last: topics that cover the same channel tell it once.
        self.given: Update | None = None

    @property
    def waiting(self) -> int:
        """Frames that are not taken."""
        return len(self._frames)

    @property
    def busy(self) -> bool:
        """It has not read everything yet."""
        return bool(self._frames) or self._sending_since > 0

    def put(self, content: str | bytes, seq: int = 0) -> None:
        if self.closed.done():
            return
        self._frames.append(Frame(content, seq))
        _PUT.add()
        self.nbytes += len(content)
        if len(self._frames) > self.limits.queue_messages or self.nbytes > self.limits.queue_bytes:
            self.close(TRY_AGAIN, "you read too slowly")
        else:
            self._arrived.set()

    async def take(self) -> Frame:
        """What has waited for longest, once there is something; what was taken before is sent."""
        self._sending_since = 0.0
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        self.nbytes -= len(frame.content)
        self._sending_since = time.monotonic()
        if self._has_room:
            self._drained.set()
        return frame

    async def room(self) -> None:
        """Returns when so much was read that there is room for more; for who is closed there always is."""
        while not self._has_room:
            self._drained.clear()
            await self._drained.wait()

    @property
    def _has_room(self) -> bool:
        return 2 * len(self._frames) <= self.limits.queue_messages and 2 * self.nbytes <= self.limits.queue_bytes

    def check(self, now: float, wall_s: float) -> None:
        """Close it when it takes nothing, or its access has ended."""
        if self._sending_since and now - self._sending_since > self.limits.stalled_s:
            self.close(TRY_AGAIN, "you do not read")
        if self.expires is not None and wall_s >= self.expires:
            self.close(UNKNOWN_USER, "the token has expired")

    def close(self, code: int, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result((code, reason.encode()[:MOST_REASON].decode(errors="ignore")))
            _CLOSED.add(_KINDS.get(reason) or _CODES.get(code, "other"))
            _DROPPED.add(by=len(self._frames))
            self._frames.clear()
            self.nbytes = 0
            self._drained.set()


class Subscription:
    """A topic a client looks at: every update of it (`interval_s` 0), or the newest of each key once in that time.
    While it is `held` updates wait for the snapshot that comes before them."""

    def __init__(self, client: Client, topic: Topic, interval_s: float, binary: bool) -> None:
        self.client = client
        self.topic = topic
        self.interval_s = interval_s
        self.binary = binary
        self.held: list[Update] | None = []
        #: Everything up to this number was told.
        self.told = 0

    @property
    def ended(self) -> bool:
        return self.client.closed.done() or self.client.subscriptions.get(self.topic) is not self

    def give(self, update: Update) -> None:
        if self.client.given is update:
            return
        if self.held is None:
            self.client.given = update
            self._put(update)
        elif self._another_tells(update):
            # Here it might be dropped for a snapshot that comes before it.
            pass
        elif len(self.held) < self.client.limits.queue_messages:
            self.held.append(update)
        else:
            self.client.close(TRY_AGAIN, "there is more than you can be told")

    def _another_tells(self, update: Update) -> bool:
        """Whether a topic of the client that waits for no snapshot has every update of the channel."""
        others = self.client.subscriptions.values()
        return any(one.held is None and not one.interval_s and one.topic.covers(update.channel) for one in others)

    async def resume(self, updates: Sequence[Update]) -> None:
        """Tell what it missed, as fast as it reads: all of it, or of each key the newest."""
        if self.interval_s:
            newest: dict[object, Update] = {}
            for update in updates:
                newest.pop(update.key, None)
                newest[update.key] = update.newest
            updates = list(newest.values())
        for update in updates:
            await self.client.room()
            self._put(update)

    def release(self, seq: int) -> None:
        """What was told so far reaches to this number; the rest is told now."""
        held, self.held = self.held or [], None
        self.told = max(self.told, seq)
        for update in held:
            if update.seq > seq:
                self._put(update)

    def give_newest(self, updates: Sequence[Update]) -> None:
        """Of each key the newest since the last time, oldest first."""
        for update in updates:
            self._put(update.newest)

    def _put(self, update: Update) -> None:
        arrow = update.arrow if self.binary else None
        self.client.put(update.text if arrow is None else arrow, update.seq)
        self.told = max(self.told, update.seq)
