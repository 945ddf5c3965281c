"""What a provider is asked and what it says: one request, the numbers its answer has, and how that is read.

Readings are strict where a number would be made up (a missing one is left out, never zero), and lenient where it does
not matter (what is not asked for may be anything).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from actors.overview.fields import MARKET, Value
from actors.polling.provider import UNREADABLE, Failed, Request, one_line

#: Compressed answers are not read: their size is only known when it is too late.
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "rayfeed"}
_LONGEST_MESSAGE: Final = 100_000
_MESSAGES: Final = ("msg", "message", "error", "error_message")
#: 2000 to 2100, in seconds.
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800


@dataclass(frozen=True, slots=True)
class Heard:
    """A value, and of when (ns UTC; None: of now). `by`: what to call who said it, where that is not the source."""

    value: Value
    as_of: int | None = None
    by: str = ""


Readings = Mapping[str, Heard]


@dataclass(frozen=True, slots=True)
class Question:
    """One GET every `interval_s` while its `fields` are wanted. `read` raises `Failed` for what is no such answer, and
    nothing else, whatever it is given."""

    name: str
    provider: str
    fields: tuple[str, ...]
    interval_s: float
    read: Callable[[bytes], Readings] = field(repr=False)
    #: May hold a key.
    request: Request = field(repr=False)


def get(path: str, **headers: str) -> Request:
    return Request(path, {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}})


def reader[Answer](
    decode: Callable[[bytes], Answer], read: Callable[[Answer], Readings]
) -> Callable[[bytes], Readings]:
    """Decode, then read."""

    def whole(body: bytes) -> Readings:
        try:
            found = read(decode(body))
        except (*UNREADABLE, OverflowError) as error:
            # A whole number may have more digits than a float takes.
            raise Failed(f"an answer that cannot be read: {error}") from None
        if not found:
            raise Failed("an answer without any number")
        return found

    return whole


def numbers(**values: Value | None) -> dict[str, Value]:
    """Those that are there."""
    return {name: value for name, value in values.items() if value is not None}


def whole_market(values: Sequence[float | None], as_of: int | None) -> Readings:
    """The numbers of MARKET, in its order. Of a market that is worth nothing no change is believed either."""
    if not values[0] or values[0] <= 0:
        return {}
    known = numbers(**dict(zip(MARKET, values, strict=True)))
    return {name: Heard(value, as_of) for name, value in known.items()}


def seconds(value: float | None) -> int | None:
    """A time in seconds as ns; None where it is none."""
    if value is None or not _EARLIEST_S <= value <= _LATEST_S:
        return None
    return int(value * 1000) * 1_000_000


def moment(text: str | None) -> int | None:
    """An ISO 8601 time as ns; None where it is none."""
    try:
        given = datetime.fromisoformat(text or "")
        return seconds(given.replace(tzinfo=given.tzinfo or UTC).timestamp())
    except (ValueError, OverflowError):
        return None


def complaint(body: bytes) -> str:
    """What a provider says in an answer that is an error, as far as it says it in a way that most do."""
    try:
        said: Any = msgspec.json.decode(body[:_LONGEST_MESSAGE])
    except UNREADABLE:
        return ""
    parts = [said, said.get("status")] if isinstance(said, dict) else []
    for part in parts:
        if isinstance(part, dict):
            for name in _MESSAGES:
                if isinstance(part.get(name), str):
                    return one_line(part[name])
    return ""


def shown(text: str, secrets: tuple[str, ...]) -> str:
    """`text` as it may be shown: one short line, without any of the secrets, however they are written."""
    for secret in secrets:
        for written in (secret, quote(secret, safe=""), quote(secret)):
            text = text.replace(written, "***")
    return one_line(text)
