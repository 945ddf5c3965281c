"""Ranges are a set of ids."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.ranges import Ranges

SPAN = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda span: (span[0], span[0] + span[1]))


@given(st.lists(st.tuples(st.booleans(), SPAN), max_size=60), SPAN)
def test_ranges_are_a_set(steps: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]) -> None:
    ranges, plain = Ranges(), set[int]()
    for adding, (first, last) in steps:
        span = set(range(first, last + 1))
        if adding:
            ranges.add(first, last)
            plain |= span
        else:
            assert ranges.remove(first, last) == len(plain & span)
            plain -= span
        pairs = list(ranges.all())
        assert all(end + 1 < begin for (_, end), (begin, _) in pairwise(pairs)), "they touch"
    wanted = set(range(asked[0], asked[1] + 1))
    there = plain & wanted
    assert ranges.hull(*asked) == ((min(there), max(there)) if there else None)
    assert (ranges.total, ranges.count(*asked)) == (len(plain), len(there))
    assert Ranges(ranges.flat()).flat() == ranges.flat()
    held = ranges.hold(np.array([asked[0]]), np.array([asked[1]]))
    assert held.tolist() == [wanted <= plain]
