"""Sums are those of exact arithmetic, rounded once, in whatever order and however parts of them were put together."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.exact_sums import LARGEST, STEP, WORDS, Sums, add, add_sum, rounded

#: Without bits below the lowest step.
exact = st.floats(2.0 ** (52 - STEP), LARGEST) | st.just(0.0) | st.integers(0, 2**53).map(lambda n: n * 2.0**-STEP)
anything = st.floats(0.0, allow_infinity=False, allow_nan=False) | st.floats(LARGEST / 4, LARGEST * 4)


def total(numbers: list[float]) -> Sums:
    words = np.zeros(WORDS, np.uint64)
    for number in numbers:
        add(words, 0, number)
    return words


@given(st.lists(exact, max_size=50))
def test_a_sum_reads_as_the_float_nearest_to_the_true_one(numbers: list[float]) -> None:
    assert rounded(total(numbers), 0) == math.fsum(numbers)


@given(st.lists(anything, max_size=50), st.randoms(), st.integers(0, 50))
def test_a_sum_depends_on_neither_order_nor_parts(numbers, random, cut) -> None:
    words = total(numbers)
    random.shuffle(numbers)
    parts, others = total(numbers[:cut]), total(numbers[cut:])
    add_sum(parts, 0, others, 0)
    assert parts.tolist() == words.tolist()


@given(st.lists(anything, max_size=50))
def test_what_is_cut_off_and_what_is_too_large_is_so_for_each_number_by_itself(numbers: list[float]) -> None:
    steps = sum(int(Fraction(min(number, LARGEST)) * 2**STEP) for number in numbers)
    assert sum(int(word) << 64 * place for place, word in enumerate(total(numbers))) == steps


@given(st.lists(st.integers(0, 2**64 - 1), min_size=WORDS, max_size=WORDS))
def test_every_sum_is_rounded_to_the_nearest_and_halves_to_even(words: list[int]) -> None:
    steps = sum(word << 64 * place for place, word in enumerate(words))
    assert rounded(np.array(words, np.uint64), 0) == float(Fraction(steps, 2**STEP))


def test_a_tenth_ten_times_and_a_billion_and_a_billionth() -> None:
    assert rounded(total([0.1] * 10), 0) == 1.0
    assert rounded(total([1e9, 1e-9, 1e-9]), 0) == 1e9 + 2e-9
    assert rounded(total([]), 0) == 0.0
