"""For programs that read rayfeed's streams from Redis: as one of a group that shares the work, or from a moment on.

`Consumer` gets each batch for its group once and again when whoever had it died before it was done; `replay` reads what
Redis still has. Both give Arrow tables, and a `Hole` where batches are missing. What a consumer sees after an outage is
in docs/redis.md.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Self

import pyarrow as pa
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from storage.redis_connection import RedisRefused, complaint, is_lasting, opened
from storage.redis_streams import ARROW, EPOCH, HEADS, Hole, Place, hole_between, stream_name

KINDS: Final = ("trades", "quotes", "bars", "indicators", "features")

#: Streams in which nothing was new are looked at again after this.
POLL_SECONDS: Final = 0.05
FIRST_RETRY_SECONDS: Final = 0.1
LAST_RETRY_SECONDS: Final = 5.0
#: The lowest id there can be.
FIRST: Final = "-"

_TRIMMED: Final = "trimmed before it was done"
_OLDER: Final = "older ones were trimmed"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one kind (the schema is in `storage.schema`) of one exchange. `again`: somebody had it already and did
    not say that it is done."""

    kind: str
    exchange: str
    id: str
    table: pa.Table
    again: bool = False


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind the newest batch of a stream, in batches and in seconds of publishing, and how many of
    those that were given out are not done. `batches` counts the missing ones too."""

    batches: int
    seconds: float
    pending: int


@dataclass(slots=True)
class _Stream:
    kind: str
    exchange: str
    key: str
    #: Where the group was when it was looked at last.
    newest: Place | None = None
    #: Given out and not done.
    open: set[bytes] = field(default_factory=set)
    #: Where to look next for what others had for too long.
    looked_to: str = FIRST

    def event(self, entry_id: bytes, fields: dict[bytes, bytes] | None, again: bool = False) -> Batch | Hole:
        """What an entry holds; a hole where it was trimmed, or is none of ours."""
        text = entry_id.decode()
        if not fields:
            return Hole(self.kind, self.exchange, text, text, 1, _TRIMMED)
        try:
            table = pa.ipc.open_stream(fields[ARROW]).read_all()
        except (KeyError, pa.ArrowInvalid):
            return Hole(self.kind, self.exchange, text, text, 1, "not a batch of rayfeed")
        return Batch(self.kind, self.exchange, text, table, again)

    def hole_before(self, last: Place, entry_id: bytes, fields: dict[bytes, bytes]) -> Hole | None:
        """Between two entries; `last` may be a moment, and then nothing is known."""
        epoch = fields.get(EPOCH, b"")
        if last.sequence == 0 or not epoch.isdigit():
            return None
        return hole_between(self.kind, self.exchange, last, Place.of(entry_id), int(epoch))


class Consumer:
    """One of the consumers of `group`, called `name`: names are unique in a group, and one that comes back under its
    name gets what it had not done. Iterate over it for batches and holes, for ever, also while Redis is away; say
    `done` when a batch was worked on. Raises `RedisRefused` for a wrong password or certificate."""

    def __init__(
        self,
        url: str,
        group: str,
        name: str,
        kinds: Iterable[str],
        exchanges: Iterable[str],
        *,
        namespace: str = "",
        start: Literal["new", "oldest"] | datetime | str = "new",
        at_once: int = 4,
        abandoned_s: float = 60.0,
    ) -> None:
        """`start`: where a group begins that does not exist yet: a moment, or of one stream an id. `at_once`: how many
        batches of each stream are fetched together. `abandoned_s`: what somebody had for longer is given to another."""
        self._redis = opened(url)
        self._group = group
        self._name = name
        self._prefix = f"{namespace}:" if namespace else ""
        self._streams = _streams(self._prefix, kinds, exchanges)
        self._start = {"new": "$", "oldest": "0"}.get(str(start)) or _position(start, len(self._streams))
        self._at_once = at_once
        self._abandoned_s = abandoned_s
        #: What is wrong with Redis, "" when nothing is.
        self.away = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._redis.aclose()

    async def done(self, batch: Batch) -> None:
        """It need not be given to anybody again. While Redis is away this raises nothing, and the batch comes again."""
        stream = self._stream_of(batch)
        try:
            await self._redis.xack(stream.key, self._group, batch.id)
        except (RedisError, OSError) as error:
            self._lost(error)
        stream.open.discard(batch.id.encode())

    async def lag(self) -> dict[tuple[str, str], Lag]:
        """By kind and exchange, of streams that the group knows. Raises what Redis raises while it is away."""
        heads = await self._redis.hmget(
            self._prefix + HEADS, [stream.key[len(self._prefix) :] for stream in self._streams]
        )
        lags = {}
        for stream, head in zip(self._streams, heads, strict=True):
            group = _group_in(await _groups(self._redis, stream.key), self._group)
            if group is None:
                continue
            last, newest = Place.of(group["last-delivered-id"]), Place.of(head or "0-0")
            if not last.sequence:
                # It has read nothing since it began: the first entry after that is its next one.
                after = _entries(await self._redis.xread({stream.key: str(last)}, count=1))
                first = Place.of(after[0][0]) if after else newest
                last = Place(first.ms, first.sequence - len(after))
            # The counter begins anew with a Redis that lost everything.
            behind = newest.sequence - last.sequence
            lag = Lag(behind if behind >= 0 else newest.sequence, max(0, newest.ms - last.ms) / 1000, group["pending"])
            lags[stream.kind, stream.exchange] = lag
        return lags

    async def __aiter__(self) -> AsyncIterator[Batch | Hole]:
        returning, idle, claim_due = True, False, 0.0
        wait = FIRST_RETRY_SECONDS
        while True:
            events: list[Batch | Hole] = []
            try:
                if returning:
                    events = await self._own_unfinished()
                    returning = bool(events)
                elif time.monotonic() >= claim_due:
                    events = await self._take_over()
                    if all(stream.looked_to == FIRST for stream in self._streams):
                        claim_due = time.monotonic() + self._abandoned_s / 4
                else:
                    events = await self._read()
                    idle = not events
            except (RedisError, OSError) as error:
                self._lost(error)
                # What was given to me may not have arrived.
                returning = True
                await asyncio.sleep(wait)
                wait = min(2 * wait, LAST_RETRY_SECONDS)
                continue
            if self.away:
                log.info("Redis is available again")
            self.away, wait = "", FIRST_RETRY_SECONDS
            for event in events:
                if isinstance(event, Batch):
                    self._stream_of(event).open.add(event.id.encode())
                yield event
            if idle:
                idle = False
                await asyncio.sleep(POLL_SECONDS)

    def _stream_of(self, batch: Batch) -> _Stream:
        return next(one for one in self._streams if (one.kind, one.exchange) == (batch.kind, batch.exchange))

    async def _read(self) -> list[Batch | Hole]:
        """What is new for the group. Where the group was before is asked in the same transaction: then an id alone says
        whether something is missing, whoever of the group had the one before."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for stream in self._streams:
                pipeline.xinfo_groups(stream.key)
            for stream in self._streams:
                pipeline.xreadgroup(self._group, self._name, {stream.key: ">"}, count=self._at_once)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        events: list[Batch | Hole] = []
        count = len(self._streams)
        for stream, groups, answer in zip(self._streams, answers[:count], answers[count:], strict=True):
            if isinstance(answer, ResponseError):
                await self._make_group(stream, answer)
                continue
            group = _group_in(groups, self._group)
            last = stream.newest = Place.of(group["last-delivered-id"])
            for entry_id, fields in _entries(answer):
                if hole := stream.hole_before(last, entry_id, fields):
                    events.append(hole)
                last = stream.newest = Place.of(entry_id)
                events.append(await self._give(stream, entry_id, fields))
        return events

    async def _own_unfinished(self) -> list[Batch | Hole]:
        """What this name had when it was here before."""
        events: list[Batch | Hole] = []
        for stream in self._streams:
            after = max(stream.open, key=Place.of, default=b"0-0")
            try:
                answer = await self._redis.xreadgroup(self._group, self._name, {stream.key: after}, count=self._at_once)
            except ResponseError as error:
                await self._make_group(stream, error)
                continue
            for entry_id, fields in _entries(answer):
                events.append(await self._give(stream, entry_id, fields, again=True))
        return events

    async def _take_over(self) -> list[Batch | Hole]:
        """What others had for too long. Not by XAUTOCLAIM: from version 7 on it takes what was trimmed from those who
        are at work on it, too."""
        events: list[Batch | Hole] = []
        idle_ms = int(1000 * self._abandoned_s)
        for stream in self._streams:
            try:
                idle: Any = await self._redis.xpending_range(
                    stream.key, self._group, stream.looked_to, "+", self._at_once, idle=idle_ms
                )
            except ResponseError as error:
                await self._make_group(stream, error)
                continue
            ids: list[bytes] = [one["message_id"] for one in idle]
            stream.looked_to = f"({ids[-1].decode()}" if len(ids) == self._at_once else FIRST
            others = [entry_id for entry_id in ids if entry_id not in stream.open]
            # At once: what one of several finds gone, no other does.
            async with self._redis.pipeline(transaction=True) as pipeline:
                for entry_id in others:
                    pipeline.xpending_range(stream.key, self._group, entry_id, entry_id, 1, idle=idle_ms)
                    pipeline.xrange(stream.key, entry_id, entry_id)
                    pipeline.xclaim(stream.key, self._group, self._name, idle_ms, [entry_id], justid=True)
                answers: list[Any] = await pipeline.execute()
            for entry_id, pending, entries, mine in zip(others, *(answers[n::3] for n in range(3)), strict=True):
                if pending and (mine or not entries):
                    fields = entries[0][1] if entries else None
                    events.append(await self._give(stream, entry_id, fields, again=True))
        return events

    async def _give(
        self, stream: _Stream, entry_id: bytes, fields: dict[bytes, bytes] | None, again: bool = False
    ) -> Batch | Hole:
        event = stream.event(entry_id, fields, again)
        if isinstance(event, Hole):
            await self._redis.xack(stream.key, self._group, entry_id)
        return event

    async def _make_group(self, stream: _Stream, error: ResponseError) -> None:
        """The group is not there: it is new, or Redis has lost everything. Then it goes on after what came last."""
        if "NOGROUP" not in str(error) and "no such key" not in str(error):
            raise error
        start = self._start if stream.newest is None else str(stream.newest)
        try:
            await self._redis.xgroup_create(stream.key, self._group, start, mkstream=True)
        except ResponseError as busy:
            if "BUSYGROUP" not in str(busy):
                raise

    def _lost(self, error: Exception) -> None:
        said = complaint(error)
        if is_lasting(error):
            raise RedisRefused(said) from None
        if not self.away:
            log.warning("Redis is unavailable, waiting for it", error=said)
        self.away = said


