"""What a shard knows of the batches of a collector."""

from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.sequences import _MOST_ABSENT, Sequences


@given(st.lists(st.integers(0, 12), max_size=40))
def test_in_whatever_order_they_come_each_is_taken_at_least_once_and_never_again_once_known(sent: list[int]) -> None:
    sequences = Sequences()
    first = sent[0] if sent else 0
    taken: set[int] = set()
    for sequence in sent:
        fresh = sequences.take(1, sequence)
        assert fresh or sequence in taken, "a batch that never came was dropped"
        if sequence >= first:
            assert fresh == (sequence not in taken)
        taken.add(sequence)


def test_a_new_collector_begins_at_nought_and_what_it_leaves_out_is_a_jump() -> None:
    sequences = Sequences()
    assert sequences.take(1, 40), "a shard that was restarted meets any sequence first"
    assert sequences.take(2, 0)
    assert not sequences.take(2, 0)
    assert sequences.take(2, 2)
    assert (sequences.jumps, sequences.repeated) == (1, 1)
    assert sequences.take(1, 41), "of a collector that is gone nobody can tell"
    assert sequences.take(3, 1)
    assert sequences.jumps == 2
    assert sequences.take(3, 0)


def test_a_jump_that_is_too_wide_to_remember_costs_neither_memory_nor_a_batch() -> None:
    sequences = Sequences()
    sequences.take(1, 0)
    assert sequences.take(1, 10**12)
    assert len(sequences._absent) == _MOST_ABSENT
    assert sequences.take(1, 10**12 - 1)
    assert not sequences.take(1, 10**12 - 1)
    for jump in range(3):
        assert sequences.take(1, (2 + jump) * 10**12)
    assert sequences.take(1, 10**12 - 2)
    assert len(sequences._absent) <= _MOST_ABSENT
