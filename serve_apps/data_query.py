"""The query string of `/api/data`: bytes in, a checked `DataQuery` or a `BadRequest` out. Pure.

Keys, order of checks and texts are those of the legacy server: form-urlencoded, the last duplicate of a key
wins, `start` and `end` are u32 seconds with both ends included. Where it crashed, leaked or served wrong
bytes this module decides otherwise:

- A column the row type does not have is a 400 (it was a 500 that showed a path), after all legacy checks.
  For a row type nobody writes, which has no rows, any column of any type is known.
- A column asked for k times comes k times with n rows each (it was k*n rows each); at most `MAX_COLUMNS`.
- Columns of 8 and 16 bytes have their true record size (it was 4 for all).
- An empty exchange is an unknown one (it was a layout without that level).
- `start` after `end` is a range without rows, whatever the distance.
- ASGI does not tell a bare `?` from no `?`: both are `Missing query string`.

What the legacy server did not have is checked after all that it had: `BadOption` says what is wrong with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args
from urllib.parse import unquote_to_bytes

from storage.schema import COLUMNS
from storage.thinned_rows import TIME_NS, Thinning

MAX_COLUMNS: Final = 64

#: What `max_points` keeps of each n rows: the first, the last, or those of the lowest and the highest price.
Decimation = Thinning
Format = Literal["binary", "arrow", "parquet", "csv", "ndjson"]
#: Rows of extremes are gathered in memory.
MOST_EXTREMES: Final = 1_000_000

#: `start` and `end` as most write them; all of these fit in 32 bits. What is before and after must not name them again.
_PLAIN_RANGE: Final = re.compile(rb"([^&].*)&start=(\d{1,9}|[123]\d{9})&end=(\d{1,9}|[123]\d{9})(|&.*)", re.DOTALL)
_ANOTHER_RANGE: Final = re.compile(rb"%|start|end")

_U32_MAX: Final = 2**32 - 1
_U64_MAX: Final = 2**64 - 1
_SECOND_NS: Final = 1_000_000_000
_SHOWN_NAME: Final = 40

#: Bytes of one value, per row type and column; then of any type's column.
_SIZES: Final[dict[str, dict[str, int]]] = {
    row_type: {name: kind.itemsize for name, kind in columns.items()} | {TIME_NS: 8}
    for row_type, columns in COLUMNS.items()
}
_DECIMATIONS: Final[dict[str, Decimation]] = {name: name for name in get_args(Decimation)}
_FORMATS: Final[dict[str, Format]] = {name: name for name in get_args(Format)}
_SIZES_OF_ALL: Final = {name: size for sizes in _SIZES.values() for name, size in sizes.items()}


class BadRequest(ValueError):
    """The request cannot be answered; the message is the body of the 400, fit to be shown anywhere."""


class BadOption(BadRequest):
    """The same of what the legacy server did not have."""


@dataclass(slots=True)
class DataQuery:
    """A range of rows and the columns wanted of them, in order, repeated where asked twice."""

    exchange: str
    symbol: str
    #: As asked: `MD`, `TRADES`, or a name nobody writes.
    row_type: str
    #: Nanoseconds since the epoch, both ends included; an empty range when `start_ns > end_ns`.
    start_ns: int
    end_ns: int
    columns: tuple[str, ...]
    #: Bytes of one value of each of `columns`.
    record_sizes: tuple[int, ...]
    max_points: int | None
    decimate: Decimation = "stride"
    #: None where the request says it elsewhere, or not at all.
    format: Format | None = None


def parse(query_string: bytes) -> DataQuery:
    """Raises `BadRequest` for the first check that fails."""
    if not query_string:
        raise BadRequest("Missing query string")
    values = _form(query_string)
    symbol = _required(values, "symbol")
    row_type = _required(values, "type")
    start = 0 if "start_ns" in values else _seconds(values, "start")
    end = 0 if "end_ns" in values else _seconds(values, "end")
    columns, record_sizes = _columns(row_type, _required(values, "columns"))
    max_points = _max_points(values["max_points"]) if "max_points" in values else None
    decimate, form = _choice(values, "decimate", _DECIMATIONS), _choice(values, "format", _FORMATS)
    if decimate == "minmax" and max_points is not None and not 2 <= max_points <= MOST_EXTREMES:
        raise BadOption(f"max_points must be 2 to {MOST_EXTREMES} with decimate=minmax.")
    return DataQuery(
        exchange=values.get("exchange", "coinbase"),
        symbol=symbol,
        row_type=row_type,
        start_ns=_nanoseconds(values, "start", start * _SECOND_NS),
        end_ns=_nanoseconds(values, "end", end * _SECOND_NS + _SECOND_NS - 1),
        columns=columns,
        record_sizes=record_sizes,
        max_points=max_points,
        decimate=decimate or "stride",
        format=form,
    )


def parse_again(query_string: bytes) -> DataQuery:
    """As `parse`, quicker for those who ask the same for one range after the other."""
    match = _PLAIN_RANGE.fullmatch(query_string)
    query = None if match is None else _around_a_range(match[1], match[4])
    if match is None or query is None:
        return parse(query_string)
    start_ns, end_ns = int(match[2]) * _SECOND_NS, int(match[3]) * _SECOND_NS + _SECOND_NS - 1
    return DataQuery(
        query.exchange, query.symbol, query.row_type, start_ns, end_ns, query.columns, query.record_sizes,
        query.max_points, query.decimate, query.format,
    )  # fmt: skip


def parse_u32(text: str) -> int:
    """A decimal u32 as Rust's `u32::from_str` reads it; raises `ValueError` with Rust's text.

    Rust reads from the left and stops at the first fault, so a number that has grown too large is reported
    before a bad character behind it.
    """
    if len(text) < 11 and text.isascii() and text.isdigit() and (number := int(text)) <= _U32_MAX:
        return number
    if not text:
        raise ValueError("cannot parse integer from empty string")
    digits = text[1:] if text[0] == "+" else text
    leading = digits.removesuffix(digits.lstrip("0123456789"))
    significant = leading.lstrip("0") or "0"
    if len(significant) > 10 or int(significant) > _U32_MAX:
        raise ValueError("number too large to fit in target type")
    if leading != digits or not digits:
        raise ValueError("invalid digit found in string")
    return int(significant)


def _form(query_string: bytes) -> dict[str, str]:
    if b"%" in query_string or b"+" in query_string:
        encoded = [pair.partition(b"=") for pair in query_string.split(b"&") if pair]
        return {_decode(key): _decode(value) for key, _, value in encoded}
    pairs = [pair.partition("=") for pair in query_string.decode(errors="replace").split("&") if pair]
    return {key: value for key, _, value in pairs}


def _decode(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode(errors="replace")


def _required(values: dict[str, str], key: str) -> str:
    value = values.get(key)
    if value is None:
        raise BadRequest(f"Missing {key}")
    return value


def _seconds(values: dict[str, str], key: str) -> int:
    text = _required(values, key)
    try:
        return parse_u32(text)
    except ValueError as error:
        raise BadRequest(f"Invalid {key}: {error}") from None


def _nanoseconds(values: dict[str, str], key: str, default: int) -> int:
    text = values.get(f"{key}_ns")
    if text is None:
        return default
    if key in values:
        raise BadOption(f"Give {key} or {key}_ns, not both.")
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _U64_MAX):
        raise BadOption(f"{key}_ns must be a whole number of nanoseconds since 1970, at most {_U64_MAX}.")
    return int(text)


def _choice[Value: str](values: dict[str, str], key: str, known: Mapping[str, Value]) -> Value | None:
    text = values.get(key)
    if text is None:
        return None
    if text not in known:
        raise BadOption(f"{key} must be one of: {', '.join(known)}.")
    return known[text]


def _columns(row_type: str, text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    columns = tuple([name.strip() for name in text.split(",")])
    if len(columns) > MAX_COLUMNS:
        raise BadRequest(f"Too many columns: at most {MAX_COLUMNS}")
    known = _SIZES.get(row_type, _SIZES_OF_ALL)
    try:
        return columns, tuple([known[name] for name in columns])
    except KeyError as error:
        raise BadRequest(f"Unknown column: {_harmless(error.args[0])}") from None


def _max_points(text: str) -> int | None:
    # No selection has more than u32 rows, so a larger limit is no limit, as is one that is not a number.
    try:
        return parse_u32(text) or None
    except ValueError:
        return None


def _harmless(name: str) -> str:
    # The body has no content type: nothing in it may be taken for markup.
    shown = "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "?" for c in name[:_SHOWN_NAME])
    return shown + "..." * (len(name) > _SHOWN_NAME) or "(empty)"


@lru_cache(maxsize=1024)
def _around_a_range(before: bytes, behind: bytes) -> DataQuery | None:
    """What is asked of any range; None where it says another one. Raises `BadRequest`."""
    if _ANOTHER_RANGE.search(before) or _ANOTHER_RANGE.search(behind):
        return None
    return parse(before + b"&start=0&end=0" + behind)
