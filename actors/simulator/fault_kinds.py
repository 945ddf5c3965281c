"""The faults a simulated exchange can be given, with their options: what the command line lists and a schedule draws
from. `actors.simulator.faults` makes them happen.
"""

import http
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

#: What an option holds.
Value = int | float | str | bool

#: What the exchange was about to send is about one of these; `any` of them.
ABOUT: Final = ("any", "trades", "quotes", "book", "derivatives")
MALFORMED: Final = ("cut", "garbage", "types")

#: A fault that waits for something to happen to ends after this long without.
_WAITS_S: Final = 30.0
_LONGEST_S: Final = 24 * 3600.0

_STATUSES: Final = frozenset(http.HTTPStatus)
#: Of a message that closes a connection (RFC 6455, 5.5.1).
_LONGEST_REASON: Final = 123


class FaultError(ValueError):
    """There is no such fault, or not with these options; one line that says what is possible."""


@dataclass(frozen=True, slots=True)
class Option:
    """`default` None: may be left out (`required`: may not). A number is within `low..high`, a word in `choices`."""

    kind: type[int] | type[float] | type[str] | type[bool]
    default: Value | None
    meaning: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()
    required: bool = False

    def read(self, name: str, value: object) -> Value:
        """The value; a text as the command line gives it will do. FaultError."""
        if self.kind is bool:
            if value in (True, "true", "1", "yes", "on"):
                return True
            if value in (False, "false", "0", "no", "off"):
                return False
            raise FaultError(f"{name} is {value!r}: expected true or false")
        if self.kind is str:
            if not isinstance(value, str) or not value or (self.choices and value not in self.choices):
                expected = f"one of {', '.join(self.choices)}" if self.choices else "a name"
                raise FaultError(f"{name} is {value!r}: expected {expected}")
            return value
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            number: int | float = int(value) if self.kind is int else float(value)
            if isinstance(value, float) and number != value:
                raise ValueError
        except (ValueError, OverflowError):
            number = float("nan")
        if not self.low <= number <= self.high:
            whole = "a whole number" if self.kind is int else "a number"
            raise FaultError(f"{name} is {value!r}: expected {whole} from {self.low:g} to {self.high:g}")
        return number


@dataclass(frozen=True, slots=True)
class Kind:
    """One fault: what it does, and its options by name. `where` says which group of means it uses."""

    does: str
    options: Mapping[str, Option]
    where: Literal["connections", "frames", "rest", "exchange"]


def _seconds(default: float | None, meaning: str = "until it ends") -> Option:
    return Option(float, default, meaning, 0.01, _LONGEST_S)


def _count(default: int | None, meaning: str) -> Option:
    return Option(int, default, meaning, 1, 1_000_000)


_SYMBOL: Final = Option(str, None, "only this symbol")
_ABOUT: Final = Option(str, "any", "only frames about this", choices=ABOUT)
_WAITS: Final = _seconds(_WAITS_S, "it waits no longer for such frames")
_ALL: Final = Option(bool, False, "every connection, not one of them")
_REST: Final = {"seconds": _seconds(5.0), "count": _count(None, "no more requests than this")}

