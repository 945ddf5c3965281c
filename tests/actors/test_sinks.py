"""Where a shard's rows go: everybody gets what they want of them, and an alerter that is dead or slow keeps nobody
waiting.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
import pytest

from actors import sinks as module
from actors.offers import MOST, Offers, WantedOffers
from actors.parcels import Key, Parcel, unpacked
from actors.sinks import Sinks
from storage.clickhouse_tables import TABLES
from tests.polling import until


class Method:
    """One that can be called from elsewhere, as Ray's are."""

    def __init__(self, called: Callable[..., Awaitable[None]]) -> None:
        self.remote = called


class Actor:
    """Notes how it is called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Method:
        async def called(*arguments: Any) -> None:
            self.calls.append((name, *arguments))

        return Method(called)


class Alerter:
    """Takes tables while `well` is set, and says what it wants once that is known; `dead`: calls fail."""

    def __init__(self, wanted: frozenset[tuple[str, str]] | None = None) -> None:
        self.taken: list[Any] = []
        self.missed = 0
        self.wanted = wanted
        self.well = asyncio.Event()
        self.dead = False
        self.take = Method(self._take)
        self.wants = Method(self._wants)

    async def _wants(self, known: frozenset[tuple[str, str]] | None) -> Any:
        if self.dead:
            raise RuntimeError("the actor died")
        await until(lambda: self.wanted != known, within_s=60)
        return self.wanted

    async def _take(self, parcel: Parcel, missed: int) -> None:
        if self.dead:
            raise RuntimeError("the actor died")
        await self.well.wait()
        self.taken.append(said(parcel))
        self.missed += missed


def tables(*keys: Key, number: int = 0) -> dict[Key, pa.Table]:
    """Each with its place and a number in it."""
    return {key: pa.table({"place": [place], "number": [number]}) for place, key in enumerate(keys)}


def said(parcel: Parcel) -> list[tuple[str, str, int]]:
    """Kind, exchange and number of its tables."""
    found = [(kind, exchange, *table.to_pylist()) for kind, exchange, table in unpacked(parcel, lambda _: True)]
    assert [row["place"] for _, _, row in found] == list(range(len(found)))
    return [(kind, exchange, row["number"]) for kind, exchange, row in found]


def sinks_of(database: Any, publisher: Any, *offers: Offers) -> Sinks:
    return Sinks(lambda parcel: parcel, database, publisher, *offers)


@pytest.fixture
def database() -> Actor:
    return Actor()


@pytest.fixture
def publisher() -> Actor:
    return Actor()


KINDS = ("trades", "quotes", "bars", "indicators", "features", "derivatives", "liquidations", "gaps", "quality")


async def test_one_parcel_with_everything_reaches_everybody(database: Actor, publisher: Actor) -> None:
    alerter, watch = Alerter(), Alerter()
    alerter.well.set()
    watch.well.set()
    every = tables(*((kind, exchange) for kind in KINDS for exchange in ("okx", "kraken")), number=7)
    await sinks_of(database, publisher, Offers(watch, kinds={"quotes"}), WantedOffers(alerter))(every)
    expected = [(kind, exchange, 7) for kind, exchange in every]
    assert [[said(parcel) for _, parcel in one.calls] for one in (database, publisher)] == [[expected], [expected]]
    assert (alerter.taken, watch.taken) == ([expected], [expected])


async def test_nobody_is_called_for_what_they_do_not_want(database: Actor, publisher: Actor) -> None:
    alerter, watch = Alerter(frozenset({("bars", "okx")})), Alerter()
    alerter.well.set()
    watch.well.set()
    offers = WantedOffers(alerter)
    stored = TABLES.keys() - {"quotes"}
    sinks = Sinks(lambda parcel: parcel, database, publisher, Offers(watch, kinds={"quotes"}), offers, stored=stored)
    await sinks(tables(("gaps", "okx")))
    await until(lambda: offers._wanted is not None)
    for one in (database.calls, alerter.taken):
        one.clear()
    for kind in KINDS:
        await sinks(tables((kind, "okx")))
        await sinks(tables((kind, "kraken")))
    twice = [[(kind, exchange, 0)] for kind in KINDS for exchange in ("okx", "kraken")]
    assert [said(parcel) for _, parcel in database.calls] == [one for one in twice if one[0][0] != "quotes"]
    assert [said(parcel) for _, parcel in publisher.calls] == twice[:10]
    assert alerter.taken == [[("bars", "okx", 0)]]
    assert watch.taken == [[("quotes", "okx", 0)], [("quotes", "kraken", 0)]]
    with pytest.raises(ValueError, match="no sink for 'pictures'"):
        await sinks(tables(("trades", "okx"), ("pictures", "okx")))
    assert len(database.calls) == 16, "nothing of it was sent"


async def test_an_alerter_gets_what_it_looks_at_as_soon_as_it_does(database: Actor, publisher: Actor) -> None:
    alerter = Alerter()
    alerter.well.set()
    sinks = sinks_of(database, publisher, WantedOffers(alerter))

    async def arrives() -> bool:
        alerter.taken.clear()
        await sinks(tables(("trades", "okx")))
        await sinks(tables(("trades", "kraken")))
        return alerter.taken == wanted

    # What it looks at is not known yet: it may be everything.
    wanted = [[("trades", "okx", 0)], [("trades", "kraken", 0)]]
    assert await arrives()
    alerter.wanted, wanted = frozenset(), []
    await until(arrives)
    alerter.wanted = frozenset({("trades", "okx")})
    wanted = [[("trades", "okx", 0)]]
    await until(arrives)
    # Another process of it has to be asked anew.
    alerter.dead = True
    alerter.wanted = frozenset()
    await sinks(tables(("trades", "okx")))
    alerter.dead = False
    wanted = []
    await until(arrives)


async def test_a_silent_alerter_holds_nothing_up_and_hears_what_it_missed(
    database: Actor, publisher: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    alerter = Alerter()
    sinks = sinks_of(database, publisher, WantedOffers(alerter))
    before = time.monotonic()
    await asyncio.gather(*(sinks(tables(("trades", "okx"), number=number)) for number in range(3 * MOST)))
    assert time.monotonic() - before < 2
    assert len(database.calls) == 3 * MOST
    assert alerter.taken == []
    alerter.well.set()
    await until(lambda: len(alerter.taken) == MOST)
    assert [one for [(_, _, one)] in alerter.taken] == list(range(MOST)), "in order"
    await sinks(tables(("trades", "okx"), number=-1))
    assert alerter.taken[-1] == [("trades", "okx", -1)]
    assert alerter.missed == 2 * MOST


async def test_a_dead_alerter_costs_the_others_nothing_and_hears_what_it_missed(
    database: Actor, publisher: Actor
) -> None:
    alerter = Alerter()
    alerter.well.set()
    alerter.dead = True
    sinks = sinks_of(database, publisher, WantedOffers(alerter))
    for number in range(5):
        await sinks(tables(("indicators", "okx"), number=number))
    assert len(database.calls) == 5
    alerter.dead = False
    await sinks(tables(("indicators", "okx"), number=5))
    assert (alerter.taken, alerter.missed) == ([[("indicators", "okx", 5)]], 5)


async def test_only_as_many_parcels_wait_for_one_who_is_offered_them_as_may(
    database: Actor, publisher: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    watch = Alerter()
    sinks = sinks_of(database, publisher, Offers(watch, most=3))
    await asyncio.gather(*(sinks(tables(("quotes", "okx"), number=number)) for number in range(10)))
    assert len(publisher.calls) == 10, "it is published all the same"
    watch.well.set()
    await until(lambda: len(watch.taken) == 3)
    await sinks(tables(("quotes", "okx"), number=-1))
    assert watch.taken[-1] == [("quotes", "okx", -1)]
    assert watch.missed == 7
