"""What waits for a client is bounded; whoever asks for less gets the newest of each key, and in order."""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.live_client import TRY_AGAIN, Client, Subscription
from serve_apps.live_feed import Group
from serve_apps.live_topics import Channel, Topic
from serve_apps.live_updates import Update
from tests.serve_apps.live_world import SETTINGS

TOPIC = Topic.of("quotes:binance")
LIMITS = SETTINGS.model_copy(update={"queue_messages": 10})


def update(symbol: str, seq: int) -> Update:
    return Update(Channel("quotes", "binance", symbol, ""), seq, [{"bid_price": seq}])


async def read(client: Client) -> list[tuple[str, int]]:
    """Symbol and number of all that waits."""
    seen = []
    while client.waiting:
        said = json.loads((await client.take()).content)
        seen.append((said["symbol"], said["seq"]))
    return seen


#: What happens: an update of a symbol, or the client is due (None).
HAPPENS = st.lists(st.one_of(st.none(), st.sampled_from("ABC")), max_size=60)


@given(HAPPENS)
def test_who_asks_for_less_misses_only_what_was_overtaken(happens: list[str | None]) -> None:
    async def run() -> None:
        client = Client(LIMITS)
        subscription = Subscription(client, TOPIC, 1.0, binary=False)
        subscription.release(0)
        group = Group(TOPIC)
        group.paced.add(subscription)
        newest: dict[str, int] = {}
        told: dict[str, int] = {}
        for seq, symbol in enumerate([*happens, None], 1):
            if symbol is not None:
                group.take(update(symbol, seq), now=0.0)
                newest[symbol] = seq
                continue
            subscription.give_newest(group.newest(subscription.told))
            seen = await read(client)
            assert len({name for name, _ in seen}) == len(seen)
            assert [seq for _, seq in seen] == sorted(seq for _, seq in seen)
            assert all(seq > told.get(name, 0) for name, seq in seen)
            told.update(seen)
            assert told == newest

    asyncio.run(run())


@given(st.integers(0, 30), st.integers(0, 30))
def test_updates_wait_for_the_snapshot_and_only_later_ones_follow_it(before: int, snapshot: int) -> None:
    async def run() -> None:
        client = Client(SETTINGS)
        subscription = Subscription(client, TOPIC, 0.0, binary=False)
        for seq in range(1, before + 1):
            subscription.give(update("A", seq))
        assert not client.waiting
        subscription.release(snapshot)
        subscription.give(update("A", 100))
        assert [seq for _, seq in await read(client)] == [*range(snapshot + 1, before + 1), 100]

    asyncio.run(run())


@given(st.lists(st.booleans(), max_size=100))
def test_what_waits_is_bounded_whatever_a_client_does(reads: list[bool]) -> None:
    async def run() -> None:
        client = Client(LIMITS)
        waiting = 0
        for number, reading in enumerate(reads):
            if reading and client.waiting:
                await client.take()
                waiting -= 1
            elif not reading and not client.closed.done():
                client.put(f"{number}")
                waiting += 1
            assert client.waiting <= LIMITS.queue_messages
            if waiting > LIMITS.queue_messages:
                assert client.closed.result()[0] == TRY_AGAIN
                assert client.waiting == client.nbytes == 0
                return
        assert not client.closed.done()

    asyncio.run(run())


async def test_one_that_takes_too_long_for_a_frame_is_closed() -> None:
    client = Client(SETTINGS)
    client.put("x")
    client.check(1e12, 0.0)
    assert not client.closed.done()
    await client.take()
    client.check(1e12, 0.0)
    assert client.closed.result()[0] == TRY_AGAIN
