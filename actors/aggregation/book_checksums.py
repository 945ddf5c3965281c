"""The checksums by which an exchange proves a book: how its levels are written, and what that text sums to.

Kraken: the 10 best asks, then the 10 best bids, each as price and size without point and leading zeros.
OKX: the 25 best of both sides in turns, bid first, as `price:size` joined by ':'. Bitfinex: the same, the sizes of
asks negative, numbers as JavaScript writes them (1e-7). All are CRC-32 of that text.
https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2, https://docs.bitfinex.com/docs/ws-websocket-checksum

A CRC is linear: that of two texts one after the other follows from those of the two and the length of the second.
So every level keeps the CRC and the length of its own text, made once when it is set, and a checksum over 20 or 50
levels takes four look-ups for each instead of writing and summing hundreds of characters.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

#: Of `actors.feeds.feed.Checksum`, as numbers for the kernels.
NO_CHECKSUM_RULE: Final = 0
KRAKEN: Final = 1
OKX: Final = 2
BITFINEX: Final = 3

#: What a comparison gives. A number of which the text is not known for certain makes a checksum unknown.
DIFFERS: Final = 0
MATCHES: Final = 1
UNKNOWN: Final = 2

#: No text of a level is longer: two numbers of up to 26 characters, a sign and two colons.
TEXT_ROOM: Final = 64
#: Powers of ten up to here are floats without error, so a quotient by one is the float nearest to the decimal text.
_MOST_DECIMALS: Final = 22
#: Below this, a float and a count of decimals name one text only.
_EXACT: Final = 2.0**52

_START: Final = 0xFFFFFFFF
_COLON: Final = 58
_MINUS: Final = 45
_POINT: Final = 46
_ZERO: Final = 48
_SMALL_E: Final = 101

_KRAKEN_LEVELS: Final = 10
_OTHER_LEVELS: Final = 25


class Tables(NamedTuple):
    """`byte` is the CRC-32 table. `shift[n, k, b]` is what byte `k` (0 lowest) of a state, being `b`, becomes after
    `n` zero bytes. `power` holds the powers of ten."""

    byte: npt.NDArray[np.uint32]
    shift: npt.NDArray[np.uint32]
    power: npt.NDArray[np.float64]


def _make_tables() -> Tables:
    byte: npt.NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = np.where(byte & 1, (byte >> 1) ^ np.uint32(0xEDB88320), byte >> 1).astype(np.uint32)
    shift = np.empty((TEXT_ROOM + 1, 4, 256), np.uint32)
    for place in range(4):
        shift[0, place] = np.arange(256, dtype=np.uint32) << np.uint32(8 * place)
    for length in range(TEXT_ROOM):
        shift[length + 1] = byte[shift[length] & 255] ^ (shift[length] >> np.uint32(8))
    return Tables(byte, shift, np.array([float(10**exponent) for exponent in range(_MOST_DECIMALS + 1)]))


TABLES: Final = _make_tables()


@njit(cache=True)
def crc_of_level(rule, side, price, price_decimals, size, size_decimals, text, byte, power):  # type: ignore[no-untyped-def]
    """The remainder of a level's text alone (without the ones CRC-32 begins and ends with), and its length, which is 0
    when the text is not known for certain. `text` is room to write it.

    Levels of OKX and Bitfinex end in the ':' that joins them to the next.
    """
    length = _write(rule, price, price_decimals, text, 0, power)
    if length < 0:
        return 0, 0
    if rule != KRAKEN:
        text[length] = _COLON
        length += 1
        if rule == BITFINEX and side == 1:
            text[length] = _MINUS
            length += 1
    length = _write(rule, size, size_decimals, text, length, power)
    if length < 0:
        return 0, 0
    if rule != KRAKEN:
        text[length] = _COLON
        length += 1
    state = np.int64(0)
    for at in range(length):
        state = np.int64(byte[(state ^ text[at]) & 255]) ^ (state >> 8)
    return state, length


@njit(cache=True)
def verify(rule, expected, crc, length, bids, asks, byte, shift):  # type: ignore[no-untyped-def]
    """Compare `expected` (unsigned) with the book whose sides end, best last, at `(first, end)` of `crc`, `length`."""
    state = _START
    if rule == KRAKEN:
        for first, end in (asks, bids):
            for at in range(end - 1, max(first, end - _KRAKEN_LEVELS) - 1, -1):
                if length[at] == 0:
                    return UNKNOWN
                state = _shifted(state, length[at], shift) ^ np.int64(crc[at])
        return MATCHES if state ^ _START == expected else DIFFERS
    for place in range(1, _OTHER_LEVELS + 1):
        for first, end in (bids, asks):
            if end - place >= first:
                if length[end - place] == 0:
                    return UNKNOWN
                state = _shifted(state, length[end - place], shift) ^ np.int64(crc[end - place])
    if state == _START:
        return MATCHES if expected == 0 else DIFFERS
    # Our last level ends in a ':' that the exchange's text has not: carry its checksum over one, too.
    carried = expected ^ _START
    carried = np.int64(byte[(carried ^ _COLON) & 255]) ^ (carried >> 8)
    return MATCHES if state == carried else DIFFERS


@njit(cache=True)
def _shifted(state, length, shift):  # type: ignore[no-untyped-def]
    return (
        np.int64(shift[length, 0, state & 255])
        ^ np.int64(shift[length, 1, (state >> 8) & 255])
        ^ np.int64(shift[length, 2, (state >> 16) & 255])
        ^ np.int64(shift[length, 3, state >> 24])
    )


@njit(cache=True)
def _write(rule, value, decimals, text, at, power):  # type: ignore[no-untyped-def]
    """Write a number at `at`; gives the end, -1 when its text is not known for certain."""
    if decimals >= 0:
        digits = _digits(value, decimals, power) if decimals <= _MOST_DECIMALS else -1
        if digits < 0:
            return -1
        count = _count(digits)
        if rule == KRAKEN:
            return _write_digits(text, at, digits, count, 0)
        return _write_digits(text, at, digits, max(count, decimals + 1), decimals)
    if rule != BITFINEX:
        return -1
    # Bitfinex writes with an exponent what JavaScript would: the fewest digits that give the value back.
    for shortest in range(_MOST_DECIMALS + 1):
        digits = _digits(value, shortest, power)
        if digits < 0:
            continue
        count = _count(digits)
        if shortest == 0 or count - shortest > -6:
            return _write_digits(text, at, digits, max(count, shortest + 1), shortest)
        exponent = shortest - count + 1
        end = _write_digits(text, at, digits, count, count - 1)
        text[end] = _SMALL_E
        text[end + 1] = _MINUS
        return _write_digits(text, end + 2, exponent, _count(exponent), 0)
    return -1


@njit(cache=True)
def _digits(value, decimals, power):  # type: ignore[no-untyped-def]
    """The integer a value is without its point, written with `decimals` digits behind it; -1 where it is none."""
    digits = np.rint(value * power[decimals])
    return np.int64(digits) if 0.0 <= digits < _EXACT and digits / power[decimals] == value else -1


@njit(cache=True)
def _count(digits):  # type: ignore[no-untyped-def]
    count = 1
    while digits >= 10:
        digits //= 10
        count += 1
    return count


@njit(cache=True)
def _write_digits(text, at, digits, count, decimals):  # type: ignore[no-untyped-def]
    """Write `count` digits, `decimals` of them behind a point; gives the end."""
    end = place = at + count + (1 if decimals > 0 else 0)
    for written in range(count):
        if written == decimals and decimals > 0:
            place -= 1
            text[place] = _POINT
        place -= 1
        text[place] = _ZERO + digits % 10
        digits //= 10
    return end
