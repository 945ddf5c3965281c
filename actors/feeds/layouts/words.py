"""Text in memory, read eight bytes at a time: a word has the first byte lowest.

Addresses and words are int64, which wraps around, so that numba never turns a word into a float. Whoever reads here
sees to it that the text goes on for eight bytes.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def byte_at(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], context.get_value_type(types.uint8).as_pointer())
        return builder.zext(builder.load(pointer), context.get_value_type(types.int64))

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def word_at(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], context.get_value_type(types.int64).as_pointer())
        return builder.load(pointer, align=1)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.int64(types.int64), generate


@njit(cache=True)
def address_of(text):  # type: ignore[no-untyped-def]
    return np.int64(text.ctypes.data)


def repeated(byte: int) -> int:
    """The word of eight times the same byte."""
    return byte * 0x0101010101010101 - ((byte >> 7) << 64)


_ONES: Final = repeated(0x01)
_HIGHS: Final = repeated(0x80)
_SPACES: Final = repeated(0x20)
_QUOTES: Final = repeated(ord('"'))
_BACKSLASHES: Final = repeated(ord("\\"))
_ZEROS: Final = repeated(ord("0"))
_AFTER_NINES: Final = repeated(0x80 - ord("9") - 1)

#: Powers of ten that are an int64.
TEN_TO: Final = np.array([10**exponent for exponent in range(19)], np.int64)


# Masks that have the highest bit of a byte set where something holds. Only the lowest bit of a mask counts: what
# stands above it may be wrong.


@njit(cache=True)
def _zero_bytes(word):  # type: ignore[no-untyped-def]
    return (word - _ONES) & ~word & _HIGHS


@njit(cache=True)
def _no_digits(word):  # type: ignore[no-untyped-def]
    return ((word + _AFTER_NINES) | (word - _ZEROS)) & _HIGHS


@njit(cache=True)
def _digits_value(word, count):  # type: ignore[no-untyped-def]
    """What the first one to eight bytes of a word are as digits."""
    word = (word - _ZEROS) << (64 - 8 * count)
    word = word * 10 + (word >> 8)
    return ((word & 0xFF000000FF) * 0xF424000000064 + ((word >> 16) & 0xFF000000FF) * 0x271000000001) >> 32


@njit(cache=True)
def after_digits(at):  # type: ignore[no-untyped-def]
    """The address after all digits that stand here."""
    while True:
        count = _trailing_zeros(_no_digits(word_at(at))) >> 3
        at += count
        if count < 8:
            return at


@njit(cache=True)
def digits(at):  # type: ignore[no-untyped-def]
    """The address after all digits that stand here, and their value: what 64 bits keep of it where there are more
    than 18."""
    word = word_at(at)
    count = _trailing_zeros(_no_digits(word)) >> 3
    if count == 0:
        return at, 0
    value = _digits_value(word, count)
    at += count
    while count == 8:
        word = word_at(at)
        count = _trailing_zeros(_no_digits(word)) >> 3
        if count > 0:
            value = value * TEN_TO[count] + _digits_value(word, count)
            at += count
    return at, value


@njit(cache=True)
def find(at, pattern):  # type: ignore[no-untyped-def]
    """The address of the next byte of which the pattern is eight, or of the next zero byte."""
    while True:
        word = word_at(at)
        found = _zero_bytes(word ^ pattern) | _zero_bytes(word)
        if found:
            return at + (_trailing_zeros(found) >> 3)
        at += 8


@njit(cache=True)
def find_plain(at, pattern):  # type: ignore[no-untyped-def]
    """As `find`, or of the next byte that is not a printable ASCII character or is a quote or a backslash."""
    while True:
        word = word_at(at)
        found = _zero_bytes(word ^ pattern) | _zero_bytes(word ^ _QUOTES) | _zero_bytes(word ^ _BACKSLASHES)
        found |= ((word - _SPACES) & ~word & _HIGHS) | (word & _HIGHS)
        if found:
            return at + (_trailing_zeros(found) >> 3)
        at += 8


@njit(cache=True)
def _first_bytes(word, count):  # type: ignore[no-untyped-def]
    return word & ((1 << 8 * count) - 1)


@njit(cache=True)
def hash_of(at, end):  # type: ignore[no-untyped-def]
    value = end - at
    while at < end:
        word = word_at(at)
        if end - at < 8:
            word = _first_bytes(word, end - at)
        value = (value ^ word) * 0x2545F4914F6CDD1D
        value ^= value >> 32
        at += 8
    return value


@njit(cache=True)
def is_same(at, end, other):  # type: ignore[no-untyped-def]
    while end - at >= 8:
        if word_at(at) != word_at(other):
            return False
        at += 8
        other += 8
    return end == at or _first_bytes(word_at(at) ^ word_at(other), end - at) == 0
