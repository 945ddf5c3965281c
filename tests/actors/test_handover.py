"""Symbols pass from one shard to another: nothing is lost or stored twice, whoever is killed on the way, and who has
been away writes nothing that another one has by now."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.handover import NotMine
from actors.placement import Placement, Series, shard_of
from config import Settings, load
from storage.column_layout import NANOS_PER_DAY
from storage.schema import TRADES
from tests.actors.batches import NOON, quotes, trades
from tests.actors.shards import Shard, Taken, stored_ids

EXCHANGE = "binance"
#: Belongs to shard 1 of two, and so moves there from the only one.
MOVES = next(name for name in (f"S{n}USDT" for n in range(99)) if shard_of(EXCHANGE, name, 2) == 1)
STAYS = next(name for name in (f"S{n}USDT" for n in range(99)) if shard_of(EXCHANGE, name, 2) == 0)
ONE: Series = (EXCHANGE, MOVES)
ALONE = Placement.first(1)
MOVING = ALONE.towards({0: "", 1: ""}, [ONE, (EXCHANGE, STAYS)])
MOVED = MOVING.moved([ONE])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})


class Published:
    """The placement that everybody can ask for."""

    def __init__(self) -> None:
        self.placement = ALONE

    def __call__(self) -> Placement:
        return self.placement


def some(symbol: str, first: int, count: int) -> dict[str, Any]:
    rows = [(symbol, NOON + n * 10**9, n, 10.0 + n % 7, 1.0, n % 2) for n in range(first, first + count)]
    assert trades(rows).schema == TRADES
    return {"trades": trades(rows), "quotes": quotes([(symbol, NOON + n * 10**9, n, 1.0, 2.0) for n in (first,)])}


async def sent(shard: Shard, symbol: str, first: int, count: int = 10) -> None:
    await shard.send(EXCHANGE, some(symbol, first, count), NOON)


def account(rows: list[dict[str, Any]], symbol: str = MOVES) -> dict[str, Any]:
    (row,) = [row for row in rows if row["symbol"] == symbol]
    return row


async def test_what_is_known_of_a_symbol_goes_with_it_and_the_other_shard_goes_on(settings: Settings) -> None:
    published, sinks = Published(), [Taken(), Taken()]
    old = Shard(settings, sinks[0], index=0, placed=published)
    for symbol in (MOVES, STAYS):
        await sent(old, symbol, 1)
        await sent(old, symbol, 15)
    before = account(await old.integrity(EXCHANGE))
    assert (before["missing"], before["gaps_open"]) == (4, 1)
    bars = (await old.bars(EXCHANGE, MOVES, "1s", 100)).to_pylist()
    judged = (await old.quality(EXCHANGE, MOVES, 24))[0]
    gaps = await old.gaps(EXCHANGE)

    published.placement = MOVING
    new = Shard(settings, sinks[1], index=1, placed=published)
    bundle = await old.release([ONE])
    await new.prepare(bundle)
    published.placement = MOVED
    await old.place(MOVED)
    await new.adopt(bundle, MOVED)
    await old.forget([ONE], MOVED)

    assert account(await new.integrity(EXCHANGE)) == {**before, "doubled": 0}
    assert [row["symbol"] for row in await old.integrity(EXCHANGE)] == [STAYS]
    assert (await new.bars(EXCHANGE, MOVES, "1s", 100)).to_pylist() == bars
    assert (await old.bars(EXCHANGE, MOVES, "1s", 100)).num_rows == 0
    assert (await new.quality(EXCHANGE, MOVES, 24))[0]["total_checks"] == judged["total_checks"]
    assert await old.quality(EXCHANGE, MOVES, 24) == []
    assert await new.gaps(EXCHANGE) == [gap for gap in gaps if gap.symbol == MOVES]
    await new.send(EXCHANGE, {"backfill": some(MOVES, 11, 4)["trades"]}, NOON)
    await sent(new, MOVES, 20)
    await sent(old, STAYS, 25)
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, 30))
    after = account(await new.integrity(EXCHANGE))
    assert (after["state"], after["missing"], after["gaps_open"], after["doubled"]) == ("synced", 0, 0, 5)
    assert account(await old.integrity(EXCHANGE), STAYS)["gaps_open"] == 1
    for shard in (old, new):
        await shard.stop()


async def test_a_symbol_goes_there_and_back_again(settings: Settings) -> None:
    published = Published()
    old, new = (Shard(settings, index=index, placed=published) for index in (0, 1))
    await sent(old, MOVES, 1)
    placement, count = ALONE, 10
    for source, target, shards in ((old, new, 2), (new, old, 1), (old, new, 2)):
        published.placement = placement = placement.towards(dict.fromkeys(range(shards), ""), [ONE])
        bundle = await source.release([ONE])
        await target.prepare(bundle)
        published.placement = placement = placement.moved([ONE])
        await source.place(placement)
        await target.adopt(bundle, placement)
        await source.forget([ONE], placement)
        await sent(target, MOVES, count + 1)
        count += 10
        assert account(await target.integrity(EXCHANGE))["trades"] == count
        assert sum(bar["trade_count"] for bar in (await target.bars(EXCHANGE, MOVES, "1s", 999)).to_pylist()) == count
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, count + 1))
    for shard in (old, new):
        await shard.stop()


@pytest.mark.parametrize("cut", ["released", "prepared", "decided", "placed", "adopted"])
@pytest.mark.parametrize("killed", ["old", "new"])
async def test_a_move_goes_on_whoever_is_killed_on_the_way(settings: Settings, cut: str, killed: str) -> None:
    published = Published()
    old = Shard(settings, index=0, placed=published)
    await sent(old, MOVES, 1)
    await sent(old, MOVES, 15)
    published.placement = MOVING
    new = Shard(settings, index=1, placed=published)

    def kill(step: str) -> None:
        nonlocal old, new
        if step == cut and killed == "old":
            old.kill()
            old = Shard(settings, index=0, placed=published)
        elif step == cut:
            new.kill()
            new = Shard(settings, index=1, placed=published)

    bundle = await old.release([ONE])
    kill("released")
    if cut == "released":
        # Who moves it was killed too: it asks again.
        bundle = await old.release([ONE])
    await new.prepare(bundle)
    kill("prepared")
    published.placement = MOVED
    kill("decided")
    await old.place(MOVED)
    kill("placed")
    await new.adopt(bundle, MOVED)
    kill("adopted")
    await new.adopt(bundle, MOVED)
    await old.forget([ONE], MOVED)
    await new.send(EXCHANGE, {"backfill": some(MOVES, 11, 4)["trades"]}, NOON)
    await sent(new, MOVES, 20)
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, 30))
    after = account(await new.integrity(EXCHANGE))
    assert (after["state"], after["missing"], after["trades"], after["first_id"]) == ("synced", 0, 29, 1)
    assert await old.integrity(EXCHANGE) == []
    for shard in (old, new):
        await shard.stop()


async def test_a_move_that_is_given_up_leaves_everything_as_it_was(settings: Settings) -> None:
    published = Published()
    old = Shard(settings, index=0, placed=published)
    await sent(old, MOVES, 1)
    before = account(await old.integrity(EXCHANGE))
    bundle = await old.release([ONE])
    with pytest.raises(NotMine, match=f"{EXCHANGE} {MOVES} is not for shard 0"):
        await sent(old, MOVES, 11)
    await old.adopt(bundle, ALONE)
    assert account(await old.integrity(EXCHANGE)) == before
    await sent(old, MOVES, 11)
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, 21))
    await old.stop()


async def test_a_shard_that_was_cut_off_finds_that_another_has_its_symbols_and_writes_nothing(
    settings: Settings,
) -> None:
    published = Published()
    cut_off = Shard(settings, index=0, placed=published)
    for symbol in (MOVES, STAYS):
        await sent(cut_off, symbol, 1)
    # Others went on without it, as its node was lost.
    published.placement = MOVED
    new = Shard(settings, index=1, placed=published)
    await sent(new, MOVES, 11)
    # Neither had its collector heard; then the next batch says that there is a newer placement.
    await sent(cut_off, STAYS, 11)
    cut_off.version = MOVED.version
    with pytest.raises(NotMine, match="is not for shard 0"):
        await sent(cut_off, MOVES, 21)
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, 21))
    assert [row["symbol"] for row in await cut_off.integrity(EXCHANGE)] == [STAYS]
    assert (await cut_off.bars(EXCHANGE, MOVES, "1s", 9)).num_rows == 0, "its bars are another's business"
    await sent(cut_off, STAYS, 21)
    await sent(new, MOVES, 21)
    assert stored_ids(settings, EXCHANGE, MOVES) == list(range(1, 31))
    for shard in (cut_off, new):
        await shard.stop()


async def test_a_symbol_may_leave_while_bars_of_many_are_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.stored_bars.SETTLED_NS", 0)
    shard = Shard(settings)
    symbols = [f"S{number}USDT" for number in range(50)]
    rows = [(one, NOON + day * NANOS_PER_DAY, day, 1.0, 1.0, 0) for day in range(2) for one in symbols]
    await shard.send("binance", {"trades": trades(rows)}, NOON)
    keeping = asyncio.create_task(shard._bars.keep_history())
    await asyncio.sleep(0)
    await shard.release([("binance", one) for one in symbols[-10:]])
    await keeping
