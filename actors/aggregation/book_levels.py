"""A side of a book: compiled changes of its price levels.

It is a run of levels in one pool shared by all sides, worst first and best last, inside a region with room at both
ends: a change near the best price moves few levels, cutting the worst ones moves none. Prices are kept as keys that
rise towards the best: those of bids as they are, those of asks negative.
"""

from typing import Final

import numpy as np
from numba import njit

from actors.aggregation.book_checksums import NO_CHECKSUM_RULE, crc_of_level

#: What became of a level.
SET: Final = 0
NOT_THERE: Final = 1
NO_FREE_PLACE: Final = 2


@njit(cache=True)
def is_crossed(bids, asks, key):  # type: ignore[no-untyped-def]
    if bids.count == 0 or asks.count == 0:
        return False
    return key[bids.first + bids.count - 1] >= -key[asks.first + asks.count - 1]


@njit(cache=True)
def cut(side, depth):  # type: ignore[no-untyped-def]
    if side.count > depth:
        side.first += side.count - depth
        side.count = depth


@njit(cache=True)
def set_level(keys, sizes, crcs, lengths, side, key, size, crc, length):  # type: ignore[no-untyped-def]
    """Set a level, or remove it where `size` is 0; gives `SET`, `NOT_THERE` to be removed, or `NO_FREE_PLACE`."""
    place = _find(keys, side, key)
    known = place < side.first + side.count and keys[place] == key
    if size == 0.0:
        if not known:
            return NOT_THERE
        _close(keys, sizes, crcs, lengths, side, place)
        return SET
    if not known:
        place = _open(keys, sizes, crcs, lengths, side, place)
        if place < 0:
            return NO_FREE_PLACE
        keys[place] = key
    sizes[place] = size
    if len(crcs) > 0:
        crcs[place], lengths[place] = crc, length
    return SET


@njit(cache=True)
def _find(keys, side, key):  # type: ignore[no-untyped-def]
    """The first place of the side whose key is not below `key`; the end where there is none."""
    # Most changes are near the best price: look back from there in doubling steps, then halve the last one.
    high = side.first + side.count
    low, step = high - 1, 1
    while low >= side.first and keys[low] >= key:
        high = low
        low -= step
        step *= 2
    low = max(low, side.first - 1) + 1
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _open(keys, sizes, crcs, lengths, side, place):  # type: ignore[no-untyped-def]
    """Make a free place before `place`; gives it, or -1 when the region is too small."""
    better = side.first + side.count - place
    towards_best = 2 * better <= side.count
    free = side.capacity - side.count
    at_edge = side.first + side.count == side.start + side.capacity if towards_best else side.first == side.start
    if at_edge:
        # Moving the whole run must pay for many levels to come.
        if 16 * free <= side.count:
            return -1
        first = side.start + (free // 2 if towards_best else free - free // 2)
        _move(keys, sizes, crcs, lengths, side.first, first, side.count)
        place += first - side.first
        side.first = first
    if towards_best:
        _move(keys, sizes, crcs, lengths, place, place + 1, better)
    else:
        _move(keys, sizes, crcs, lengths, side.first, side.first - 1, side.count - better)
        side.first -= 1
        place -= 1
    side.count += 1
    return place


@njit(cache=True)
def _close(keys, sizes, crcs, lengths, side, place):  # type: ignore[no-untyped-def]
    better = side.first + side.count - place - 1
    if 2 * better <= side.count:
        _move(keys, sizes, crcs, lengths, place + 1, place, better)
    else:
        _move(keys, sizes, crcs, lengths, side.first, side.first + 1, place - side.first)
        side.first += 1
    side.count -= 1


@njit(cache=True)
def _move(keys, sizes, crcs, lengths, source, target, count):  # type: ignore[no-untyped-def]
    _move_run(keys, source, target, count)
    _move_run(sizes, source, target, count)
    if len(crcs) > 0:
        _move_run(crcs, source, target, count)
        _move_run(lengths, source, target, count)


@njit(cache=True)
def _move_run(values, source, target, count):  # type: ignore[no-untyped-def]
    """Move `count` values within an array; the two places may overlap."""
    if target > source:
        for i in range(count - 1, -1, -1):
            values[target + i] = values[source + i]
    else:
        for i in range(count):
            values[target + i] = values[source + i]


@njit(cache=True)
def load_side(messages, begin, end, number, levels, side, rule, text, tables):  # type: ignore[no-untyped-def]
    """Replace a side by the levels of a snapshot, which come in any order; the last of several for a price counts."""
    order = np.empty(side.capacity, np.int64)
    count = 0
    rises = falls = True
    before = 0.0
    for j in range(begin, end):
        if messages.side[j] == number and messages.size[j] > 0.0:
            key = messages.price[j] if number == 0 else -messages.price[j]
            rises = rises and (count == 0 or key > before)
            falls = falls and (count == 0 or key < before)
            before = key
            order[count] = j
            count += 1
    order = order[:count]
    if falls:
        order = order[::-1].copy()
    elif not rises:
        prices = messages.price[order]
        order = order[np.argsort(prices if number == 0 else -prices, kind="mergesort")]
    side.first = side.start + (side.capacity - count) // 2
    place = side.first - 1
    for j in order:
        key = messages.price[j] if number == 0 else -messages.price[j]
        if place < side.first or levels.key[place] != key:
            place += 1
        levels.key[place], levels.size[place] = key, messages.size[j]
        if rule != NO_CHECKSUM_RULE:
            crc, length = crc_of_level(
                rule,
                number,
                messages.price[j],
                messages.price_decimals[j],
                messages.size[j],
                messages.size_decimals[j],
                text,
                tables.byte,
                tables.power,
            )
            levels.crc[place], levels.length[place] = crc, length
    side.count = place + 1 - side.first
