"""Sums of floats that do not depend on the order: integers of 192 bits, rounded to a float once, when they are read.

A sum is three words (uint64, the lowest first, from a place in an array on) that count steps of 2**-112. A number below
2**64 with no bits below that step is added exactly, so a sum reads as the float nearest to the true one, whatever came
first and however parts of it were put together. Smaller bits are cut off, each number's for itself, which depends on no
order either; what is larger counts as 2**64.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WORDS: Final = 3
#: The lowest bit of a sum is worth 2**-STEP.
STEP: Final = 112
#: What is larger counts as this.
LARGEST: Final = 2.0**64

Sums = np.ndarray[Any, np.dtype[np.uint64]]

_MANTISSA: Final = np.uint64((1 << 52) - 1)
_HIDDEN: Final = np.uint64(1 << 52)
#: A number with this exponent field has its lowest bit at the lowest bit of a sum ...
_LOWEST: Final = 1075 - STEP
#: ... and the largest that is added as it is has it so many places higher.
_HIGHEST: Final = np.uint64(1023 + 63 - _LOWEST)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_TOP: Final = np.uint64(63)


@intrinsic
def _bits(typing_context, x):  # type: ignore[no-untyped-def]
    """The bits of a float."""

    def bitcast(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), bitcast


@njit(cache=True, inline="always")
def add(words, at, x):  # type: ignore[no-untyped-def]
    """Add a number, 0.0 or more, to the sum at this place."""
    bits = _bits(x)
    mantissa = (bits & _MANTISSA) | _HIDDEN
    place = np.int64(bits >> np.uint64(52)) - _LOWEST
    if np.uint64(place) > _HIGHEST:
        if place > 0:
            mantissa, place = _HIDDEN, np.int64(_HIGHEST) + 1
        else:
            mantissa = mantissa >> np.uint64(-place) if place > -64 else np.uint64(0)
            place = np.int64(0)
    # Places that have no sign are not looked at for one, and this is the inmost of everything.
    word = np.uint64(at) + np.uint64(place >> 6)
    shift = np.uint64(place & 63)
    low = mantissa << shift
    high = (mantissa >> _ONE) >> (_TOP - shift)
    before = words[word]
    words[word] = before + low
    high += np.uint64(words[word] < before)
    # No number reaches beyond the two lower words, and no sum of them beyond the third.
    before = words[word + _ONE]
    words[word + _ONE] = before + high
    if words[word + _ONE] < before and word == np.uint64(at):
        words[word + _TWO] += _ONE


@njit(cache=True, inline="always")
def add_sum(words, at, others, other):  # type: ignore[no-untyped-def]
    """Add the sum at the place `other` to the one at `at`."""
    carry = np.uint64(0)
    for word in range(WORDS):
        before = words[at + word]
        partly = before + others[other + word]
        words[at + word] = partly + carry
        carry = np.uint64(partly < before) | np.uint64(words[at + word] < partly)


@njit(cache=True)
def rounded(words, at):  # type: ignore[no-untyped-def]
    """The float nearest to a sum; of two as near the even one."""
    top = at + WORDS - 1
    while top > at and words[top] == 0:
        top -= 1
    if words[top] == 0:
        return 0.0
    # The highest 64 bits, the lowest of them set where anything follows: that many round as the whole does.
    highest, free = words[top], np.uint64(0)
    while highest >> _TOP == 0:
        highest <<= _ONE
        free += _ONE
    below = False
    if top > at:
        if free > 0:
            highest |= words[top - 1] >> (np.uint64(64) - free)
        below = (words[top - 1] << free) != 0
        for word in range(at, top - 1):
            below |= words[word] != 0
    if below:
        highest |= _ONE
    return np.float64(highest) * 2.0 ** (64 * (top - at) - np.int64(free) - STEP)