async def replay(
    url: str,
    kinds: Iterable[str],
    exchanges: Iterable[str],
    start: datetime | str,
    *,
    namespace: str = "",
    follow: bool = False,
    at_once: int = 4,
) -> AsyncIterator[Batch | Hole]:
    """All batches that were published from `start` on, or of one stream after the entry of that id, each stream in its
    order; with `follow` those that come from now on, too. Raises what Redis raises when it is away: go on from the last
    id of each stream."""
    redis = opened(url)
    streams = {
        stream.key.encode(): stream for stream in _streams(f"{namespace}:" if namespace else "", kinds, exchanges)
    }
    positions: dict[Any, Any] = dict.fromkeys(streams, _position(start, len(streams)))
    try:
        while True:
            # Less than the time an answer may take.
            answer: Any = await redis.xread(positions, count=at_once, block=1000 if follow else None)
            if not answer and not follow:
                return
            for key, entries in answer:
                stream = streams[key]
                for entry_id, fields in entries:
                    last = Place.of(positions[key])
                    hole = stream.hole_before(last, entry_id, fields)
                    if last.sequence == 0 and await _is_cut_before(redis, key, entry_id):
                        hole = Hole(stream.kind, stream.exchange, None, entry_id.decode(), None, _OLDER)
                    if hole:
                        yield hole
                    positions[key] = entry_id
                    yield stream.event(entry_id, fields)
    finally:
        await redis.aclose()


