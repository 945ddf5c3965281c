"""What may be asked: routes with their parameters, how these are read, and what is said of those that do not fit. The
OpenAPI document is made of the same routes (`serve_apps.openapi`), so it cannot say anything else.
"""

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from serve_apps.asgi import BadRequest, Scope

#: A longer number is none that anybody means.
_DIGITS = 6
#: The years of the column files.
_FIRST: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_AFTER: Final = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Parameter[Value]:
    """One parameter of a query: what it is for, its JSON Schema, and how a text becomes a value (`BadRequest` when it
    does not fit)."""

    name: str
    says: str
    schema: Mapping[str, Any]
    read: Callable[[str], Value]
    default: Value
    example: str = ""

    def of(self, query: Mapping[str, str]) -> Value:
        """What a request says, or the default."""
        return self.default if self.name not in query else self.read(query[self.name])


@dataclass(frozen=True, slots=True)
class Retired:
    """A route that goes: since when it is better not used, when it ends, and what to use instead."""

    since: datetime.date
    ends: datetime.date
    instead: str


@dataclass(frozen=True, slots=True)
class Route:
    """One thing to ask under a path; `{symbol}` in it stands for one segment. `body` is the JSON Schema of what is
    sent, `example` what is answered (with `status`), `others` further media types that can be asked for."""

    path: str
    summary: str
    parameters: tuple[Parameter[Any], ...] = ()
    method: str = "GET"
    about: str = ""
    example: Any = None
    status: int = 200
    body: Mapping[str, Any] | None = None
    body_example: Any = None
    others: Sequence[str] = ()
    errors: Collection[int] = (400, 404, 503)
    needs_token: bool = False
    segments: Mapping[str, str] = field(default_factory=dict)
    retired: Retired | None = None

    def query(self, scope: Scope) -> dict[str, str]:
        """See `known_query`."""
        return known_query(scope, [parameter.name for parameter in self.parameters])


def number(name: str, says: str, default: int, most: int, least: int = 1) -> Parameter[int]:
    """A whole number from `least` to `most`."""
    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Parameter(
        name, says, schema, lambda text: whole_number({name: text}, name, default, most, "", least), default
    )


def choice(name: str, says: str, default: str, known: Iterable[str]) -> Parameter[str]:
    """One of the known values."""
    known = tuple(known)
    schema = {"type": "string", "enum": list(known), "default": default}
    return Parameter(name, says, schema, lambda text: one_of({name: text}, name, default, known), default)


def flag(name: str, says: str, default: bool = False) -> Parameter[bool]:
    """1 or 0."""
    one = choice(name, says, "01"[default], ("0", "1"))
    return Parameter(name, says, one.schema, lambda text: one.read(text) == "1", default)


def text(name: str, says: str, example: str = "") -> Parameter[str | None]:
    """Any text, None without it."""
    schema = {"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT}

    def read(value: str) -> str:
        if not 0 < len(value) <= _LONGEST_TEXT:
            raise BadRequest(400, f"{name} must have 1 to {_LONGEST_TEXT} characters.")
        return value

    return Parameter(name, says, schema, read, None, example)


def moment(name: str, says: str, example: str = "2026-01-31T12:00:00Z") -> Parameter[int | None]:
    """A time as ns since the epoch: given as 2026-01-31T12:00 (UTC unless it says otherwise), or as a number of
    seconds, ms, us or ns since the epoch. None without it."""
    schema = {"type": "string", "minLength": 1, "maxLength": 40}
    return Parameter(name, says, schema, lambda value: moment_ns(name, value), None, example)


def moment_ns(name: str, value: str) -> int:
    """See `moment`."""
    if value.isascii() and value.isdigit() and 9 <= len(value) <= 19:
        # 2000 to 2099 in seconds has 9 or 10 digits, in ms 12 or 13, and so on.
        ns: int = int(value) * 10 ** (9 - 3 * ((len(value) - 8) // 3))
    else:
        try:
            given = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise BadRequest(400, f"{name} must be a time like 2026-01-31T12:00 (UTC).") from None
        try:
            ns = _ns(given.replace(tzinfo=given.tzinfo or datetime.UTC))
        except OverflowError:
            ns = -1
    if not _ns(_FIRST) <= ns < _ns(_AFTER):
        raise BadRequest(400, f"{name} must be in the years 2000 to 2099.")
    return ns


def known_query(scope: Scope, known: Collection[str]) -> dict[str, str]:
    """The parameters of a request; `BadRequest` for one nobody knows: a misspelt filter must not answer with
    everything, as if there were none."""
    try:
        pairs = parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise BadRequest(400, "That are more than 100 parameters.") from None
    query = dict(pairs)
    if unknown := query.keys() - set(known):
        only = f"only {', '.join(sorted(known))}" if known else "and no other"
        raise BadRequest(400, f"There is no {', '.join(sorted(unknown))} here, {only}.")
    return query


def whole_number(
    query: Mapping[str, str], name: str, default: int, most: int, or_else: str = "", least: int = 1
) -> int:
    """A number from `least` to `most`; `BadRequest` for anything else, which names what else would do."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and least <= int(text) <= most):
        raise BadRequest(400, f"{name} must be {or_else}a whole number from {least} to {most}.")
    return int(text)


def one_of(query: Mapping[str, str], name: str, default: str, known: Iterable[str]) -> str:
    """One of the known values; `BadRequest` for another."""
    if (value := query.get(name, default)) not in known:
        raise BadRequest(400, f"{name} must be one of: {', '.join(known)}.")
    return value


def _ns(when: datetime.datetime) -> int:
    return (when - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
