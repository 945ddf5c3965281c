"""A backup of an instance whose symbols are on two disks has every file once, and says so when it has not all."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.data_node import DataNode
from actors.other_disks import disks_to_back_up, lacking
from actors.placement import Placement, encoded
from config import Settings, load
from config.node_folder import disk_of
from storage.backup import Copying, prune
from storage.backup_disks import SymbolsMoved
from storage.backup_manifest import BackupError, Manifest
from storage.backup_store import BackupStore
from storage.backup_verify import Verifying
from tests.actors.exchanges import Handle
from tests.storage.stored import DAY, HOUR_TWO, MIDNIGHT, append, local, restore


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """What the head has: ETHUSDT, and what was left behind of BTC/USD when it went to the other disk."""
    settings = load(tmp_path / "here")
    append(settings.data, "binance", "ETHUSDT", range(1, 50))
    append(settings.data, "kraken", "BTC/USD", range(1, 5))
    written(settings.data, "here")
    return settings


@pytest.fixture
def there(tmp_path: Path, here: Settings) -> Settings:
    settings = load(tmp_path / "there")
    for day in range(3):
        append(settings.data, "kraken", "BTC/USD", range(1, 200), MIDNIGHT + day * DAY)
    written(settings.data, "there")
    placement = Placement(7, 2, (0, 1), {0: disk_of(here.data), 1: disk_of(settings.data)}, {})
    elsewhere = {"binance": {"ETHUSDT": 0}, "kraken": {"BTC/USD": 1}}
    decide(here, Placement(7, 2, (0, 1), placement.disks, elsewhere))
    return settings


class Dead(DataNode):
    async def symbols(self) -> dict[str, list[str]]:
        raise ray.exceptions.ActorDiedError


def written(data: Path, who: str) -> None:
    """Files that are called the same on both disks."""
    for name in ("ledger/shard-0.log", "quality/binance.shard-0.states", "bars/kraken/BTC_USD.arrow"):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{who} {name}")


def decide(settings: Settings, placement: Placement) -> None:
    (settings.data / "placement.json").write_bytes(encoded(placement))


async def copied(store: BackupStore, settings: Settings, node: Any, at_ns: int = HOUR_TWO) -> tuple[str, Manifest]:
    disks = await disks_to_back_up(settings, lambda _: node)
    return await asyncio.to_thread(Copying(store, settings.data, None, disks=disks).run, lambda: at_ns)


def trades(data: Path, symbol: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((data / "columns").glob(f"*/{symbol}/*/*.bin"))}


async def test_every_file_of_both_disks_is_in_it_once_and_restored(
    tmp_path: Path, here: Settings, there: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.backup_disks._ANSWER_BYTES", 3_000)
    store, node = local(tmp_path / "place"), Handle(DataNode(there))
    name, manifest = await copied(store, here, node)
    assert manifest.lacks == []
    assert Verifying(store).run(name) == []
    target = restore(store, name, tmp_path / "restored")
    assert trades(target, "BTC_USD") == trades(there.data, "BTC_USD") != {}
    assert trades(target, "ETHUSDT") == trades(here.data, "ETHUSDT") != {}
    own = disk_of(there.data)[:12]
    found = {str(path.relative_to(target)): path.read_text() for path in target.glob("ledger/*")}
    assert found == {
        "ledger/shard-0.log": "here ledger/shard-0.log",
        f"ledger/shard-0.{own}.log": "there ledger/shard-0.log",
    }
    assert (target / f"quality/binance.shard-0.{own}.states").read_text().startswith("there")
    assert (target / "bars/kraken/BTC_USD.arrow").read_text().startswith("there"), "of the disk that has the symbol"


async def test_what_has_not_changed_does_not_travel_again(tmp_path: Path, here: Settings, there: Settings) -> None:
    store = local(tmp_path / "place")
    _, first = await copied(store, here, Handle(DataNode(there)))
    append(there.data, "kraken", "BTC/USD", range(300, 310), MIDNIGHT + 2 * DAY)
    sent: list[int] = []

    class Counting(DataNode):
        async def go_on_copying(self, number: int, turn: int) -> list[Any]:
            answer = await super().go_on_copying(number, turn)
            sent.extend(len(one) for one in answer if isinstance(one, bytes))
            return answer

    name, second = await copied(store, here, Handle(Counting(there)), HOUR_TWO + DAY)
    assert second.size > first.size
    assert 0 < sum(sent) < first.size / 2
    target = restore(store, name, tmp_path / "restored")
    assert trades(target, "BTC_USD") == trades(there.data, "BTC_USD")


async def test_a_host_that_does_not_answer_is_named_by_the_backup_and_whoever_checks_it(
    tmp_path: Path, here: Settings, there: Settings
) -> None:
    store = local(tmp_path / "place")
    line = f"the host with disk {disk_of(there.data)[:8]} does not answer"
    name, manifest = await copied(store, here, Handle(Dead(there)))
    assert manifest.lacks == [line]
    assert Verifying(store).run(name) == [f"backup {name}: not in it: {line}"]
    (said,) = lacking(here).lacks
    assert said == f"the host with disk {disk_of(there.data)[:8]} cannot be asked while nothing runs"


async def test_a_host_that_dies_meanwhile_leaves_no_backup(tmp_path: Path, here: Settings, there: Settings) -> None:
    class Dying(DataNode):
        async def go_on_copying(self, number: int, turn: int) -> list[Any]:
            if turn:
                raise ray.exceptions.ActorDiedError
            return await super().go_on_copying(number, turn)

    store = local(tmp_path / "place")
    with pytest.raises(BackupError, match="does not answer any more"):
        await copied(store, here, Handle(Dying(there)))
    assert store.names() == []


async def test_one_that_symbols_moved_in_does_not_count(tmp_path: Path, here: Settings, there: Settings) -> None:
    class Moving(DataNode):
        async def sections_to_copy(self) -> list[str]:
            disks = {0: disk_of(here.data), 1: disk_of(there.data)}
            decide(here, Placement(8, 2, (0, 1), disks, {"kraken": {"BTC/USD": 0}}))
            return await super().sections_to_copy()

    store = local(tmp_path / "place")
    with pytest.raises(SymbolsMoved):
        await copied(store, here, Handle(Moving(there)))
    assert store.names() == []


async def test_shards_may_change_on_one_disk_but_no_other_disk_may_come(tmp_path: Path, here: Settings) -> None:
    disk, store = disk_of(here.data), local(tmp_path / "place")

    async def with_change(disks: dict[int, str]) -> None:
        decide(here, Placement(1, 1, (0,), {0: disk}))
        found = await disks_to_back_up(here)
        decide(here, Placement(2, 2, (0, 1), disks))
        Copying(store, here.data, None, disks=found).run(lambda: HOUR_TWO)

    await with_change({0: disk, 1: disk})
    with pytest.raises(SymbolsMoved):
        await with_change({0: disk, 1: "joined"})


def test_a_copy_is_given_once_piece_by_piece_and_let_go_of(there: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage import backup_disks
    from storage.backup_disks import Copies

    monkeypatch.setattr(backup_disks, "_MOST_COPIES", 2)
    monkeypatch.setattr(backup_disks, "_ANSWER_BYTES", 1)
    copies = Copies(there.data, disk_of(there.data))
    first = copies.begin("ledger", frozenset(), [])
    assert copies.more(first, 0)
    with pytest.raises(LookupError):
        copies.more(first, 0)
    for _ in range(2):
        copies.begin("ledger", frozenset(), [])
    with pytest.raises(LookupError):
        copies.more(first, 1)
    other = copies.begin("../secrets", frozenset(), [])
    with pytest.raises(LookupError):
        copies.more(other, 0)


async def test_the_newest_backup_that_lacks_nothing_stays_however_old_it_is(
    tmp_path: Path, here: Settings, there: Settings
) -> None:
    store = local(tmp_path / "place")
    older, _ = await copied(store, here, Handle(DataNode(there)))
    whole, _ = await copied(store, here, Handle(DataNode(there)), HOUR_TWO + DAY)
    gone = Handle(Dead(there))
    lacking_it = [(await copied(store, here, gone, HOUR_TWO + day * DAY))[0] for day in (2, 3, 4)]
    assert prune(store, 1, 0, 0) == [older, *lacking_it[:-1]]
    assert store.names() == [whole, lacking_it[-1]]
    assert trades(restore(store, whole, tmp_path / "restored"), "BTC_USD") == trades(there.data, "BTC_USD")
