"""Which shard has a symbol, how few symbols move when their number changes, and on which disk a shard is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.placement import Placement, decoded, encoded, home, shard_of, spread

SYMBOLS = [("binance", f"S{number}USDT") for number in range(3000)]
names = st.text("ABCXYZ0189-_/:", min_size=1, max_size=20)
series = st.tuples(st.sampled_from(["binance", "kraken", "okx"]), names)
some_series = st.lists(series, max_size=60, unique=True)
numbers = st.sets(st.integers(0, 40), min_size=1, max_size=12).map(lambda found: tuple(sorted(found)))


@given(series, numbers, st.integers(41, 60))
def test_a_further_shard_takes_symbols_and_moves_none_between_the_others(
    one: tuple[str, str], shards: tuple[int, ...], further: int
) -> None:
    before, after = home(*one, shards), home(*one, (*shards, further))
    assert after in (before, further)
    assert home(*one, shards) == before in shards


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (4, 3), (3, 6), (8, 7), (16, 17)])
def test_about_as_many_symbols_move_as_must(before: int, after: int) -> None:
    moved = sum(shard_of(*one, before) != shard_of(*one, after) for one in SYMBOLS)
    must = len(SYMBOLS) * abs(after - before) / max(after, before)
    assert 0.85 * must < moved < 1.15 * must


@pytest.mark.parametrize("shards", [2, 3, 5, 16])
def test_shards_have_about_as_many_symbols_each(shards: int) -> None:
    counts = Counter(shard_of(*one, shards) for one in SYMBOLS)
    assert len(counts) == shards
    assert max(counts.values()) < 1.35 * len(SYMBOLS) / shards


@given(some_series, st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_symbol_is_where_it_was_until_it_has_moved_home(
    known: list[tuple[str, str]], before: int, after: int, chance: object
) -> None:
    old = Placement.first(before)
    placement = old.towards(dict.fromkeys(range(after), ""), known)
    assert placement.version > old.version
    left = [one for symbols in placement.to_move.values() for one in symbols]
    assert all(placement.shard_of(*one) == old.shard_of(*one) for one in known)
    assert set(left) == {one for one in known if shard_of(*one, before) != shard_of(*one, after)}
    while left:
        one = left.pop()
        version, placement = placement.version, placement.moved([one])
        assert placement.version > version
        assert placement.shard_of(*one) == shard_of(*one, after)
        assert all(placement.shard_of(*other) == old.shard_of(*other) for other in left)
        assert decoded(encoded(placement)) == placement
    assert placement.running == tuple(range(after))
    assert set(placement.disks) == set(placement.running)
    assert placement.to_move == {}


@given(some_series, st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_to_change_ones_mind_before_everything_has_moved_loses_no_symbol(
    known: list[tuple[str, str]], counts: list[int]
) -> None:
    placement = Placement.first(counts[0])
    for count in counts[1:]:
        where = {one: placement.shard_of(*one) for one in known}
        placement = placement.towards(dict.fromkeys(range(count), ""), known)
        assert {one: placement.shard_of(*one) for one in known} == where
        assert set(where.values()) <= set(placement.running)
    for symbols in placement.to_move.values():
        placement = placement.moved(symbols)
    assert {one: placement.shard_of(*one) for one in known} == {one: shard_of(*one, counts[-1]) for one in known}


disks = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True)


@given(st.integers(1, 20), disks, st.lists(st.tuples(st.integers(1, 20), disks), max_size=4))
def test_shards_are_spread_evenly_and_stay_with_their_disks(
    first: int, at_first: list[str], later: list[tuple[int, list[str]]]
) -> None:
    placement = Placement.first(first, at_first)
    for count, there in later:
        shards = spread(placement, count, there)
        load = Counter(dict.fromkeys(there, 0) | Counter(shards.values()))
        assert len(shards) == count
        assert set(load) == set(there)
        assert max(load.values()) - min(load.values()) <= 1
        assert all(placement.disks.get(shard, disk) == disk for shard, disk in shards.items()), "none changes its disk"
        stays = [shard for shard in placement.shards if placement.disks[shard] in there]
        had = Counter(placement.disks[shard] for shard in stays)
        must = sum(min(had[disk], count // len(there)) for disk in there)
        assert len(shards.keys() & set(stays)) >= must
        placement = placement.towards(shards, [])
        assert spread(placement, count, there) == shards, "what is even stays as it is"
        assert set(placement.disks) == set(shards)


def test_there_are_no_more_shards_than_there_may_be_and_none_without_a_disk() -> None:
    for count, there in ((0, ["a"]), (257, ["a"]), (2, [])):
        with pytest.raises(ValueError, match="1 to 256 shards"):
            spread(Placement.first(2), count, there)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}'])
def test_what_is_no_placement_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(content)


def test_a_lost_disk_is_remembered_whatever_moves_until_it_has_come_home() -> None:
    lost = Placement.first(2, ["old", "lost"]).without([1])
    assert (lost.shards, lost.away) == ((0,), ("lost",))
    later = lost.towards({0: "old", 2: "new"}, SYMBOLS).moved(SYMBOLS)
    assert decoded(encoded(later)).away == ("lost",)
    home = later.without_away("lost")
    assert (home.away, home.version) == ((), later.version + 1)
