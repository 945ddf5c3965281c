"""Symbols pass to a shard on another disk, with their files; and what a disk has that was away goes in among what
others have stored since."""

from pathlib import Path
from typing import Any

import pytest

from actors import handover
from actors.data_node import DataNode
from actors.handover import Bundle, merged
from actors.placement import Placement, Series, shard_of
from config import Settings, load
from storage import symbol_files
from storage.column_layout import folder_name
from storage.symbol_files import Damaged
from tests.actors.batches import NOON, trades
from tests.actors.exchanges import Handle
from tests.actors.shards import Shard, stored_ids

EXCHANGE = "kraken"
#: Belongs to shard 1 of two, and its folder is called otherwise.
MOVES = next(name for name in (f"S{n}/USD" for n in range(99)) if shard_of(EXCHANGE, name, 2) == 1)
ONE: Series = (EXCHANGE, MOVES)
ALONE = Placement.first(1, ["old"])
MOVING = ALONE.towards({0: "old", 1: "new"}, [ONE])
MOVED = MOVING.moved([ONE])


class Published:
    def __init__(self) -> None:
        self.placement = ALONE

    def __call__(self) -> Placement:
        return self.placement


def settings_of(data: Path) -> Settings:
    return load(data, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (handover, symbol_files):
        monkeypatch.setattr(module, "PIECE", 333)


async def sent(shard: Shard, first: int, count: int = 50) -> None:
    rows = [(MOVES, NOON + n * 10**9, n, 10.0 + n % 7, 1.0, n % 2) for n in range(first, first + count)]
    await shard.send(EXCHANGE, {"trades": trades(rows)}, NOON)


async def account(shard: Shard) -> dict[str, Any]:
    (row,) = await shard.integrity(EXCHANGE)
    return row


async def test_files_travel_while_rows_come_and_nothing_is_lost(tmp_path: Path) -> None:
    published, here, there = Published(), settings_of(tmp_path / "here"), settings_of(tmp_path / "there")
    old = Shard(here, index=0, placed=published)
    await sent(old, 1)
    await sent(old, 61)
    await sent(old, 3000 * 86_400)  # another day
    published.placement = MOVING
    new, node = Shard(there, index=1, placed=published), Handle(DataNode(here))

    first = await new.fetch([ONE], node, False)
    await sent(old, 3000 * 86_400 + 50)
    second = await new.fetch([ONE], node, False)
    assert 0 < second < first, "what grew is gone on with"
    await sent(old, 111)  # late: all of the first day is written anew
    before, bars = await account(old), (await old.bars(*ONE, "1m", 100)).to_pylist()
    bundle = await old.release([ONE])
    await new.fetch([ONE], node, True)
    assert await new.fetch([ONE], node, True) == 0
    await new.prepare(bundle)
    published.placement = MOVED
    await old.place(MOVED)
    await new.adopt(bundle, MOVED)
    await old.forget([ONE], MOVED)
    await node.remove.remote(*ONE)

    assert not (here.columns / EXCHANGE / folder_name(MOVES)).exists()
    assert not (there.data / "arriving" / EXCHANGE / folder_name(MOVES)).exists()
    assert await account(new) == {**before, "doubled": 0}
    # Which of them are open says the clock, which stands still here.
    closed = {"closed": True}
    assert [bar | closed for bar in (await new.bars(*ONE, "1m", 100)).to_pylist()] == [bar | closed for bar in bars]
    missing = [(MOVES, NOON + n * 10**9, n, 1.0, 1.0, 0) for n in range(51, 61)]
    await new.send(EXCHANGE, {"backfill": trades(missing)}, NOON)
    await sent(new, 3000 * 86_400 + 100)
    expected = [*range(1, 161), *range(3000 * 86_400, 3000 * 86_400 + 150)]
    assert stored_ids(there, *ONE) == expected
    for shard in (old, new):
        await shard.stop()


@pytest.mark.parametrize("killed", ["fetched", "prepared", "decided"])
async def test_who_is_killed_with_files_half_arrived_goes_on(tmp_path: Path, killed: str) -> None:
    published, here, there = Published(), settings_of(tmp_path / "here"), settings_of(tmp_path / "there")
    old = Shard(here, index=0, placed=published)
    await sent(old, 1)
    published.placement = MOVING
    new, node = Shard(there, index=1, placed=published), Handle(DataNode(here))

    def kill(step: str) -> None:
        nonlocal new
        if step == killed:
            new.kill()
            new = Shard(there, index=1, placed=published)

    await new.fetch([ONE], node, False)
    bundle = await old.release([ONE])
    await new.fetch([ONE], node, True)
    kill("fetched")
    await new.prepare(bundle)
    kill("prepared")
    published.placement = MOVED
    kill("decided")
    await old.place(MOVED)
    await new.adopt(bundle, MOVED)
    await sent(new, 51)
    assert stored_ids(there, *ONE) == list(range(1, 101))
    row = await account(new)
    assert (row["first_id"], row["trades"], row["state"]) == (1, 100, "synced")
    for shard in (old, new):
        await shard.stop()


async def test_a_piece_that_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    published, here, there = Published(), settings_of(tmp_path / "here"), settings_of(tmp_path / "there")
    old = Shard(here, index=0, placed=published)
    await sent(old, 1)
    await old.release([ONE])
    published.placement = MOVING
    new, node = Shard(there, index=1, placed=published), DataNode(here)

    class Damaging(DataNode):
        async def read(self, path: str, offset: int, size: int) -> tuple[int, bytes]:
            checksum, content = await super().read(path, offset, size)
            return checksum, content[:-1] + bytes([content[-1] ^ 1])

    with pytest.raises(Damaged, match="damaged on its way"):
        await new.fetch([ONE], Handle(Damaging(here)), True)
    await new.fetch([ONE], Handle(node), True)
    for shard in (old, new):
        await shard.stop()


async def test_what_a_disk_has_that_was_away_goes_in_among_what_came_since(tmp_path: Path) -> None:
    published, here, there = Published(), settings_of(tmp_path / "here"), settings_of(tmp_path / "there")
    lost = Shard(here, index=0, placed=published)
    await sent(lost, 1)
    await sent(lost, 61)
    lost.kill()  # its node is gone, what it did not acknowledge comes again elsewhere
    published.placement = MOVED
    owner = Shard(there, index=1, placed=published)
    await sent(owner, 101)
    await sent(owner, 161)
    assert (await account(owner))["first_id"] == 101

    node = Handle(DataNode(here))
    await node.recover.remote(*ONE)
    await owner.fetch([ONE], node, True)
    await sent(owner, 211)
    bundle = await owner.release([ONE])
    await owner.prepare(Bundle([ONE], merged(await node.ledger.remote([ONE]), bundle.records)))
    await owner.adopt(bundle, MOVED)

    assert stored_ids(there, *ONE) == [*range(1, 51), *range(61, 151), *range(161, 261)]
    row = await account(owner)
    assert (row["first_id"], row["trades"], row["missing"], row["gaps_open"]) == (1, 240, 20, 2)
    assert sum(bar["trade_count"] for bar in (await owner.bars(*ONE, "1m", 100)).to_pylist()) == 240
    await sent(owner, 261)
    await owner.stop()
    again = Shard(there, index=1, placed=published)
    assert (await account(again))["trades"] == 290
    await again.stop()
