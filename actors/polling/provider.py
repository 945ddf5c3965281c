"""What every provider of stock prices is to the poller: requests out, answers in, and what an answer can mean.

`Refused` is about one symbol, `Limited` about our pace, `Failed` about the provider. Nothing shown to anybody (a
message, an error, a repr) holds a secret: secrets travel in headers only, and are cut out of what a provider says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, Protocol

import msgspec

from actors.polling.bars import MAX_BARS, Bar, flaw
from actors.polling.market_hours import SECOND_NS, Session

#: What reading an answer may raise: not the JSON we expect, not UTF-8, nested too deep to follow.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: An answer that asks for a longer rest is not believed.
LONGEST_REST_S: Final = 3600.0
_LONGEST_MESSAGE: Final = 200


class Refused(Exception):
    """The provider has nothing for this symbol (unknown, delisted, not in the plan). Others are not concerned."""


class Limited(Exception):
    """We ask too often. `retry_after`: seconds of rest asked for, None when it does not say."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__("too many requests")
        self.retry_after = retry_after


class Failed(Exception):
    """No usable answer: the provider is down, does not know our key, or sent what cannot be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET of `path` (percent-encoded, with its query) below the provider's address."""

    path: str
    headers: Mapping[str, str] = field(repr=False)


class Price(NamedTuple):
    """The last price the provider knows, and of when (ns UTC)."""

    price: float
    time: int


@dataclass(slots=True)
class Reading:
    """What an answer says: bars, rows that are none by reason, the last price, and the request for the rest of it."""

    bars: list[Bar] = field(default_factory=list)
    unusable: dict[str, int] = field(default_factory=dict)
    price: Price | None = None
    more: Request | None = None

    def add(self, bar: Bar, clock_ns: int) -> None:
        """Raises `Failed` for more bars than can be."""
        self._bounded(1)
        if why := flaw(bar, clock_ns):
            self.leave_out(why)
        else:
            self.bars.append(bar)

    def leave_out(self, why: str, rows: int = 1) -> None:
        self.unusable[why] = self.unusable.get(why, 0) + rows

    def extend(self, page: "Reading") -> None:
        """Take over what the next page says. Raises `Failed` for more bars than can be."""
        self._bounded(len(page.bars))
        self.bars += page.bars
        for why, rows in page.unusable.items():
            self.leave_out(why, rows)
        self.price = page.price or self.price

    def _bounded(self, rows: int) -> None:
        if len(self.bars) + rows > MAX_BARS:
            raise Failed(f"an answer of more than {MAX_BARS} bars")


class Provider(Protocol):
    """Pure; one per provider. `timeframes` are those to ask for, of every symbol."""

    name: str
    timeframes: tuple[str, ...]

    def request(self, symbol: str, timeframe: str, session: Session) -> Request: ...

    def read(self, symbol: str, timeframe: str, body: bytes, clock_ns: int) -> Reading:
        """Raises `Refused` and `Failed`, and nothing else, whatever `body` is."""

    def complaint(self, body: bytes) -> str:
        """What the provider says in an answer that is an error; empty when that cannot be read."""

    def shown(self, text: str) -> str:
        """`text` as it may be shown: one short line, without secrets."""


def check(status: int, retry_after: str | None, complaint: str, clock_ns: int) -> None:
    """Raises what an answer other than 200 means."""
    said = f"{status} {complaint}".strip()
    match status:
        case 200:
            return
        case 429:
            raise Limited(rest_asked_for(retry_after, clock_ns))
        case 401:
            raise Failed(f"the credentials were refused: {said}")
        case 400 | 403 | 404 | 410 | 422:
            raise Refused(said)
        case _:
            raise Failed(said)


def rest_asked_for(header: str | None, clock_ns: int) -> float | None:
    """Seconds, at most an hour, from a Retry-After header (RFC 9110, 10.2.3: seconds or a date); None without one."""
    if header is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", header):
        return min(float(header), LONGEST_REST_S)
    try:
        date = parsedate_to_datetime(header)
        return min(max(0.0, date.timestamp() - clock_ns / SECOND_NS), LONGEST_REST_S)
    except (ValueError, OverflowError, OSError):
        return None


def one_line(text: str, secret: str = "") -> str:
    """Printable, without `secret`, and short enough to be shown."""
    if secret:
        text = text.replace(secret, "***")
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[:2000]).split())
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
