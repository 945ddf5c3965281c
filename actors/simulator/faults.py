"""What goes wrong on purpose at one simulated exchange, so that tests see how its clients take it.

A fault (`actors.simulator.fault_kinds`) is injected, does its harm until its time or its count is over, and says what
it really did. What only the server can do (restart, maintenance, symbols that come and go) it does through `Market`.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

import aiohttp.web
from websockets.asyncio.server import ServerConnection

from actors.simulator import broken_frames
from actors.simulator.dialect import Kind
from actors.simulator.fault_kinds import KINDS, Fault, FaultError
from actors.simulator.session import EVERYBODY, Stream

#: Faults that are over and still told.
KEPT: Final = 1000
#: Faults at the same time.
MAX_ACTIVE: Final = 100


class Market(Protocol):
    """What a server can do to its clients and its market; `ExchangeServer` is one. Symbols are checked by it:
    KeyError or ValueError for those it cannot have."""

    def restart(self, seconds: float) -> None:
        """Close every connection with 1012 and serve nobody for so long."""

    def maintain(self, seconds: float) -> None:
        """Say that maintenance begins, send no data for so long, say that it is over."""

    def delist(self, symbol: str) -> None: ...

    def relist(self, symbol: str) -> None: ...

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        """The stream of these frames."""


@dataclass(slots=True)
class Injected:
    """A fault that was injected, in seconds of the loop's clock; `done` counts the frames, requests, connections or
    symbols it has harmed."""

    number: int
    fault: Fault
    began: float
    ends: float | None
    done: int = 0
    #: None while it lasts.
    ended: float | None = None
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def row(self, now: float) -> dict[str, Any]:
        """As others are told: `left` seconds (None: for good), what it has `done`."""
        return {
            "number": self.number,
            "kind": self.fault.kind,
            "options": {name: value for name, value in self.fault.options.items() if value is not None},
            "active": self.ended is None,
            "left": None if self.ends is None else round(max((self.ended or self.ends) - now, 0.0), 3),
            "done": self.done,
        }


class Faults:
    """All off at first; may change at any time, from the loop the servers run in. `random` decides what a fault
    leaves open."""

    def __init__(self, random: Random | None = None) -> None:
        # No secret: the same faults again.
        self.random = random or Random(0)  # noqa: S311
        #: Set by the server that has more to harm than its connections.
        self.market: Market | None = None
        #: REST is answered with 429 and this Retry-After (seconds); None answers.
        self.retry_after_s: int | None = None
        #: Connections that are open now.
        self.connections: set[ServerConnection] = set()
        #: What faults have done so far, by kind.
        self.done: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._active: dict[int, Injected] = {}
        self._over: deque[Injected] = deque(maxlen=KEPT)
        self._refuse: int | None = None
        self._dropping: list[Callable[[bytes], bool]] = []
        #: Active faults that harm frames; nearly always none.
        self._on_frames: list[Injected] = []
        self._silences = 0
        self._silent = False
        self._speaking = asyncio.Event()
        self._speaking.set()

    # ---- on command

    def inject(self, kind: str, **options: object) -> str:
        """Begin a fault; says what it is. Raises FaultError for what there is not. Call it from the servers' loop."""
        return str(self.begin(Fault(kind, options)).fault)

    def begin(self, fault: Fault) -> Injected:
        """Begin a fault; it ends by itself. Raises FaultError for what cannot be done here."""
        if KINDS[fault.kind].where in ("frames", "exchange") and fault.kind != "silent" and self.market is None:
            raise FaultError(f"{fault.kind} is possible at a simulated market only")
        if len(self._active) >= MAX_ACTIVE:
            raise FaultError(f"{MAX_ACTIVE} faults at the same time are enough")
        loop = asyncio.get_running_loop()
        seconds, now = fault.seconds, loop.time()
        one = Injected(next(self._numbers), fault, now, None if seconds is None else now + seconds)
        try:
            self._do(one)
        except (KeyError, ValueError) as error:
            raise FaultError(f"{fault}: {error}") from None
        if seconds == 0.0:
            one.ended = now
            self._over.append(one)
            return one
        self._active[one.number] = one
        if one.ends is not None:
            one._timer = loop.call_at(one.ends, self.end, one.number)
        return one

    def end(self, number: int) -> None:
        """End a fault before its time; does nothing when it is over."""
        one = self._active.pop(number, None)
        if one is None:
            return
        if one._timer is not None:
            one._timer.cancel()
        one.ended = asyncio.get_running_loop().time()
        self._over.append(one)
        if one in self._on_frames:
            self._on_frames.remove(one)
        match one.fault.kind:
            case "silent":
                self._silences -= 1
                self._speak()
            case "delist" if self.market is not None:
                self.market.relist(str(one.fault.options["symbol"]))

    def end_all(self) -> None:
        """End every fault."""
        for number in tuple(self._active):
            self.end(number)

    def active(self) -> list[dict[str, Any]]:
        """The faults that last now; see `Injected.row`."""
        now = asyncio.get_running_loop().time()
        return [one.row(now) for one in self._active.values()]

    def over(self) -> list[dict[str, Any]]:
        """The newest that are over."""
        now = asyncio.get_running_loop().time()
        return [one.row(now) for one in self._over]

    # ---- what servers ask

    @property
    def refuse(self) -> int | None:
        """The HTTP status new connections get instead of a WebSocket; None lets them in."""
        for one in self._of("refuse"):
            return int(one.fault.options["status"] or 0)
        return self._refuse

    @refuse.setter
    def refuse(self, status: int | None) -> None:
        self._refuse = status

    def refused_one(self) -> None:
        """A connection was refused."""
        for one in self._of("refuse"):
            self._did(one)

    @property
    def refused(self) -> frozenset[str]:
        """Symbols nobody can subscribe to now."""
        return frozenset(str(one.fault.options["symbol"]) for one in self._of("refuse_symbol"))

    @property
    def skew_ns(self) -> int:
        """How far the exchange's clock is ahead."""
        return sum(int(float(one.fault.options["ms"] or 0) * 1e6) for one in self._of("skew"))

    async def rest(self, request: aiohttp.web.Request) -> aiohttp.web.Response | None:
        """What a REST request gets instead of its answer; None lets it be answered."""
        if self.retry_after_s is not None:
            return _limited(429, self.retry_after_s)
        for one in self._of("rest_slow"):
            self._did(one)
            await asyncio.sleep(float(one.fault.options["wait"] or 0))
        for one in self._of("rest_reset"):
            self._did(one)
            if request.transport is not None:
                request.transport.abort()
            # Nobody is there to read it.
            return aiohttp.web.Response(status=500)
        for one in self._of("rest_limited"):
            self._did(one)
            return _limited(int(one.fault.options["status"] or 0), int(one.fault.options["retry_after"] or 0))
        for one in self._of("rest_failing"):
            self._did(one)
            return aiohttp.web.Response(status=int(one.fault.options["status"] or 0), text="it is a fault\n")
        return None

    @property
    def dropping(self) -> bool:
        """Whether frames may be harmed: `outgoing` has to see each."""
        return bool(self._dropping or self._on_frames)

    def drop(self, which: Callable[[bytes], bool]) -> None:
        """The next frame of which this is true is not sent; it counts where the exchange numbers its frames."""
        self._dropping.append(which)

    def kept(self, frames: list[bytes]) -> list[int]:
        """The positions of those frames that are sent."""
        return [at for at, frame in enumerate(frames) if not self._dropping or not self._drops(frame)]

    def outgoing(self, frames: list[bytes], streams: Sequence[Stream], held: dict[Stream, bytes]) -> list[bytes]:
        """What a connection gets instead of these frames, each of its stream. What belongs to no stream (answers,
        heartbeats, notices) is left as it is. `held` are frames of this connection that wait to change places with the
        next one of their stream; while there are any, this has to see each frame."""
        kept = self.kept(frames)
        pairs = [(frames[at], streams[at]) for at in kept]
        for stream in [one for one in held if not any(self._hits(fault, one) for fault in self._of("reorder"))]:
            pairs.insert(0, (held.pop(stream), stream))
        for one in tuple(self._on_frames):
            pairs = self._mixed(one, pairs, held) if one.fault.kind == "reorder" else self._harm(one, pairs)
        return [frame for frame, _ in pairs]

    @property
    def silent(self) -> bool:
        """Nothing is sent and nothing closed. A replay goes on afterwards where it was; a market does not wait."""
        return not self._speaking.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        self._speak()

    async def spoken(self) -> None:
        """Wait while silent."""
        await self._speaking.wait()

    def cut(self) -> None:
        """End all connections at once, without a good-bye."""
        for connection in tuple(self.connections):
            connection.transport.abort()

    async def close(self, code: int, reason: str = "") -> None:
        """End all connections with this close code."""
        await asyncio.gather(*(connection.close(code, reason) for connection in tuple(self.connections)))

    # ---- inside

    def _do(self, one: Injected) -> None:
        """What happens at once."""
        options = one.fault.options
        seconds, symbol = one.fault.seconds or 0.0, str(options.get("symbol"))
        match one.fault.kind:
            case "drop":
                for connection in self._victims(one):
                    connection.transport.abort()
            case "close":
                for connection in self._victims(one):
                    # The server's own handler waits for the end of it.
                    closing = asyncio.ensure_future(connection.close(int(options["code"] or 0), str(options["reason"])))
                    closing.add_done_callback(_looked_at)
            case "silent":
                self._silences += 1
                self._did(one)
                self._speak()
            case "restart" if self.market is not None:
                self.market.restart(seconds)
                self._did(one)
            case "maintenance" if self.market is not None:
                self.market.maintain(seconds)
                self._did(one)
            case "delist" if self.market is not None:
                self.market.delist(symbol)
                self._did(one)
            case "skew" | "refuse_symbol":
                self._did(one)
            case kind if KINDS[kind].where == "frames":
                self._on_frames.append(one)

    def _victims(self, one: Injected) -> list[ServerConnection]:
        # A set of connections has no order of its own.
        there = sorted(self.connections, key=lambda connection: str(connection.id))
        if there and not one.fault.options["all"]:
            there = [self.random.choice(there)]
        self._did(one, len(there))
        return there

    def _of(self, kind: str) -> list[Injected]:
        return [one for one in self._active.values() if one.fault.kind == kind] if self._active else []

    def _did(self, one: Injected, count: int = 1) -> None:
        """Counts the harm; a fault that has done all it should is over."""
        one.done += count
        self.done[one.fault.kind] += count
        most = one.fault.options.get("count")
        if most is not None and one.done >= int(most):
            self.end(one.number)

    def _speak(self) -> None:
        if self._silent or self._silences:
            self._speaking.clear()
        else:
            self._speaking.set()

    def _drops(self, frame: bytes) -> bool:
        for which in self._dropping:
            if which(frame):
                self._dropping.remove(which)
                return True
        return False

    def _hits(self, one: Injected, stream: Stream) -> bool:
        """Whether a fault is about this stream, and not over."""
        if one.ended is not None or stream == EVERYBODY:
            return False
        symbol, about = one.fault.options.get("symbol"), one.fault.options.get("about", "any")
        if symbol is not None and stream.symbol != symbol:
            return False
        if about == "any" or self.market is None:
            return True
        kinds: tuple[Kind, ...] = ("trades", "quotes", "book", "derivatives")
        return any(kind == about and self.market.stream(stream.symbol, kind) == stream for kind in kinds)

    def _harm(self, one: Injected, pairs: list[tuple[bytes, Stream]]) -> list[tuple[bytes, Stream]]:
        harmed: list[tuple[bytes, Stream]] = []
        for frame, stream in pairs:
            instead = self._instead(one, frame) if self._hits(one, stream) else None
            if instead is None:
                harmed.append((frame, stream))
            else:
                self._did(one)
                harmed.extend((other, stream) for other in instead)
        return harmed

    def _instead(self, one: Injected, frame: bytes) -> list[bytes] | None:
        """The frames that are sent for this one; None where it is not harmed."""
        match one.fault.kind, one.fault.options.get("how"):
            case "skip" | "stall", _:
                return []
            case "double", _:
                return [frame, frame]
            case "checksum", _:
                changed = broken_frames.with_wrong_checksum(frame)
                return None if changed is None else [changed]
            case "malformed", "cut":
                return [broken_frames.cut(frame, self.random)]
            case "malformed", "garbage":
                return [broken_frames.garbage(frame, self.random)]
            case "malformed", _:
                return [broken_frames.with_wrong_type(frame, self.random)]
            case "oversized", _:
                return [broken_frames.oversized(frame, int(one.fault.options["megabytes"] or 0) << 20)]
        return None

    def _mixed(
        self, one: Injected, pairs: list[tuple[bytes, Stream]], held: dict[Stream, bytes]
    ) -> list[tuple[bytes, Stream]]:
        """The frames of each stream in another order; one that has no other to change places with is held."""
        within = int(one.fault.options["within"] or 0)
        places: dict[Stream, list[int]] = {}
        for at, (_, stream) in enumerate(pairs):
            if self._hits(one, stream):
                places.setdefault(stream, []).append(at)
        sent = [[pair] for pair in pairs]
        for stream, own in places.items():
            frames = [held.pop(stream)] if stream in held else []
            frames += [pairs[at][0] for at in own]
            for at in own:
                sent[at] = []
            for start in range(0, len(frames), within):
                window = frames[start : start + within]
                if one.ended is None and len(window) < 2:
                    held[stream] = window.pop()
                elif one.ended is None:
                    order = list(range(len(window)))
                    while order == sorted(order):
                        self.random.shuffle(order)
                    self._did(one, sum(at != source for at, source in enumerate(order)))
                    window = [window[source] for source in order]
                for at, frame in enumerate(window, start):
                    sent[own[min(at, len(own) - 1)]].append((frame, stream))
        return [pair for pairs in sent for pair in pairs]


def _limited(status: int, retry_after_s: int) -> aiohttp.web.Response:
    return aiohttp.web.json_response({}, status=status, headers={"Retry-After": str(retry_after_s)})


def _looked_at(task: "asyncio.Future[None]") -> None:
    """A connection that is gone already is closed too."""
    if not task.cancelled():
        task.exception()
