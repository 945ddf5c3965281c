"""What is told of a number: by whom, of when, and for how long it is good; on a clock of the test."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.overview.knowledge import Knowledge, Known, Source
from actors.overview.question import Heard

PRICE, CHANGE = "btc_price_usd", "btc_change_24h"
SECOND = 10**9
START = 1_732_268_400 * SECOND


class World:
    """Three sources of a price, and one of them of its change too."""

    def __init__(self) -> None:
        sources = [
            Source("own", "own", (PRICE, CHANGE), 15),
            Source("second", "binance", (PRICE, CHANGE), 26),
            Source("third", "coingecko", (PRICE,), 76),
        ]
        stale = dict.fromkeys(("market", "fear_greed", "rsi", "indices"), 100.0)
        self.knowledge = Knowledge(sources, {**stale, "prices": 60.0})
        self.now = 0.0

    @property
    def clock_ns(self) -> int:
        return START + int(self.now * SECOND)

    def hear(self, source: str, price: float | None, age_s: float | None = 0, **more: float) -> dict[str, str]:
        as_of = None if age_s is None else self.clock_ns - int(age_s * SECOND)
        said = {PRICE: price, **more}
        readings = {name: Heard(value, as_of) for name, value in said.items() if value is not None}
        return self.knowledge.hear(source, readings, self.now, self.clock_ns)

    def known(self, name: str = PRICE) -> Known | None:
        return self.knowledge.known(name, self.now, self.clock_ns)

    def price(self) -> tuple[Any, str, bool]:
        known = self.known()
        assert known is not None
        return known.value, known.source, known.stale

    def wanted(self) -> list[str]:
        return [name for name in ("own", "second", "third") if self.knowledge.wants(name, self.now)]


def test_nobody_knows_anything_at_first_and_only_the_best_is_asked() -> None:
    world = World()
    assert world.known() is None
    assert world.wanted() == ["own"]


def test_the_next_one_is_asked_when_the_one_before_has_it_not() -> None:
    world = World()
    world.knowledge.missed("own")
    assert world.wanted() == ["own", "second"]
    world.knowledge.missed("second")
    assert world.wanted() == ["own", "second", "third"]
    world.hear("second", 100.0)
    assert world.wanted() == ["own", "second"]
    world.hear("own", 101.0)
    # The change is known to nobody else.
    assert world.wanted() == ["own", "second"]
    world.hear("own", 101.0, btc_change_24h=1.0)
    assert world.wanted() == ["own"]
    assert world.price() == (101.0, "own", False)


def test_who_cannot_be_asked_keeps_nobody_waiting_and_loses_nothing() -> None:
    world = World()
    world.knowledge.missed("own")
    world.hear("second", 101.0)
    world.knowledge.passed_over("second")
    assert world.wanted() == ["own", "second"]
    assert world.price() == (101.0, "binance", False)
    world = World()
    world.knowledge.missed("own")
    world.knowledge.passed_over("second")
    assert world.wanted() == ["own", "second", "third"]


def test_a_better_source_that_falls_silent_gives_way_and_comes_back() -> None:
    world = World()
    world.hear("own", 100.0)
    world.hear("second", 101.0)
    assert world.price() == (100.0, "own", False)
    world.now = 16
    assert world.price() == (101.0, "binance", False)
    world.hear("own", 102.0)
    assert world.price() == (102.0, "own", False)
    world.knowledge.missed("own")
    assert world.price() == (101.0, "binance", False)


def test_the_last_value_stays_says_of_when_it_is_and_becomes_stale() -> None:
    world = World()
    world.hear("second", 101.0)
    world.knowledge.missed("second")
    world.now = 60
    assert world.known() == Known(101.0, "binance", START, False)
    world.now = 61
    assert world.known() == Known(101.0, "binance", START, True)
    world.now = 86400
    assert world.known() == Known(101.0, "binance", START, True)


@pytest.mark.parametrize(("price", "age_s", "why"), [(0.0, 0, "out of bounds"), (100.0, 200, "too old")])
def test_what_cannot_be_is_no_answer_and_the_next_one_is_asked(price: float, age_s: float, why: str) -> None:
    world = World()
    world.hear("own", 100.0, btc_change_24h=1.0)
    assert world.hear("own", price, age_s, btc_change_24h=1.0)[PRICE] == why
    assert world.wanted() == ["own", "second"]
    assert world.price() == (100.0, "own", False)


def test_a_jump_is_believed_when_it_is_said_twice() -> None:
    world = World()
    world.hear("own", 100.0)
    assert world.hear("own", 150.0) == {PRICE: "a jump, until it is said again"}
    assert world.knowledge.doubts("own")
    assert world.price() == (100.0, "own", False)
    world.now = 5
    assert world.hear("own", 151.0) == {}
    assert not world.knowledge.doubts("own")
    assert world.price() == (151.0, "own", False)


def test_the_same_reading_handed_out_again_confirms_nothing() -> None:
    world = World()
    world.hear("third", 100.0)
    as_of = world.clock_ns
    for _ in range(3):
        world.now += 5
        readings = {PRICE: Heard(150.0, as_of)}
        assert world.knowledge.hear("third", readings, world.now, world.clock_ns)
    # Another one says the same.
    assert world.hear("second", 149.0) == {}
    assert world.price() == (149.0, "binance", False)


def test_a_single_wrong_reading_leaves_no_trace() -> None:
    world = World()
    world.hear("own", 100.0)
    world.hear("own", 1000.0)
    world.hear("own", 101.0)
    assert world.price() == (101.0, "own", False)
    # What was wrong before does not make it right now.
    assert world.hear("own", 1000.0)


def test_what_was_told_before_a_restart_is_known_but_stale_until_it_is_said_again() -> None:
    world = World()
    world.knowledge.restore(PRICE, Known(100.0, "own:binance", START - 30 * SECOND, False), 0.0)
    assert world.known() == Known(100.0, "own:binance", START - 30 * SECOND, True)
    assert world.wanted() == ["own"]
    world.hear("own", 101.0)
    assert world.price() == (101.0, "own", False)
    world.knowledge.restore(PRICE, Known(90.0, "own:binance", START - 30 * SECOND, False), 0.0)
    world.knowledge.restore("no_such_field", Known(90.0, "x", START, False), 0.0)
    world.knowledge.restore(CHANGE, Known(float("nan"), "x", START, False), 0.0)
    assert world.price() == (101.0, "own", False)
    assert world.known(CHANGE) is None


_SAID = st.one_of(st.none(), st.floats(0, 300), st.sampled_from([0.0, float("nan"), 1e12]))


@given(st.lists(st.tuples(st.sampled_from(["own", "second", "third"]), _SAID, st.floats(0, 90)), max_size=40))
def test_whatever_is_said_a_price_is_one_that_was_said_and_never_zero(said: list[Any]) -> None:
    world = World()
    given_prices = set()
    for source, price, wait_s in said:
        world.now += wait_s
        if price is None:
            world.knowledge.missed(source)
        else:
            given_prices.add(price)
            world.hear(source, price)
        known = world.known()
        assert known is None or (known.value in given_prices and known.value > 0)
        assert known is None or known.as_of <= world.clock_ns
        assert "own" in world.wanted()
