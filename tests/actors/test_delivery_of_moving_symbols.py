"""While symbols move to another shard, or their node is away, what comes of them waits, in order and within bounds;
what comes of others does not."""

import asyncio
from typing import Any

import pyarrow as pa
import pytest
import ray

from actors import delivery as delivery_module
from actors.delivery import MOST_HELD, Delivery, Refused
from actors.placement import Placement, shard_of
from actors.routes import Routes
from tests.actors.batches import NOON, trades
from tests.actors.exchanges import Handle, Kept
from tests.actors.test_delivery import EPOCH, LIMITS, Calls, of
from tests.polling import until

EXCHANGE = "binance"
NAMES = [f"S{number}USDT" for number in range(99)]
MOVES = next(name for name in NAMES if shard_of(EXCHANGE, name, 2) == 1)
STAYS = next(name for name in NAMES if shard_of(EXCHANGE, name, 2) == 0)
MOVING = Placement.first(1).towards({0: "", 1: ""}, [(EXCHANGE, MOVES), (EXCHANGE, STAYS)])
MOVED = MOVING.moved([(EXCHANGE, MOVES)])


def some(first: int) -> pa.RecordBatch:
    return trades([(MOVES, NOON, first, 1.0, 1.0, 0), (STAYS, NOON, 1000 + first, 1.0, 1.0, 0)])


def delivery(calls: Calls, *shards: Any, **limits: int) -> Delivery:
    routes = Routes(EXCHANGE, {0: Handle(shards[0])}, Placement.first(1))
    given = (calls.changed, lambda shard, gaps: None, calls.failures.append)
    return Delivery(EXCHANGE, routes, LIMITS.model_copy(update=limits), EPOCH, *given)


def ids(kept: Kept, symbol: str) -> list[int]:
    rows = [row for batch in kept.batches if "trades" in batch for row in batch["trades"].to_pylist()]
    return [row["trade_id"] for row in rows if row["symbol"] == symbol]


async def test_what_is_held_goes_to_the_new_shard_in_order_and_others_go_on() -> None:
    calls, old, new = Calls(), Kept(), Kept()
    sending = delivery(calls, old)
    old.open.clear()
    sending.send(of(trades=some(1)), 1)
    holding = asyncio.create_task(sending.hold([MOVES]))
    await asyncio.sleep(0)
    sending.send(of(trades=some(2)), 2)
    assert not holding.done(), "the old shard has not acknowledged what came before"
    old.open.set()
    await holding
    assert ids(old, MOVES) == [1]
    delivered = asyncio.create_task(sending.deliver({"backfill": some(3)}, 3))
    await asyncio.sleep(0)
    await until(lambda: ids(old, STAYS)[:2] == [1001, 1002])
    assert (ids(old, MOVES), len(sending) > 0, delivered.done()) == ([1], True, False)
    assert sending.handed_on_ns == 2, "what is held is not handed on"
    sending.place({0: Handle(old), 1: Handle(new)}, MOVED)
    sending.send(of(trades=some(4)), 4)
    await delivered
    await sending.finish()
    kinds = [(kind, row["trade_id"]) for batch in new.batches for kind in batch for row in batch[kind].to_pylist()]
    assert kinds == [("trades", 2), ("backfill", 3), ("trades", 4)]
    assert {origin.placement for origin in new.origins} == {MOVED.version}
    assert (calls.failures, len(sending), ids(old, STAYS)) == ([], 0, [1001, 1002, 1004])


async def test_a_move_that_is_given_up_sends_what_was_held_where_it_went_before() -> None:
    calls, old = Calls(), Kept()
    sending = delivery(calls, old)
    await sending.hold([MOVES])
    for number in (1, 2, 3):
        sending.send(of(trades=some(number)), number)
        await sending.hold([MOVES])  # tried again
    sending.place({0: Handle(old)}, Placement.first(1))
    await sending.finish()
    assert (ids(old, MOVES), calls.failures) == ([1, 2, 3], [])


async def test_what_is_held_is_bounded_but_by_far_more_than_what_a_shard_may_have_to_acknowledge() -> None:
    calls, old = Calls(), Kept()
    sending = delivery(calls, old, max_bytes=1 << 30)
    await sending.hold([MOVES])
    held = trades([(MOVES, NOON, 1, 1.0, 1.0, 0)])
    for number in range(MOST_HELD * LIMITS.max_batches_in_flight):
        assert not sending.full
        sending.send(of(trades=held), number)
    assert sending.full
    sending.place({0: Handle(old)}, Placement.first(1))
    await sending.finish()
    assert not sending.full


async def test_what_a_lost_shard_has_not_acknowledged_goes_to_who_has_its_symbols_now() -> None:
    calls, lost, other = Calls(), Kept(), Kept()
    sending = delivery(calls, other)
    sending.place({0: Handle(other), 1: Handle(lost)}, MOVED)
    lost.open.clear()
    for number in (1, 2):
        sending.send(of(trades=some(number)), number)
        await asyncio.sleep(0)
    assert ids(lost, MOVES) == []
    sending.place({0: Handle(other)}, MOVED.without([1]))
    sending.send(of(trades=some(3)), 3)
    await sending.finish()
    assert ids(other, MOVES) == [1, 2, 3]
    assert (calls.failures, len(sending)) == ([], 0)


async def test_a_shard_whose_node_is_away_is_tried_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "RETRY_S", 0.01)

    class Away(Kept):
        tries = 0

        async def append(self, *call: Any) -> int:
            self.tries += 1
            if self.tries < 4:
                raise ray.exceptions.ActorUnavailableError("its node is away", None)
            return await super().append(*call)

    calls, away = Calls(), Away()
    sending = delivery(calls, away)
    for number in (1, 2, 3):
        sending.send(of(trades=some(number)), number)
        await asyncio.sleep(0)
    await until(lambda: ids(away, MOVES) == [1, 2, 3])
    assert (calls.failures, away.tries < 7) == ([], True)
    await sending.finish()


async def test_what_is_for_a_shard_whose_node_has_not_come_yet_waits_for_it() -> None:
    calls, here, comes = Calls(), Kept(), Kept()
    sending = delivery(calls, here)
    sending.place({0: Handle(here)}, MOVED)
    for number in (1, 2):
        sending.send(of(trades=some(number)), number)
        await asyncio.sleep(0.01)
    assert (ids(here, MOVES), ids(here, STAYS), len(sending)) == ([], [1001, 1002], 2)
    sending.place({0: Handle(here), 1: Handle(comes)}, MOVED)
    sending.send(of(trades=some(3)), 3)
    await sending.finish()
    assert (ids(comes, MOVES), calls.failures) == ([1, 2, 3], [])


async def test_a_hold_ends_when_the_shard_refuses_what_came_before() -> None:
    class Refusing(Kept):
        async def append(self, *call: Any) -> int:
            await self.open.wait()
            raise ValueError("not mine")

    calls, refusing = Calls(), Refusing()
    sending = delivery(calls, refusing)
    refusing.open.clear()
    sending.send(of(trades=some(1)), 1)
    holding = asyncio.create_task(sending.hold([MOVES]))
    await asyncio.sleep(0)
    refusing.open.set()
    with pytest.raises(Refused, match="not mine"):
        await holding
    assert len(calls.failures) == 1
