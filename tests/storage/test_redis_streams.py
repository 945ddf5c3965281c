"""Ids, holes and bounds of streams of batches; nothing of it needs a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.redis_streams import Bounds, Numbering, Place, hole_between

EPOCH = 100


def hole(last: str, found: str, epoch: int = EPOCH) -> int | str | None:
    """How many are missing, "" where none is."""
    between = hole_between("trades", "okx", Place.of(last), Place.of(found), epoch)
    return "" if between is None else between.missing


def test_neighbours_have_no_hole_between_them_and_others_have_one_of_known_size() -> None:
    assert hole("100-1", "100-2") == ""
    assert hole("100-1", "900-5") == 3


def test_who_began_anew_does_not_know_what_was_lost() -> None:
    assert hole("99-1", "100-3") is None
    assert hole("99-1", "100-2") is None, "a new publisher never continues the numbers of another"
    assert hole("200-7", "300-1") is None, "numbers went back: Redis lost everything"


def test_a_batch_keeps_its_id_and_the_first_after_another_publisher_leaves_a_number_out() -> None:
    first = Numbering(None)
    assert [str(first.place(1, 50)), str(first.place(2, 50)), str(first.place(4, 40))] == ["50-1", "50-2", "50-4"]
    assert str(Numbering(Place(60, 4)).place(1, 55)) == "60-6", "ids never go back, whatever the clock does"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), max_size=60),
    st.integers(1, 6),
)
def test_streams_keep_the_newest_within_their_bounds(added: list[tuple[str, int]], most: int) -> None:
    bounds = Bounds(100, most)
    real: dict[str, list[tuple[int, int]]] = {}
    for number, (stream, size) in enumerate(added):
        bounds.add(stream, size)
        real.setdefault(stream, []).append((number, size))
        for cut, length in bounds.lengths().items():
            real[cut] = real[cut][len(real[cut]) - length :]
        bounds.were_cut()
        kept = [entry for entries in real.values() for entry in entries]
        assert sum(size for _, size in kept) == bounds.nbytes <= 100
        assert all(len(entries) <= most for entries in real.values())
        assert (number, size) in kept, "the newest is there"


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Place.of("yesterday")
