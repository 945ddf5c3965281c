"""What goes to which shard, how much may be on its way, and what a shard that refuses costs."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors import delivery as delivery_module
from actors.delivery import KINDS, Delivery, Refused
from actors.feeds.events import Events
from actors.feeds.feed import Decoded, decoded
from actors.feeds.symbol_codes import SymbolCodes
from actors.ledger.origin import Origin
from actors.ledger.sequences import Sequences
from actors.parcels import Stream
from actors.placement import shard_of
from actors.routes import Routes
from config import load
from tests.actors.batches import NOON, quotes, trades
from tests.actors.exchanges import Handle, Kept
from tests.polling import until

LIMITS = load("nowhere").collector.model_copy(update={"max_bytes": 1 << 20, "max_batches_in_flight": 3})
EPOCH = 7
NOTHING = decoded(Events(np.zeros(0, np.int64), SymbolCodes()), ())


def of(**kinds: pa.RecordBatch) -> Decoded:
    """Decoded frames that said this and nothing else."""
    return Decoded(**{name: kinds.get(name, getattr(NOTHING, name)) for name in NOTHING.__slots__})


def trades_of(*symbols: str) -> pa.RecordBatch:
    return trades([(symbol, NOON + at, at, 1.0, 1.0, 0) for at, symbol in enumerate(symbols)])


class Calls:
    def __init__(self) -> None:
        self.changes = 0
        self.failures: list[str] = []
        #: (shard, its open gaps)
        self.acknowledged: list[tuple[int, int]] = []

    def changed(self) -> None:
        self.changes += 1


def delivery(calls: Calls, *shards: Any, **limits: int) -> Delivery:
    handles = [Handle(shard) for shard in shards]
    return Delivery(
        "binance",
        Routes("binance", handles),
        LIMITS.model_copy(update=limits),
        EPOCH,
        calls.changed,
        lambda shard, gaps: calls.acknowledged.append((shard, gaps)),
        calls.failures.append,
    )


async def test_what_says_nothing_is_not_sent() -> None:
    calls, kept = Calls(), Kept()
    sending = delivery(calls, kept)
    sending.send(NOTHING, 7)
    assert (len(sending), calls.changes) == (0, 0)
    await sending.finish()
    assert kept.batches == []


async def test_everything_of_one_flush_goes_to_a_shard_together_with_its_clock() -> None:
    calls, kept = Calls(), Kept()
    sending = delivery(calls, kept)
    sending.send(of(trades=trades_of("BTCUSDT"), quotes=quotes([("ETHUSDT", NOON, 1, 1.0, 2.0)])), 7)
    assert len(sending) == 1
    await sending.finish()
    (batches,) = kept.batches
    assert sorted(batches) == ["quotes", "trades"]
    assert kept.clocks == [7]


async def test_rows_go_to_the_shards_of_their_symbols_in_order() -> None:
    symbols = [f"A{number}USDT" for number in range(40)]
    kept = [Kept() for _ in range(4)]
    sending = delivery(Calls(), *kept)
    rows = [symbols[number % 40] for number in range(400)]
    for begin in (0, 3, 200):
        sending.send(of(trades=trades_of(*rows[begin:400])), begin)
    await sending.finish()
    for index, one in enumerate(kept):
        mine = [at for at, symbol in enumerate(rows) if shard_of("binance", symbol, 4) == index]
        assert one.ids == [at - begin for begin in (0, 3, 200) for at in mine if at >= begin]
        assert [origin.sequence for origin in one.origins] == list(range(len(one.origins)))
        assert {origin.epoch for origin in one.origins} == {EPOCH}


async def test_what_gathers_while_a_shard_is_busy_goes_to_it_in_one_call_with_the_newest_clock() -> None:
    calls, kept = Calls(), Kept()
    kept.open.clear()
    sending = delivery(calls, kept, max_batches_in_flight=100)
    sending.send(of(trades=trades_of("BTCUSDT")), 1)
    await asyncio.sleep(0)
    for clock in (2, 3):
        sending.send(of(trades=trades_of("BTCUSDT", "ETHUSDT"), quotes=quotes([("ETHUSDT", NOON, 1, 1.0, 2.0)])), clock)
    sending.send(of(history=trades_of("SOLUSDT", "XRPUSDT")), 4)
    kept.open.set()
    await sending.finish()
    assert kept.clocks == [1, 4]
    assert kept.ids == [0, 0, 1, 0, 1]
    assert [row["symbol"] for row in kept.batches[1]["trades"].to_pylist()] == ["BTCUSDT", "ETHUSDT"] * 2
    assert kept.batches[1]["history"].num_rows == kept.batches[1]["quotes"].num_rows == 2
    assert [origin.sequence for origin in kept.origins] == [0, 1]


async def test_a_shard_is_never_called_before_it_has_answered() -> None:
    class Busy(Kept):
        calls = 0

        async def append(self, *call: Any) -> int:
            self.calls += 1
            assert self.calls == 1
            await asyncio.sleep(0.001)
            self.calls -= 1
            return await super().append(*call)

    calls, busy = Calls(), Busy()
    sending = delivery(calls, busy)
    for number in range(50):
        sending.send(of(trades=trades([("BTCUSDT", NOON, number, 1.0, 1.0, 0)])), number)
        if number % 7 == 0:
            await asyncio.sleep(0.002)
    await sending.finish()
    assert (busy.ids, calls.failures) == (list(range(50)), [])


async def test_no_call_is_larger_than_the_object_store_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = trades_of(*["BTCUSDT"] * 100)
    monkeypatch.setattr(delivery_module, "CALL_BYTES", 2 * batch.nbytes)
    kept = Kept()
    sending = delivery(Calls(), kept, max_batches_in_flight=100)
    for number in range(5):
        sending.send(of(trades=batch), number)
    await sending.finish()
    assert kept.clocks == [1, 3, 4]


async def test_past_trades_go_by_themselves_and_whoever_sends_them_learns_when_they_are_there() -> None:
    kept = Kept()
    kept.open.clear()
    sending = delivery(Calls(), kept, max_batches_in_flight=100)
    sending.send(of(trades=trades_of("BTCUSDT")), 1)
    past = asyncio.create_task(sending.deliver({"backfill": trades_of("BTCUSDT")}, 2))
    await asyncio.sleep(0)
    sending.send(of(trades=trades_of("BTCUSDT")), 3)
    assert not past.done()
    kept.open.set()
    await past
    assert [sorted(batches) for batches in kept.batches[:2]] == [["trades"], ["backfill"]]
    await sending.finish()
    assert [sorted(batches) for batches in kept.batches] == [["trades"], ["backfill"], ["trades"]]


async def test_books_stay_here() -> None:
    assert set(KINDS) == {"trades", "quotes", "derivatives", "liquidations", "merged", "history"}


async def test_what_a_shard_answers_is_handed_on() -> None:
    class Gapped(Kept):
        async def append(self, *call: Any) -> int:
            await super().append(*call)
            return 3

    calls = Calls()
    sending = delivery(calls, Gapped())
    sending.send(of(trades=trades_of("BTCUSDT")), 1)
    await sending.finish()
    assert calls.acknowledged == [(0, 3)]


async def test_what_comes_between_the_last_look_of_a_call_and_its_end_is_sent_too() -> None:
    kept, sent = Kept(), asyncio.Event()

    def put() -> None:
        # The lane's task has returned by now, and who waits for its end was not told yet.
        sending.put({"trades": trades_of("BTCUSDT", "ETHUSDT")}, 2)
        sent.set()

    def acknowledged(shard: int, gaps: int) -> None:
        if not sent.is_set():
            asyncio.get_running_loop().call_soon(put)

    sending = Delivery(
        "binance", Routes("binance", [Handle(kept)]), LIMITS, EPOCH, lambda: None, acknowledged, pytest.fail
    )
    sending.put({"trades": trades_of("BTCUSDT")}, 1)
    await sent.wait()
    await sending.finish()
    assert (kept.ids, len(sending)) == ([0, 0, 1], 0)


async def test_it_is_full_at_so_many_batches_until_they_were_taken() -> None:
    calls, kept = Calls(), Kept()
    kept.open.clear()
    sending = delivery(calls, kept)
    for number in range(3):
        assert not sending.full
        sending.send(of(trades=trades_of("BTCUSDT")), number)
    assert sending.full
    assert calls.changes == 3
    kept.open.set()
    await until(lambda: not sending.full)
    await sending.finish()
    assert len(sending) == 0
    assert calls.changes > 3
    assert len(kept.ids) == 3


async def test_it_is_full_at_so_many_bytes() -> None:
    kept = Kept()
    kept.open.clear()
    batch = trades_of(*["BTCUSDT"] * 100)
    sending = delivery(Calls(), kept, max_bytes=batch.nbytes)
    full = []
    for one in (trades_of("BTCUSDT"), batch):
        sending.send(of(trades=one), 0)
        full.append(sending.full)
    kept.open.set()
    await sending.finish()
    assert [*full, sending.full] == [False, True, False]


class Refusing:
    async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
        raise OSError("No space left on device")


async def test_a_shard_that_refuses_is_told_and_the_others_get_theirs() -> None:
    symbols = [f"A{number}USDT" for number in range(40)]
    calls, kept = Calls(), Kept()
    sending = delivery(calls, Refusing(), kept)
    sending.send(of(trades=trades_of(*symbols)), 0)
    await sending.finish()
    assert calls.failures == ["a shard did not take a batch: OSError('No space left on device')"]
    assert len(kept.ids) == sum(shard_of("binance", symbol, 2) == 1 for symbol in symbols)
    assert len(sending) == 0


async def test_what_waits_behind_a_refused_batch_is_refused_too() -> None:
    calls = Calls()
    sending = delivery(calls, Refusing())
    sending.send(of(trades=trades_of("BTCUSDT")), 0)
    with pytest.raises(Refused, match="No space left"):
        await sending.deliver({"backfill": trades_of("BTCUSDT")}, 0)
    await sending.finish()
    assert len(calls.failures) == 1
    assert len(sending) == 0


async def test_a_call_whose_answer_is_cancelled_is_refused_and_not_forgotten() -> None:
    class Cancelled(Kept):
        async def append(self, *call: Any) -> int:
            raise asyncio.CancelledError

    calls = Calls()
    sending = delivery(calls, Cancelled())
    sending.send(of(trades=trades_of("BTCUSDT")), 0)
    with pytest.raises(Refused, match="Cancelled"):
        await asyncio.wait_for(sending.deliver({"backfill": trades_of("BTCUSDT")}, 0), 5)
    assert (len(calls.failures), len(sending)) == (1, 0)


async def test_what_follows_a_refused_batch_is_not_taken_for_it() -> None:
    class Takes(Kept):
        """Drops what it has, as a shard does; has the first batch and fails to say so."""

        def __init__(self) -> None:
            super().__init__()
            self.had = Sequences()

        async def append(self, exchange: str, streams: Mapping[str, Stream], clock_ns: int, origin: Origin) -> int:
            if self.had.take(origin.epoch, origin.sequence):
                await super().append(exchange, streams, clock_ns, origin)
            if clock_ns == 1:
                raise OSError("No space left on device")
            return 0

    calls, takes = Calls(), Takes()
    sending = delivery(calls, takes)
    for clock in (1, 2, 3):
        sending.send(of(trades=trades_of(*["BTCUSDT"] * clock)), clock)
        await sending.finish()
    assert takes.clocks == [1, 2, 3]
    assert len(calls.failures) == 1


async def test_who_stops_waiting_for_the_end_does_not_stop_what_is_on_its_way() -> None:
    calls, kept = Calls(), Kept()
    kept.open.clear()
    sending = delivery(calls, kept)
    sending.send(of(trades=trades_of("BTCUSDT")), 0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sending.finish(), 0.02)
    kept.open.set()
    await sending.finish()
    assert (kept.ids, calls.failures, len(sending)) == ([0], [], 0)


async def test_finishing_waits_for_what_is_on_its_way() -> None:
    kept = Kept()
    kept.open.clear()
    sending = delivery(Calls(), kept)
    sending.send(of(trades=trades_of("BTCUSDT")), 0)
    finishing = asyncio.create_task(sending.finish())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(finishing), 0.05)
    kept.open.set()
    await asyncio.wait_for(finishing, 5)
    assert kept.ids == [0]
