"""Frames whose layout is known to the byte, read by one compiled pass straight into columns.

Exchanges write the same keys in the same order for years. A `Layout` states such a frame with a placeholder for
each value; a frame that follows it exactly, with values that raise no question, is read here. Every other frame
is left to the feed's JSON decoder, which decides what to make of it, so nothing depends on a layout but speed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from actors.feeds import rows as columns
from actors.feeds.rows import Rows
from storage.schema import BUY, SELL, UNKNOWN_SIDE

# What a step of a layout reads. Texts are printable ASCII without escapes and end before a quote or an @.
_LITERAL: Final = 0
_TEXT: Final = 1
_INTEGER: Final = 2
_FLAG: Final = 3
_SYMBOL: Final = 4
_NUMBER: Final = 5
_MILLISECONDS: Final = 6
_ISO_TIME: Final = 7
_VALUE: Final = 8
_ORDER_ID: Final = 9
_MAKER_SIDE: Final = 10
_TAKER_SIDE: Final = 11
_BUYER_IS_MAKER: Final = 12
_OPTIONAL: Final = 13

#: Placeholders: what they read and into which row of `Rows.values` or `Rows.order_ids`. The first three read nothing.
_PLACEHOLDERS: Final = {
    "text": (_TEXT, 0),
    "integer": (_INTEGER, 0),
    "flag": (_FLAG, 0),
    "symbol": (_SYMBOL, 0),
    "number": (_NUMBER, 0),
    "milliseconds": (_MILLISECONDS, 0),
    "iso_time": (_ISO_TIME, 0),
    "price": (_VALUE, columns.PRICE),
    "size": (_VALUE, columns.SIZE),
    "bid_price": (_VALUE, columns.BID_PRICE),
    "bid_size": (_VALUE, columns.BID_SIZE),
    "ask_price": (_VALUE, columns.ASK_PRICE),
    "ask_size": (_VALUE, columns.ASK_SIZE),
    "last_price": (_VALUE, columns.LAST_PRICE),
    "last_size": (_VALUE, columns.LAST_SIZE),
    "maker": (_ORDER_ID, columns.MAKER),
    "taker": (_ORDER_ID, columns.TAKER),
    "maker_side": (_MAKER_SIDE, 0),
    "taker_side": (_TAKER_SIDE, 0),
    "buyer_is_maker": (_BUYER_IS_MAKER, 0),
}

_TEN_TO: Final = np.array([10.0**exponent for exponent in range(19)])
# Up to here every integer is a float, so a quotient by a power of ten up to 10**22 is the float nearest to the text.
_EXACT: Final = 2**53
_MOST_DIGITS: Final = 18

_NOT_HEX: Final = 255
_HEX: Final = np.full(256, _NOT_HEX, np.uint8)
for _nibble, _digit in enumerate("0123456789abcdef"):
    _HEX[[ord(_digit), ord(_digit.upper())]] = _nibble

_TRUE: Final = np.frombuffer(b"true", np.uint8)
_FALSE: Final = np.frombuffer(b"false", np.uint8)
_BUY: Final = np.frombuffer(b"buy", np.uint8)
_SELL: Final = np.frombuffer(b"sell", np.uint8)


@dataclass(frozen=True)
class Layout:
    """A frame as the exchange writes it, `<placeholder>`s for its values, and the kind of row it gives.

    A part in double square brackets may be missing; it begins with a literal.
    """

    kind: int
    text: str


class KnownLayouts:
    """The layouts of one feed, and the names its frames use for the symbols, in the order of their codes."""

    def __init__(self, layouts: Sequence[Layout], names: Sequence[str]) -> None:
        literals = b""
        steps: list[tuple[int, int, int, int]] = []
        ranges: list[tuple[int, int, int]] = []
        for layout in layouts:
            first = len(steps)
            for part in re.findall(r"<\w+>|\[\[|\]\]|(?:(?!<\w+>|\[\[|\]\]).)+", layout.text):
                if part == "[[":
                    optional = len(steps)
                elif part == "]]":
                    _, where, length, _ = steps[optional]
                    steps[optional] = (_OPTIONAL, where, length, len(steps))
                elif part[0] == "<":
                    steps.append((*_PLACEHOLDERS[part[1:-1]], 0, 0))
                else:
                    steps.append((_LITERAL, len(literals), len(part), 0))
                    literals += part.encode("ascii")
            ranges.append((first, len(steps), layout.kind))
        self._program = (
            np.frombuffer(literals, np.uint8),
            np.array(steps, np.int32).reshape(-1, 4),
            np.array(ranges, np.int32).reshape(-1, 3),
        )
        encoded = [name.encode() for name in names]
        slots = np.full(4 << len(names).bit_length(), columns.UNKNOWN_SYMBOL, np.int32)
        for code, name in enumerate(encoded):
            slot = _hash(np.frombuffer(name, np.uint8), 0, len(name)) % len(slots)
            while slots[slot] != columns.UNKNOWN_SYMBOL:
                slot = (slot + 1) % len(slots)
            slots[slot] = code
        self._names = np.frombuffer(b"".join(encoded), np.uint8), _starts(encoded), slots
        # Compiles, or loads what was compiled, before frames have to wait for it.
        self.read([])

    def read(self, frames: Sequence[bytes]) -> Rows:
        """The rows of all frames that follow a layout; the others are `NOTHING` still."""
        rows = Rows(len(frames))
        text = np.frombuffer(b"".join(frames), np.uint8)
        _read(
            text,
            _starts(frames),
            *self._program,
            *self._names,
            rows.kind,
            rows.code,
            rows.ts_event,
            rows.number,
            rows.side,
            rows.values,
            rows.order_ids,
            rows.order_ids_known,
        )
        return rows


def _starts(texts: Sequence[bytes]) -> columns.Times:
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=starts[1:])
    return starts


@njit(cache=True)
def _read(  # type: ignore[no-untyped-def]
    text, starts, literals, steps, ranges, names, name_starts, slots,
    kind, code, ts_event, number, side, values, order_ids, order_ids_known,
):  # fmt: skip
    for i in range(len(starts) - 1):
        end = starts[i + 1]
        for layout in range(len(ranges)):
            at = starts[i]
            side[i] = UNKNOWN_SIDE
            for row in range(len(values)):
                values[row, i] = np.nan
            step = ranges[layout, 0]
            while step < ranges[layout, 1]:
                what, where, length, skip_to = steps[step]
                step += 1
                if what == _LITERAL:
                    at = _literal(text, at, end, literals, where, length)
                elif what == _OPTIONAL:
                    after = _literal(text, at, end, literals, where, length)
                    if after < 0:
                        step = skip_to
                    else:
                        at = after
                elif what == _TEXT:
                    at = _text(text, at, end)
                elif what == _INTEGER:
                    at, _ = _integer(text, at, end)
                elif what == _FLAG:
                    at, _ = _flag(text, at, end)
                elif what == _SYMBOL:
                    start = at
                    at = _text(text, start, end)
                    if at > 0:
                        code[i] = _code(text, start, at, names, name_starts, slots)
                        if code[i] < 0:
                            at = -1
                elif what == _NUMBER:
                    at, number[i] = _integer(text, at, end)
                elif what == _MILLISECONDS:
                    at, milliseconds = _integer(text, at, end)
                    if milliseconds < 946_684_800_000 or milliseconds >= 7_258_118_400_000:
                        at = -1
                    ts_event[i] = milliseconds * 1_000_000
                elif what == _ISO_TIME:
                    at, ts_event[i] = _iso_time(text, at, end)
                elif what == _VALUE:
                    at, values[where, i] = _value(text, at, end)
                elif what == _ORDER_ID:
                    at = _order_id(text, at, end, order_ids[where, i])
                    order_ids_known[where, i] = True
                elif what == _BUYER_IS_MAKER:
                    at, is_maker = _flag(text, at, end)
                    side[i] = SELL if is_maker else BUY
                else:
                    at, side[i] = _side(text, at, end)
                    if what == _MAKER_SIDE:
                        side[i] = SELL if side[i] == BUY else BUY
                if at < 0:
                    break
            if at == end:
                kind[i] = ranges[layout, 2]
                break


# The readers below give the position after what they read, -1 where it is not there or raises a question.


@njit(cache=True)
def _literal(text, at, end, literals, where, length):  # type: ignore[no-untyped-def]
    if end - at < length:
        return -1
    for k in range(length):
        if text[at + k] != literals[where + k]:
            return -1
    return at + length


@njit(cache=True)
def _text(text, at, end):  # type: ignore[no-untyped-def]
    while at < end:
        character = text[at]
        if character == ord('"') or character == ord("@"):
            return at
        if character < 0x20 or character > 0x7E or character == ord("\\"):
            return -1
        at += 1
    return -1


@njit(cache=True)
def _integer(text, at, end):  # type: ignore[no-untyped-def]
    start = at
    value = 0
    while at < end and ord("0") <= text[at] <= ord("9"):
        value = value * 10 + (text[at] - ord("0"))
        at += 1
    if at == start or at - start > _MOST_DIGITS or (text[start] == ord("0") and at - start > 1):
        return -1, 0
    return at, value


@njit(cache=True)
def _value(text, at, end):  # type: ignore[no-untyped-def]
    start = at
    mantissa = 0
    while at < end and ord("0") <= text[at] <= ord("9"):
        mantissa = mantissa * 10 + (text[at] - ord("0"))
        at += 1
    digits = at - start
    if digits == 0 or (digits > 1 and text[start] == ord("0")):
        return -1, 0.0
    decimals = 0
    if at < end and text[at] == ord("."):
        first = at + 1
        at = first
        while at < end and ord("0") <= text[at] <= ord("9"):
            at += 1
        if at == first:
            return -1, 0.0
        last = at
        while last > first and text[last - 1] == ord("0"):
            last -= 1
        decimals = last - first
        if digits + decimals > _MOST_DIGITS:
            return -1, 0.0
        for k in range(first, last):
            mantissa = mantissa * 10 + (text[k] - ord("0"))
    if digits + decimals > _MOST_DIGITS or mantissa == 0 or mantissa > _EXACT:
        return -1, 0.0
    return at, mantissa / _TEN_TO[decimals]


@njit(cache=True)
def _flag(text, at, end):  # type: ignore[no-untyped-def]
    after = _literal(text, at, end, _TRUE, 0, len(_TRUE))
    if after > 0:
        return after, True
    return _literal(text, at, end, _FALSE, 0, len(_FALSE)), False


@njit(cache=True)
def _side(text, at, end):  # type: ignore[no-untyped-def]
    after = _literal(text, at, end, _BUY, 0, len(_BUY))
    if after > 0:
        return after, BUY
    return _literal(text, at, end, _SELL, 0, len(_SELL)), SELL


@njit(cache=True)
def _digits(text, at, count):  # type: ignore[no-untyped-def]
    value = 0
    for k in range(at, at + count):
        digit = text[k] - ord("0")
        if digit < 0 or digit > 9:
            return -1_000_000
        value = value * 10 + digit
    return value


@njit(cache=True)
def _iso_time(text, at, end):  # type: ignore[no-untyped-def]
    """2021-04-17T16:43:37.089723Z and nothing else."""
    if end - at < 27:
        return -1, 0
    if text[at + 4] != ord("-") or text[at + 7] != ord("-") or text[at + 10] != ord("T"):
        return -1, 0
    if text[at + 13] != ord(":") or text[at + 16] != ord(":") or text[at + 19] != ord("."):
        return -1, 0
    year, month, day = _digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2)
    hour, minute, second = _digits(text, at + 11, 2), _digits(text, at + 14, 2), _digits(text, at + 17, 2)
    microsecond = _digits(text, at + 20, 6)
    if text[at + 26] != ord("Z") or year < 2000 or year > 2199 or month < 1 or month > 12 or day < 1 or day > 31:
        return -1, 0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if (day == 31 and month in (4, 6, 9, 11)) or (month == 2 and day > 28 + leap):
        return -1, 0
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59 or microsecond < 0:
        return -1, 0
    # Days since 1970-01-01 with years that begin in March, so that a leap day is the last of its year.
    if month < 3:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    return at + 27, (seconds * 1_000_000 + microsecond) * 1000


@njit(cache=True)
def _order_id(text, at, end, out):  # type: ignore[no-untyped-def]
    if end - at < 36:
        return -1
    byte = 0
    for length in (8, 4, 4, 4, 12):
        if byte:
            if text[at] != ord("-"):
                return -1
            at += 1
        for _ in range(length // 2):
            high, low = _HEX[text[at]], _HEX[text[at + 1]]
            if high == _NOT_HEX or low == _NOT_HEX:
                return -1
            out[byte] = high << 4 | low
            byte += 1
            at += 2
    return at


@njit(cache=True)
def _hash(text, start, end):  # type: ignore[no-untyped-def]
    value = 2_166_136_261
    for k in range(start, end):
        value = ((value ^ text[k]) * 16_777_619) & 0xFFFFFFFF
    return value


@njit(cache=True)
def _code(text, start, end, names, name_starts, slots):  # type: ignore[no-untyped-def]
    slot = _hash(text, start, end) % len(slots)
    while slots[slot] >= 0:
        code = slots[slot]
        first = name_starts[code]
        length = name_starts[code + 1] - first
        if length == end - start and _literal(text, start, end, names, first, length) == end:
            return code
        slot = (slot + 1) % len(slots)
    return -1
