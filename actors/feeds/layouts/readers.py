"""The values of layouts, read from joined frames.

A reader gives the address after what it read, 0 where it is not there or raises a question, and what it read. Frames
end with a zero byte, which no reader passes over, so none leaves its frame.
"""

from typing import Final

import numpy as np
from numba import njit

from actors.feeds.layouts.words import TEN_TO, after_digits, byte_at, digits, find_plain, repeated, word_at

# How a frame says that there is no number.
ALWAYS_THERE: Final = 0
MAYBE_EMPTY: Final = 1
MAYBE_NULL: Final = 2

_EARLIEST: Final = 946_684_800_000_000_000
_LATEST: Final = 4_102_444_800_000_000_000

_FLOAT_TEN_TO: Final = np.array([10.0**exponent for exponent in range(23)])
# Up to here every integer is a float, so its product or quotient with a power of ten up to 10**22 is the float
# nearest to the text.
_EXACT: Final = 2**53
_MOST_DIGITS: Final = 18

_NOT_HEX: Final = 255
_HEX: Final = np.full(256, _NOT_HEX, np.int64)
for _nibble, _digit in enumerate("0123456789abcdef"):
    _HEX[[ord(_digit), ord(_digit.upper())]] = _nibble

_QUOTES: Final = repeated(ord('"'))
_NULL: Final = int.from_bytes(b"null", "little")
_TRUE: Final = int.from_bytes(b"true", "little")
_FALS: Final = int.from_bytes(b"fals", "little")


@njit(cache=True)
def plain_text(at, pattern):  # type: ignore[no-untyped-def]
    """Printable ASCII without quotes and escapes up to the byte of which the pattern is eight."""
    at = find_plain(at, pattern)
    return at if byte_at(at) == pattern & 0xFF else 0


@njit(cache=True)
def any_value(at):  # type: ignore[no-untyped-def]
    """A JSON number, null, true, false, or a text without escapes."""
    start = at + (byte_at(at) == ord("-"))
    at_end = after_digits(start)
    if at_end > start:
        if byte_at(start) == ord("0") and at_end - start > 1:
            return 0
        if byte_at(at_end) == ord("."):
            start = at_end + 1
            at_end = after_digits(start)
            if at_end == start:
                return 0
        # Numbers with an exponent may be out of range, which is the other decoder's to say.
        return 0 if byte_at(at_end) | 0x20 == ord("e") else at_end
    if byte_at(at) == ord('"'):
        at = plain_text(at + 1, _QUOTES)
        return at + 1 if at else 0
    word = word_at(at) & 0xFFFFFFFF
    if word in (_NULL, _TRUE):
        return at + 4
    return at + 5 if word == _FALS and byte_at(at + 4) == ord("e") else 0


@njit(cache=True)
def integer(at):  # type: ignore[no-untyped-def]
    """An integer from 0 to 2**63 - 1."""
    start = at
    at, value = digits(at)
    # What 19 digits make fits 64 bits, and what does not fit 63 of them looks negative.
    if at == start or at - start > 19 or value < 0 or (byte_at(start) == ord("0") and at - start > 1):
        return 0, 0
    return at, value


@njit(cache=True)
def checksum(at):  # type: ignore[no-untyped-def]
    """32 bits, signed or not, as an unsigned number."""
    negative = byte_at(at) == ord("-")
    at, value = integer(at + negative)
    if value >= 2**32 or (negative and (value == 0 or value > 2**31)):
        return 0, 0
    return at, (-value if negative else value) & 0xFFFFFFFF


@njit(cache=True)
def number(at, absent):  # type: ignore[no-untyped-def]
    """The float nearest to a decimal number, and how many digits follow its point (-1 with an exponent)."""
    negative = byte_at(at) == ord("-")
    start = at + negative
    at, mantissa = digits(start)
    whole = at - start
    if whole == 0:
        if absent == MAYBE_EMPTY and byte_at(at) == ord('"') and not negative:
            return at, np.nan, -1
        if absent == MAYBE_NULL and word_at(at) & 0xFFFFFFFF == _NULL and not negative:
            return at + 4, np.nan, -1
        return 0, 0.0, -1
    if whole > 1 and byte_at(start) == ord("0"):
        return 0, 0.0, -1
    decimals = 0
    if byte_at(at) == ord("."):
        first = at + 1
        at, fraction = digits(first)
        decimals = at - first
        if decimals == 0:
            return 0, 0.0, -1
        if decimals <= _MOST_DIGITS:
            mantissa = mantissa * TEN_TO[decimals] + fraction
    scale = decimals
    if whole + decimals > _MOST_DIGITS or mantissa > _EXACT:
        mantissa, scale = _without_last_zeros(start, whole, decimals)
        if mantissa > _EXACT:
            return 0, 0.0, -1
    if byte_at(at) | 0x20 == ord("e"):
        at, scale = _exponent(at + 1, scale)
        if at == 0:
            return 0, 0.0, -1
        decimals = -1
    value = mantissa / _FLOAT_TEN_TO[scale] if scale >= 0 else mantissa * _FLOAT_TEN_TO[-scale]
    return at, -value if negative else value, decimals


