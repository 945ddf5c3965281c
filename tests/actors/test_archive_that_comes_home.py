"""A host that was away comes back, when others have archived days of its symbols since."""

import os
import time
from pathlib import Path

from actors.archived_days import ArchivedDays
from actors.data_node import DataNode
from actors.day_keeper import DayKeeper
from actors.durability import Durability
from actors.handover import fetched
from actors.ledger.keeper import Keeper
from config import load
from storage.column_archive import Archive
from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.symbol_files import Arrivals
from tests.actors.exchanges import Handle
from tests.storage.test_column_files import columns_of

TODAY = time.time_ns() // NANOS_PER_DAY
ONE = ("sim", "BTC-USD")


class Disk:
    def __init__(self, data: Path) -> None:
        self.settings = load(data, {"columns_policy": {"archive_after_days": 3}})
        archived = ArchivedDays(self.settings)
        self.writer = ColumnWriter(self.settings.columns, 64, archived.bring_back)
        durability = Durability(self.writer, (self.settings.columns,))
        columns = self.settings.columns
        ledger = Keeper(data / "ledger", "one", ColumnReader(columns), columns, lambda *_: True, time.time_ns)
        self.keeper = DayKeeper(self.settings, self.writer, durability, archived, ledger.let_go)

    def append(self, day: int, *numbers: int) -> None:
        rows = [(day * NANOS_PER_DAY + n * 10**9, n, n) for n in numbers]
        self.writer.append(*ONE, "TRADES", columns_of("TRADES", rows))

    async def archive(self) -> None:
        for path in self.settings.columns.rglob("*.bin"):
            os.utime(path, ns=(time.time_ns() - NANOS_PER_DAY,) * 2)
        await self.keeper.keep([ONE])
        self.writer.close()

    def archived(self) -> dict[int, list[int]]:
        archive = Archive(str(self.settings.data / "archive"))
        return {TODAY - day: archive.get(*ONE, "TRADES", day)["id"].tolist() for day in archive.days(*ONE, "TRADES")}


async def test_archived_days_of_a_disk_that_was_away_are_not_lost(tmp_path: Path) -> None:
    away, owner = Disk(tmp_path / "away"), Disk(tmp_path / "owner")
    for day in range(TODAY - 30, TODAY - 20):
        away.append(day, 1, 2, 3)
    await away.archive()
    assert len(away.archived()) == 10
    # The host was away for 20 days: its last day goes on elsewhere, where days are archived too.
    owner.append(TODAY - 21, 4, 5)
    owner.append(TODAY - 10, 1)
    owner.append(TODAY, 1)
    await owner.archive()

    arrivals = Arrivals(owner.settings.data)
    node = Handle(DataNode(away.settings))
    await fetched(node, arrivals, ONE, True)
    arrivals.take_in(*ONE, owner.writer)
    await node.remove.remote(*ONE)
    await owner.archive()
    assert owner.archived() == {**{ago: [1, 2, 3] for ago in range(30, 21, -1)}, 21: [1, 2, 3, 4, 5], 10: [1]}
