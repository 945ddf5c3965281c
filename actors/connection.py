"""The life of one connection to an exchange as a pure state machine: told what happened, it decides how long to
wait before the next attempt and whether the stream has gone silent. Time and randomness are passed in.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "open", "streaming", "waiting"]

#: Seconds before the second attempt; doubled for each further one.
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0


@dataclass(slots=True)
class Connection:
    """`silence_s`: an open connection without a frame for this long counts as lost; None where silence is normal
    (a replay that has ended)."""

    silence_s: float | None
    state: State = "connecting"
    failures: int = 0
    connects: int = 0
    last_heard: float = 0.0
    last_error: str = ""

    def opened(self, now: float) -> None:
        self.state = "open"
        self.connects += 1
        self.last_heard = now

    def heard(self, now: float) -> None:
        """A frame came. Only that proves the other side works, so only that forgets earlier failures."""
        self.state = "streaming"
        self.failures = 0
        self.last_heard = now

    def lost(self, reason: str, random: float) -> float:
        """Seconds to wait before connecting again; `random` in [0, 1) spreads clients that were cut together."""
        self.state = "waiting"
        self.last_error = reason
        wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait * (0.5 + random / 2)

    def attempting(self) -> None:
        self.state = "connecting"

    def is_silent(self, now: float) -> bool:
        alive = self.state in ("open", "streaming")
        return self.silence_s is not None and alive and now - self.last_heard > self.silence_s