KINDS: Final[dict[str, Kind]] = {
    "drop": Kind("ends a connection without a good-bye", {"all": _ALL}, "connections"),
    "close": Kind(
        "ends a connection with a close code",
        {
            "all": _ALL,
            "code": Option(int, 1001, "the close code", 1000, 4999),
            "reason": Option(str, "going away", "said with it"),
        },
        "connections",
    ),
    "refuse": Kind(
        "answers new connections with an HTTP status",
        {"seconds": _seconds(5.0), "status": Option(int, 503, "the status", 400, 599)},
        "connections",
    ),
    "silent": Kind("says nothing at all, heartbeats neither, and closes nothing", {"seconds": _seconds(5.0)}, "frames"),
    "stall": Kind(
        "sends no data while heartbeats go on",
        {"seconds": _seconds(5.0), "symbol": _SYMBOL, "about": _ABOUT},
        "frames",
    ),
    "skip": Kind(
        "leaves out frames",
        {"count": _count(1, "frames"), "symbol": _SYMBOL, "about": _ABOUT, "seconds": _WAITS},
        "frames",
    ),
    "double": Kind(
        "sends frames twice",
        {"count": _count(1, "frames"), "symbol": _SYMBOL, "about": _ABOUT, "seconds": _WAITS},
        "frames",
    ),
    "reorder": Kind(
        "mixes up the order of a stream's frames",
        {
            "count": _count(10, "frames"),
            "within": Option(int, 5, "a frame comes up to this many places from its own", 2, 1000),
            "symbol": _SYMBOL,
            "about": _ABOUT,
            "seconds": _WAITS,
        },
        "frames",
    ),
    "checksum": Kind(
        "sends wrong checksums of books (Kraken, OKX, Bitfinex)",
        {"count": _count(1, "checksums"), "symbol": _SYMBOL, "seconds": _WAITS},
        "frames",
    ),
    "malformed": Kind(
        "sends frames that cannot be read instead of good ones",
        {
            "count": _count(1, "frames"),
            "how": Option(
                str, "cut", "in the middle, bytes that mean nothing, or values of wrong types", choices=MALFORMED
            ),
            "symbol": _SYMBOL,
            "about": _ABOUT,
            "seconds": _WAITS,
        },
        "frames",
    ),
    "oversized": Kind(
        "makes frames longer than anybody takes",
        {
            "count": _count(1, "frames"),
            "megabytes": Option(int, 20, "of the frame", 1, 200),
            "symbol": _SYMBOL,
            "about": _ABOUT,
            "seconds": _WAITS,
        },
        "frames",
    ),
    "rest_slow": Kind("lets REST requests wait", _REST | {"wait": Option(float, 2.0, "seconds", 0.01, 600)}, "rest"),
    "rest_failing": Kind(
        "answers REST with a server error", _REST | {"status": Option(int, 503, "the status", 500, 599)}, "rest"
    ),
    "rest_reset": Kind("ends REST connections without an answer", _REST, "rest"),
    "rest_limited": Kind(
        "answers REST with 429 or 418 and Retry-After",
        _REST
        | {
            "status": Option(int, 429, "429 too many, 418 banned", 418, 429),
            "retry_after": Option(int, 1, "seconds", 0, 3600),
        },
        "rest",
    ),
    "refuse_symbol": Kind(
        "refuses to subscribe to a symbol",
        {"symbol": Option(str, None, "the symbol", required=True), "seconds": _seconds(10.0)},
        "exchange",
    ),
    "restart": Kind(
        "restarts: says so where the exchange does, closes all connections with 1012, serves nobody for a while",
        {"seconds": _seconds(5.0)},
        "exchange",
    ),
    "maintenance": Kind(
        "says that maintenance begins, sends no data, says that it has ended", {"seconds": _seconds(5.0)}, "exchange"
    ),
    "skew": Kind(
        "its clock is wrong",
        {"seconds": _seconds(10.0), "ms": Option(float, 1000.0, "ahead; below zero behind", -86_400_000, 86_400_000)},
        "exchange",
    ),
    "delist": Kind(
        "no longer trades a symbol",
        {
            "symbol": Option(str, None, "the symbol", required=True),
            "seconds": _seconds(None, "until it is listed again; for good without"),
        },
        "exchange",
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault with every option it has. Raises FaultError."""

    kind: str
    options: Mapping[str, Value | None]

    def __init__(self, kind: str, options: Mapping[str, object] | None = None) -> None:
        if kind not in KINDS:
            raise FaultError(f"there is no fault {kind!r}: expected one of {', '.join(KINDS)}")
        possible, given = (
            KINDS[kind].options,
            {name: value for name, value in (options or {}).items() if value is not None},
        )
        if unknown := given.keys() - possible.keys():
            raise FaultError(f"{kind} has no option {min(unknown)!r}: expected {', '.join(possible) or 'none'}")
        if missing := [name for name, option in possible.items() if option.required and name not in given]:
            raise FaultError(f"{kind} needs {missing[0]}: {possible[missing[0]].meaning}")
        read = {
            name: option.read(name, given[name]) if name in given else option.default
            for name, option in possible.items()
        }
        if kind == "rest_limited" and read["status"] not in (418, 429):
            raise FaultError(f"status is {read['status']}: expected 418 or 429")
        if kind == "refuse" and read["status"] not in _STATUSES:
            raise FaultError(f"status is {read['status']}: expected one that HTTP has, such as 403, 429, 500 or 503")
        if kind == "close" and not _can_be_sent(int(read["code"] or 0)):
            raise FaultError(f"code is {read['code']}: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999")
        if kind == "close" and len(str(read["reason"]).encode(errors="replace")) > _LONGEST_REASON:
            raise FaultError(f"reason is too long: expected {_LONGEST_REASON} bytes at most")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "options", read)

    def __str__(self) -> str:
        """As on the command line of a shell."""
        given = ((name, value) for name, value in self.options.items() if value is not None)
        told = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in given)
        return shlex.join([self.kind, *told])

    @property
    def seconds(self) -> float | None:
        """How long it lasts at most; 0 for what is over at once, None for good."""
        if "seconds" not in self.options:
            return 0.0
        value = self.options["seconds"]
        return None if value is None else float(value)


def _can_be_sent(code: int) -> bool:
    """Some close codes are for those who were told none (RFC 6455, 7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or code >= 3000


def drawn(
    random: Random, symbols: Sequence[str], kinds: Sequence[str] = tuple(KINDS), longest_s: float = 10.0
) -> Fault:
    """A fault of one of the kinds at an exchange with these symbols, none of which lasts longer than `longest_s`."""
    kind = random.choice(kinds)
    possible = KINDS[kind].options
    options: dict[str, Value] = {}
    if "seconds" in possible:
        waits = possible["seconds"] is _WAITS
        options["seconds"] = longest_s if waits else round(random.uniform(longest_s / 10, longest_s), 2)
    if "symbol" in possible and (possible["symbol"].required or random.random() < 0.3):
        options["symbol"] = random.choice(symbols)
    for name, option in possible.items():
        match name:
            case "count" if option.default is not None:
                options[name] = random.choice((1, 2, 5, 20, 50)) if kind != "oversized" else 1
            case "about" | "how":
                options[name] = random.choice(option.choices)
            case "all":
                options[name] = random.random() < 0.5
            case "code":
                options[name] = random.choice((1000, 1001, 1011, 1012, 1013, 4000))
            case "status":
                statuses = {"refuse": (403, 429, 500, 503), "rest_limited": (418, 429)}.get(kind, (500, 502, 503, 504))
                options[name] = random.choice(statuses)
            case "wait":
                options[name] = round(random.uniform(0.2, longest_s / 2), 2)
            case "ms":
                options[name] = round(random.uniform(-2000, 2000), 1)
            case "within":
                options[name] = random.choice((2, 5, 20))
            case "retry_after":
                options[name] = random.choice((1, 2))
    return Fault(kind, options)