@njit(cache=True)
def _without_last_zeros(start, whole, decimals):  # type: ignore[no-untyped-def]
    """The digits that count, as a number that is too large where they are too many, and how many follow the point.

    Some exchanges fill up with zeros."""
    # No int8 holds more decimals than this.
    if whole > _MOST_DIGITS or decimals > 100:
        return _EXACT + 1, 0
    scale = decimals
    while scale and byte_at(start + whole + scale) == ord("0"):
        scale -= 1
    if whole + scale > _MOST_DIGITS:
        return _EXACT + 1, 0
    _, mantissa = digits(start)
    for k in range(start + whole + 1, start + whole + 1 + scale):
        mantissa = mantissa * 10 + (byte_at(k) - ord("0"))
    return mantissa, scale


@njit(cache=True)
def _exponent(at, scale):  # type: ignore[no-untyped-def]
    """The scale with the exponent that stands here."""
    lower = byte_at(at) == ord("-")
    start = at + (lower or byte_at(at) == ord("+"))
    at, exponent = digits(start)
    if at == start or at - start > 3:
        return 0, 0
    scale += exponent if lower else -exponent
    return (at, scale) if -22 <= scale <= 22 else (0, 0)


@njit(cache=True)
def time_of(at, nanoseconds):  # type: ignore[no-untyped-def]
    """An integer of that many nanoseconds each, between 2000 and 2100."""
    at, value = integer(at)
    if not _EARLIEST <= np.float64(value) * nanoseconds < _LATEST:
        return 0, 0
    return at, value * nanoseconds


@njit(cache=True)
def seconds_time(at):  # type: ignore[no-untyped-def]
    """1618678133.365913: nine or ten digits and up to nine after the point."""
    start = at
    at, value = digits(at)
    if at - start < 9 or at - start > 10 or byte_at(at) != ord("."):
        return 0, 0
    start = at + 1
    at, fraction = digits(start)
    if at == start or at - start > 9:
        return 0, 0
    value = value * 1_000_000_000 + fraction * TEN_TO[9 - (at - start)]
    return (at, value) if _EARLIEST <= value < _LATEST else (0, 0)


@njit(cache=True)
def _two_digits(at):  # type: ignore[no-untyped-def]
    """-100 where they are none."""
    high, low = byte_at(at) - ord("0"), byte_at(at + 1) - ord("0")
    return high * 10 + low if 0 <= high <= 9 and 0 <= low <= 9 else -100


@njit(cache=True)
def iso_time(at):  # type: ignore[no-untyped-def]
    """2021-04-17T16:43:37.089723Z, with up to nine digits after the point, or without it."""
    if byte_at(at + 4) != ord("-") or byte_at(at + 7) != ord("-") or byte_at(at + 10) != ord("T"):
        return 0, 0
    if byte_at(at + 13) != ord(":") or byte_at(at + 16) != ord(":"):
        return 0, 0
    century, year, month, day = _two_digits(at), _two_digits(at + 2), _two_digits(at + 5), _two_digits(at + 8)
    hour, minute, second = _two_digits(at + 11), _two_digits(at + 14), _two_digits(at + 17)
    if century != 20 or year < 0 or month < 1 or month > 12 or day < 1 or day > 31:
        return 0, 0
    year += century * 100
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > 28 and ((day == 31 and month in (4, 6, 9, 11)) or (month == 2 and day > 28 + leap)):
        return 0, 0
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return 0, 0
    # Days since 1970-01-01 with years that begin in March, so that a leap day is the last of its year.
    if month < 3:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469
    value = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000
    at += 19
    if byte_at(at) == ord("."):
        start = at + 1
        at, fraction = digits(start)
        if at == start or at - start > 9:
            return 0, 0
        value += fraction * TEN_TO[9 - (at - start)]
    return (at + 1, value) if byte_at(at) == ord("Z") else (0, 0)


@njit(cache=True)
def uuid(at):  # type: ignore[no-untyped-def]
    """2a0da34e-61f7-4c36-88e5-c9dd15927b16 as two words."""
    first = second = digit = 0
    for place in range(36):
        if place in (8, 13, 18, 23):
            if byte_at(at + place) != ord("-"):
                return 0, 0, 0
            continue
        nibble = _HEX[byte_at(at + place)]
        if nibble == _NOT_HEX:
            return 0, 0, 0
        # The digit that stands first is the upper half of its byte.
        shift = 4 * ((digit ^ 1) & 15)
        if digit < 16:
            first |= nibble << shift
        else:
            second |= nibble << shift
        digit += 1
    return at + 36, first, second


@njit(cache=True)
def first_bits(word):  # type: ignore[no-untyped-def]
    """The first 63 bits of a word's bytes as a number."""
    value = 0
    for k in range(0, 64, 8):
        value = value << 8 | (word >> k & 0xFF)
    return value >> 1 & 0x7FFFFFFFFFFFFFFF
