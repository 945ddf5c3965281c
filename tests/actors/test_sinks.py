"""Where a shard's rows go: everybody gets them, and an alerter that is dead or slow keeps nobody waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors import sinks as module
from actors.offers import MOST, Offers, WantedOffers
from actors.sinks import Sinks
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

    async def _take(self, kind: str, exchange: str, shared: Any, missed: int) -> None:
        if self.dead:
            raise RuntimeError("the actor died")
        await self.well.wait()
        self.taken.append((kind, exchange, shared))
        self.missed += missed


@pytest.fixture
def database() -> Actor:
    return Actor()


@pytest.fixture
def publisher() -> Actor:
    return Actor()


async def test_every_kind_reaches_those_who_want_it(database: Actor, publisher: Actor) -> None:
    looked_at = ("trades", "bars", "indicators")
    alerter = Alerter(frozenset((kind, "okx") for kind in looked_at))
    alerter.well.set()
    offers = WantedOffers(alerter)
    sinks = Sinks(database, publisher, alerter=offers)
    await sinks("gaps", "okx", "first")
    await until(lambda: offers._wanted is not None)
    database.calls.clear()
    alerter.taken.clear()
    kinds = ("trades", "quotes", "bars", "indicators", "features", "derivatives", "liquidations", "gaps", "quality")
    for kind in kinds:
        await sinks(kind, "okx", kind.upper())
    assert [call[1] for call in database.calls] == [kind for kind in kinds if kind not in ("quotes", "features")]
    published = ["publish_trades", "publish_quotes", "publish_bars", "publish_of_bars", "publish_of_bars"]
    assert [call[0] for call in publisher.calls] == published
    assert alerter.taken == [(kind, "okx", kind.upper()) for kind in looked_at]
    with pytest.raises(ValueError, match="no sink for 'pictures'"):
        await sinks("pictures", "okx", None)
    await Sinks(database, publisher)("bars", "yahoo", None)


async def test_an_alerter_gets_what_it_looks_at_as_soon_as_it_does(database: Actor, publisher: Actor) -> None:
    alerter = Alerter()
    alerter.well.set()
    offers = WantedOffers(alerter)
    sinks = Sinks(database, publisher, alerter=offers)

    async def arrives() -> bool:
        alerter.taken.clear()
        await sinks("trades", "okx", "one")
        await sinks("trades", "kraken", "other")
        return alerter.taken == wanted

    # What it looks at is not known yet: it may be everything.
    wanted = [("trades", "okx", "one"), ("trades", "kraken", "other")]
    assert await arrives()
    alerter.wanted, wanted = frozenset(), []
    await until(arrives)
    alerter.wanted = frozenset({("trades", "okx")})
    wanted = [("trades", "okx", "one")]
    await until(arrives)
    # Another process of it has to be asked anew.
    alerter.dead = True
    alerter.wanted = frozenset()
    await sinks("trades", "okx", "lost")
    alerter.dead = False
    wanted = []
    await until(arrives)


async def test_a_silent_alerter_holds_nothing_up_and_hears_what_it_missed(
    database: Actor, publisher: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    alerter = Alerter()
    offers = WantedOffers(alerter)
    sinks = Sinks(database, publisher, alerter=offers)
    before = time.monotonic()
    await asyncio.gather(*(sinks("trades", "okx", number) for number in range(3 * MOST)))
    assert time.monotonic() - before < 2
    assert len(database.calls) == 3 * MOST
    assert alerter.taken == []
    alerter.well.set()
    await until(lambda: len(alerter.taken) == MOST)
    assert [shared for _, _, shared in alerter.taken] == list(range(MOST)), "in order"
    await sinks("trades", "okx", "next")
    assert alerter.taken[-1] == ("trades", "okx", "next")
    assert alerter.missed == 2 * MOST


async def test_a_dead_alerter_costs_the_others_nothing_and_hears_what_it_missed(
    database: Actor, publisher: Actor
) -> None:
    alerter = Alerter()
    alerter.well.set()
    alerter.dead = True
    offers = WantedOffers(alerter)
    sinks = Sinks(database, publisher, alerter=offers)
    for number in range(5):
        await sinks("indicators", "okx", number)
    assert len(database.calls) == 5
    alerter.dead = False
    await sinks("indicators", "okx", 5)
    assert (alerter.taken, alerter.missed) == ([("indicators", "okx", 5)], 5)


async def test_who_watches_quotes_is_offered_them_and_nothing_else(database: Actor, publisher: Actor) -> None:
    watch = Alerter()
    sinks = Sinks(database, publisher, Offers(watch))
    watch.well.set()
    for kind in ("trades", "quotes", "bars"):
        await sinks(kind, "okx", kind.upper())
    assert watch.taken == [("quotes", "okx", "QUOTES")]
    assert [call[0] for call in publisher.calls] == ["publish_trades", "publish_quotes", "publish_bars"]


async def test_of_quotes_only_as_many_tables_wait_as_may(
    database: Actor, publisher: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    watch = Alerter()
    sinks = Sinks(database, publisher, Offers(watch, most=3))
    await asyncio.gather(*(sinks("quotes", "okx", number) for number in range(10)))
    assert len(publisher.calls) == 10, "it is published all the same"
    watch.well.set()
    await until(lambda: len(watch.taken) == 3)
    await sinks("quotes", "okx", "next")
    assert watch.taken[-1] == ("quotes", "okx", "next")
    assert watch.missed == 7
