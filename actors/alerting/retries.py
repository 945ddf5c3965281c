"""When a channel is tried again that could not be told: after waits that grow, five attempts within about a minute;
not at all where the receiver has said that it never will."""

from dataclasses import dataclass
from typing import Final, Literal

ATTEMPTS: Final = 5
FIRST_WAIT_S: Final = 1.0
FACTOR: Final = 4.0
LONGEST_WAIT_S: Final = 30.0
#: Rests that a receiver asks for are kept up to this.
LONGEST_REST_S: Final = 300.0
#: Answers of HTTP below 500 that say something of this moment and not of what was sent.
_PASSING: Final = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: `code` is what the receiver answered, `retry_after` the seconds it asks to rest."""

    status: Literal["delivered", "passing", "final"]
    code: int | None = None
    error: str = ""
    retry_after: float | None = None


def of_http(code: int, retry_after: float | None = None) -> Outcome:
    """What an answer with this status means."""
    if 200 <= code < 300:
        return Outcome("delivered", code)
    if 300 <= code < 400:
        return Outcome("final", code, f"{code}: redirects are not followed")
    again = code >= 500 or code in _PASSING
    return Outcome("passing" if again else "final", code, f"answered {code}", retry_after if again else None)


def wait_after(attempt: int, outcome: Outcome, chance: float) -> float | None:
    """Seconds until the next attempt after this one (1, 2, ...), None when there is none. `chance` (0 to 1) spreads
    what failed at the same time."""
    if outcome.status != "passing" or attempt >= ATTEMPTS:
        return None
    wait = min(FIRST_WAIT_S * FACTOR ** (attempt - 1), LONGEST_WAIT_S) * (0.75 + chance / 2)
    return max(wait, min(outcome.retry_after or 0.0, LONGEST_REST_S))
