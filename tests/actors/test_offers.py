"""Tables are offered without waiting, and those that are not taken are counted."""

import asyncio
from typing import Any

from actors.offers import MOST, Offers
from actors.sinks import Sinks
from tests.actors.exchanges import Handle
from tests.polling import until


class Watch:
    """Takes nothing while it is not `open`, and fails when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.fails = False
        self.taken: list[Any] = []

    async def take(self, *said: Any) -> None:
        if self.fails:
            raise RuntimeError("dead")
        await self.open.wait()
        self.taken.append(said)


class Publisher:
    def __init__(self) -> None:
        self.published: list[Any] = []

    async def publish_quotes(self, exchange: str, table: Any) -> None:
        self.published.append(table)


async def test_whoever_watches_quotes_slowly_or_never_holds_nobody_up_and_hears_how_many_it_missed() -> None:
    watch, publisher = Watch(), Publisher()
    offers = Offers(Handle(watch), "shard:0")
    sinks = Sinks(None, Handle(publisher), offers)
    for number in range(3 * MOST):
        await asyncio.wait_for(sinks("quotes", "okx", number), 1)
    assert publisher.published == list(range(3 * MOST))
    assert (offers.dropped, watch.taken) == (2 * MOST, [])
    watch.open.set()
    await until(lambda: len(watch.taken) == MOST)
    await sinks("quotes", "okx", "next")
    await until(lambda: len(watch.taken) == MOST + 1)
    assert watch.taken[0] == ("okx", 0, "shard:0", 0)
    assert watch.taken[-1] == ("okx", "next", "shard:0", 2 * MOST)


async def test_a_table_that_is_refused_counts_as_dropped() -> None:
    watch = Watch()
    watch.fails = True
    offers = Offers(Handle(watch), "shard:0")
    for number in range(5):
        offers("okx", number)
    await until(lambda: offers.dropped == 5)
    watch.fails = False
    watch.open.set()
    offers("okx", "again")
    await until(lambda: watch.taken == [("okx", "again", "shard:0", 5)])


async def test_without_anybody_who_watches_quotes_are_published_all_the_same() -> None:
    publisher = Publisher()
    await Sinks(None, Handle(publisher))("quotes", "okx", 1)
    assert publisher.published == [1]
