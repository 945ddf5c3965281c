"""What the live hub gives replicas, and what it asks for on their behalf."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from actors.live_hub import MOST_SERIES, LiveHub, Wanted
from actors.live_offers import RECEIVED_QUOTES, RECEIVED_TRADES, ReceivedOffers
from actors.parcels import packed
from config.live_settings import LiveFeedSettings
from storage.schema import BARS, DEPTH
from tests.actors.batches import NOON, trades
from tests.polling import until

SETTINGS = LiveFeedSettings(
    history_s=60,
    history_bytes=2**20,
    max_connections=10,
    max_subscriptions=10,
    max_message_bytes=4096,
    max_burst=10,
    max_messages_per_s=10,
    queue_messages=10,
    queue_bytes=2**16,
    stalled_s=1,
    heartbeat_s=1,
)
ALL_TRADES = frozenset({Wanted("trades", "binance")})


class Known:
    """What actors would say."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.series: set[tuple[str, str, str]] = set()
        self.received = NOON
        self.close = 1.0

    async def books(self, exchange: str, symbols: Sequence[str] | None) -> list[pa.RecordBatch]:
        self.asked.append((exchange, symbols))
        book = {"symbol": "BTCUSDT", "ts_event": 1, "ts_recv": self.received, "state": "synced", "epoch": 1}
        return [pa.RecordBatch.from_pylist([{**book, "sequence": 1, "bids": [], "asks": []}], DEPTH)]

    async def newest_bars(self, series: Iterable[tuple[str, str, str]]) -> dict[Any, pa.RecordBatch]:
        series = list(series)
        self.series.update(series)
        bar = dict.fromkeys(BARS.names, 1) | {"timeframe": "1m", "closed": False, "close": self.close}
        return {one: pa.RecordBatch.from_pylist([{**bar, "symbol": one[1]}], BARS) for one in series}

    async def best(self) -> list[dict[str, Any]]:
        return [{"instrument": "BTC-USD", "bid_price": self.close}]

    async def integrity(self) -> list[dict[str, Any]]:
        return []


@asynccontextmanager
async def running(known: Known | None = None) -> AsyncIterator[LiveHub]:
    hub = LiveHub(SETTINGS, ["binance", "kraken"], known or Known())
    yield hub
    await hub.stop()


def parcel(*ids: int, exchange: str = "binance") -> Any:
    rows = [("BTCUSDT", NOON, number, 1.0, 1.0, 0) for number in ids]
    return packed({(RECEIVED_TRADES, exchange): trades(rows)})


async def test_a_replica_waits_for_what_it_follows_and_gets_it_in_order() -> None:
    async with running() as hub:
        seq = await hub.follow("replica", ALL_TRADES)
        waiting = asyncio.create_task(hub.entries("replica", seq))
        await hub.take(parcel(1, exchange="kraken"))
        await hub.take(parcel(2))
        answer = await waiting
        assert answer is not None
        newest, whole, entries = answer
        assert whole
        assert [(entry.topic, entry.exchange) for entry in entries] == [("trades", "binance")]
        await hub.take(parcel(3))
        more = await hub.entries("replica", newest)
        assert more is not None
        assert [entry.seq for entry in more[2]] == [newest + 1]


async def test_one_that_begins_to_follow_something_else_is_answered_at_once() -> None:
    async with running() as hub:
        seq = await hub.follow("replica", ALL_TRADES)
        waiting = asyncio.create_task(hub.entries("replica", seq))
        await asyncio.sleep(0)
        await hub.follow("replica", frozenset({Wanted("quotes")}))
        assert await asyncio.wait_for(waiting, 2) == (seq, True, [])


async def test_nobody_is_answered_who_is_not_known_and_losses_are_told() -> None:
    async with running() as hub:
        assert await hub.entries("stranger", 0) is None
        seq = await hub.follow("replica", ALL_TRADES)
        await hub.take(parcel(1), 3)
        answer = await hub.entries("replica", seq)
        assert answer is not None
        assert [entry.topic for entry in answer[2]] == ["", "trades"]
        old = await hub.entries("replica", 5)
        assert old is not None
        assert not old[1]
        assert (await hub.status())["missed"] == 3


async def test_a_trade_that_two_connections_received_is_told_once() -> None:
    async with running() as hub:
        await hub.follow("replica", ALL_TRADES)
        await hub.take(parcel(1, 2))
        await hub.take(parcel(2))
        await hub.take(parcel(2, 3))
        assert (await hub.status())["repeated"] == 2
        assert (await hub.status())["entries"] == 2


async def test_books_and_open_bars_are_asked_for_and_told_when_they_change() -> None:
    known = Known()
    async with running(known) as hub:
        wanted = frozenset({Wanted("book", "binance", "BTCUSDT", ""), Wanted("bars", "binance", "BTCUSDT", "1m")})
        seq = await hub.follow("replica", wanted)

        async def told() -> list[str]:
            answer = await hub.entries("replica", seq)
            assert answer is not None
            return sorted(entry.topic for entry in answer[2])

        async def both() -> bool:
            return await told() == ["bars", "book"]

        await until(both)
        known.received += 1
        known.close = 2.0

        async def changed() -> bool:
            return await told() == ["bars", "bars", "book", "book"]

        await until(changed)
        assert ("binance", ["BTCUSDT"]) in known.asked


async def test_collectors_offer_only_what_somebody_looks_at() -> None:
    offered: list[Any] = []

    class Handle:
        """The hub as others have it."""

        def __init__(self, hub: LiveHub) -> None:
            self._hub = hub

        def __getattr__(self, name: str) -> Any:
            async def called(*arguments: Any) -> Any:
                if name == "take":
                    offered.append(sorted(kind for kind, _ in arguments[0]))
                return await getattr(self._hub, name)(*arguments)

            return SimpleNamespace(remote=called)

    batch = trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])
    decoded: Any = SimpleNamespace(trades=batch, quotes=batch)
    async with running() as hub:
        offers = ReceivedOffers(Handle(hub))
        # Nobody knows yet what is looked at.
        offers.received("binance", decoded)
        await until(lambda: offered == [[RECEIVED_QUOTES, RECEIVED_TRADES]])
        await until(lambda: offers._wanted == frozenset())
        offers.received("binance", decoded)
        await hub.follow("replica", ALL_TRADES)
        await until(lambda: offers._wanted == {(RECEIVED_TRADES, "binance")})
        offers.received("binance", decoded)
        await until(lambda: len(offered) == 2)
        assert offered[1] == [RECEIVED_TRADES]
        assert offers._asking is not None
        offers._asking.cancel()


async def test_bars_of_names_nobody_knows_do_not_take_the_place_of_others() -> None:
    known = Known()
    async with running(known) as hub:
        names = [f"NOBODY{number}" for number in range(MOST_SERIES + 100)]
        await hub.follow("one", frozenset(Wanted("bars", "binance", name, "1m") for name in names))
        await hub.follow("two", frozenset({Wanted("bars", "binance", "BTCUSDT", "1m")}))
        await until(lambda: ("binance", "BTCUSDT", "1m") in known.series)
        await until(lambda: len(known.series) == len(names) + 1)