async def _is_cut_before(redis: Redis, key: bytes, entry_id: bytes) -> bool:
    """Whether there were entries before this one, and none is left."""
    return Place.of(entry_id).sequence > 1 and not await redis.xrevrange(key, f"({entry_id.decode()}", "-", count=1)


def _streams(prefix: str, kinds: Iterable[str], exchanges: Iterable[str]) -> list[_Stream]:
    names = list(exchanges)
    wanted = list(kinds)
    if unknown := set(wanted) - set(KINDS):
        raise ValueError(f"there is no stream of {min(unknown)!r}; there are {', '.join(KINDS)}")
    return [_Stream(kind, name, prefix + stream_name(kind, name)) for kind in wanted for name in names]


def _position(start: datetime | str, streams: int) -> str:
    """The id before all that were published at that moment or later."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValueError("a moment needs a time zone: datetime.now(UTC)")
        return f"{int(start.timestamp() * 1000)}-0"
    try:
        place = str(Place.of(start))
    except ValueError:
        raise ValueError(f"start is new, oldest, a moment or an id such as 1767225600000-1, not {start!r}") from None
    if streams > 1:
        # Each counts for itself: what is missing in the others cannot be seen from it.
        raise ValueError(f"{place} is a place in one stream: begin {streams} streams at a moment, or each by itself")
    return place


def _entries(answer: Any) -> Sequence[tuple[bytes, dict[bytes, bytes]]]:
    """Of one stream."""
    return answer[0][1] if answer else []


async def _groups(redis: Redis, key: str) -> Any:
    try:
        return await redis.xinfo_groups(key)
    except ResponseError:
        return []


def _group_in(groups: Any, name: str) -> Any:
    return next((group for group in groups if group["name"] == name.encode()), None)
