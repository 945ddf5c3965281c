"""The life of one connection to an exchange as a pure state machine: told what happened, it decides what to send and
when, whether the other side is still alive, and when another connection has to take over. Time (seconds of a steady
clock) and randomness are passed in; whoever owns the socket acts on the effects.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from actors.feeds.feed import Limits, Notice

State = Literal["connecting", "open", "streaming", "waiting", "maintenance"]

#: Seconds before the second attempt; doubled for each further one.
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
#: A subscription without an answer is sent again this often, then reported.
ATTEMPTS: Final = 3
#: A connection that lives (heartbeats come) without any data for this long is doubted: another takes over.
DATA_SILENCE_S: Final = 300.0
#: Nor is maintenance waited out for longer: its end may be said to those only who were there at its beginning.
MAINTENANCE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Send:
    message: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Send the exchange's own ping."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask again for these symbols: there was no answer."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disconnect:
    reason: str


@dataclass(frozen=True, slots=True)
class Succeed:
    """Make another connection for the same symbols and leave this one once that one has everything."""

    reason: str


Effect = Send | Ping | Subscribe | Disconnect | Succeed


@dataclass(slots=True)
class _Asked:
    """A subscription without an answer: when it counts as unanswered, and how often it was sent."""

    until: float
    attempts: int = 1


@dataclass(slots=True)
class Connection:
    """One connection, over all attempts to make it.

    With `watch_silence` off silence is normal: a replay that has ended.
    """

    limits: Limits
    watch_silence: bool = True
    state: State = "connecting"
    failures: int = 0
    connects: int = 0
    #: When the last frame came, and the last that held data: heartbeats prove the socket, not the data.
    last_heard: float = 0.0
    last_data: float = 0.0
    last_error: str = ""
    #: Symbols nobody answered for.
    unanswered: set[str] = field(default_factory=set)
    _outbox: deque[bytes] = field(default_factory=deque)
    _next_send: float = 0.0
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _next_ping: float = 0.0
    _ends: float | None = None
    _succeeding: bool = False
    _maintained_since: float | None = None

    def attempting(self) -> None:
        self.state = "connecting"

    def opened(self, now: float, random: float) -> None:
        """Connected. `random` in [0, 1) spreads the planned ends of connections that were opened together."""
        self.state = "open"
        self.connects += 1
        self.last_heard = self.last_data = now
        self._next_ping = now + (self.limits.ping_s or 0.0)
        self._next_send = now
        lifetime = self.limits.lifetime_s
        self._ends = None if lifetime is None else now + lifetime * (0.8 + 0.15 * random)
        self._succeeding = False
        self._outbox.clear()
        self._asked.clear()
        self.unanswered.clear()

    def queue(self, messages: Iterable[bytes]) -> None:
        """Messages to send as fast as the exchange allows."""
        self._outbox.extend(messages)

    def ask(self, symbols: Iterable[str], messages: Sequence[bytes], now: float) -> None:
        """Queue the messages that subscribe to these symbols; an answer is expected for each symbol."""
        self.queue(messages)
        until = now + self.limits.answer_s + len(self._outbox) / self.limits.messages_per_second
        for symbol in symbols:
            known = self._asked.get(symbol)
            self._asked[symbol] = _Asked(until, known.attempts + 1 if known else 1)

    def answered(self, symbols: Iterable[str]) -> None:
        """These symbols are granted or refused."""
        for symbol in symbols:
            self._asked.pop(symbol, None)
            self.unanswered.discard(symbol)

    def heard(self, now: float, data: bool) -> None:
        """Frames came. Only data proves that the other side works, so only data forgets earlier failures: a greeting
        says no more than that somebody is there."""
        if self.state != "maintenance":
            self.state = "streaming"
        self.last_heard = now
        if data:
            self.last_data = now
            self.failures = 0

    def reading_paused(self, now: float) -> None:
        """We do not read, so what we do not hear is neither silence nor a missing answer."""
        self.last_heard = self.last_data = now
        for asked in self._asked.values():
            asked.until = max(asked.until, now + self.limits.answer_s)

    def noticed(self, notice: Notice) -> list[Effect]:
        """The exchange announced something."""
        if notice == "reconnect":
            return self._succeed("the exchange asks to connect again")
        if notice == "maintenance":
            if self.state != "maintenance":
                self.state, self._maintained_since = "maintenance", None
            return []
        # What was subscribed before may be gone, and books are.
        return [Disconnect("the exchange serves again after maintenance")] if self.state == "maintenance" else []

    def lost(self, reason: str, random: float, retry_after: float = 0.0) -> float:
        """Seconds to wait before connecting again: what the exchange asks for at least, and more after each failure;
        `random` in [0, 1) spreads clients that were cut together."""
        self.state = "waiting"
        self.last_error = reason
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(wait * (0.5 + random / 2), retry_after)

    def tick(self, now: float) -> list[Effect]:
        """What is due now; call it every few milliseconds."""
        if self.state not in ("open", "streaming", "maintenance"):
            return []
        effects: list[Effect] = []
        # Evenly: exchanges count the messages of single seconds.
        while self._outbox and now >= self._next_send:
            self._next_send = now + 1 / self.limits.messages_per_second
            effects.append(Send(self._outbox.popleft()))
        if self.limits.ping_s is not None and now >= self._next_ping:
            self._next_ping = now + self.limits.ping_s
            effects.append(Ping())
        if self.state == "maintenance":
            if self._maintained_since is None:
                self._maintained_since = now
            over = now - self._maintained_since > MAINTENANCE_S
            return [*effects, Disconnect(f"maintenance for {MAINTENANCE_S:.0f} s")] if over else effects
        if self.watch_silence and now - self.last_heard > self.limits.silence_s:
            return [*effects, Disconnect(f"nothing received for {self.limits.silence_s:.0f} s")]
        effects += self._unanswered(now)
        if self._ends is not None and now > self._ends:
            effects += self._succeed("the exchange ends connections of this age")
        elif self.watch_silence and now - self.last_data > DATA_SILENCE_S:
            self.last_data = now
            effects += self._succeed(f"heartbeats but no data for {DATA_SILENCE_S:.0f} s")
        return effects

    def _unanswered(self, now: float) -> list[Effect]:
        overdue = [symbol for symbol, asked in self._asked.items() if now > asked.until]
        again = tuple(symbol for symbol in overdue if self._asked[symbol].attempts < ATTEMPTS)
        for symbol in overdue:
            if symbol not in again:
                del self._asked[symbol]
                self.unanswered.add(symbol)
        return [Subscribe(again)] if again else []

    def _succeed(self, reason: str) -> list[Effect]:
        if self._succeeding:
            return []
        self._succeeding = True
        return [Succeed(reason)]
