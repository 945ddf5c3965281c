"""Days that are over are sealed, archived and removed when the policy says so, and late rows are never lost."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from actors import day_keeper
from actors.archived_days import ArchivedDays
from actors.day_keeper import DayKeeper
from actors.durability import Durability
from config import Settings, load
from storage import column_archive
from storage.column_archive import Archive
from storage.column_layout import NANOS_PER_DAY, day_name
from storage.column_verify import verify
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.schema import COLUMNS
from tests.storage.test_column_files import Row, columns_of, everything

TODAY = time.time_ns() // NANOS_PER_DAY
SYMBOLS = [("sim", "BTC-USD")]


def row(day: int, number: int) -> Row:
    return (day * NANOS_PER_DAY + number * 10**9, number, number)


class Kept:
    """A folder with its writer and keeper, whose files were last written a day ago whenever `settle` is called."""

    def __init__(self, data: Path, **policy: Any) -> None:
        self.settings: Settings = load(data, {"columns_policy": policy})
        self.root = self.settings.columns
        archived = ArchivedDays(self.settings)
        self.writer = ColumnWriter(self.root, 64, archived.bring_back)
        durability = Durability(self.writer, (self.root,))
        self.keeper = DayKeeper(self.settings, self.writer, durability, archived, self.let_go)
        #: Days of trades that were said to go.
        self.gone: list[int] = []
        self.full = False

    async def let_go(self, exchange: str, symbol: str, day: int, _: object) -> None:
        assert (exchange, symbol) == SYMBOLS[0]
        assert self.day(day).seal.exists(), "it must be told before"
        if self.full:
            raise OSError(28, "No space left on device")
        self.gone.append(day)

    def append(self, *rows: Row) -> None:
        self.writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", rows))

    def settle(self) -> None:
        for path in self.root.rglob("*.bin"):
            os.utime(path, ns=(time.time_ns() - NANOS_PER_DAY,) * 2)

    async def keep(self) -> dict[str, int]:
        self.settle()
        await self.keeper.keep(SYMBOLS)
        return {kind: count for kind, count in self.keeper.status()["days"].items() if count}

    def day(self, number: int) -> Day:
        return Day(self.root / "sim" / "BTC-USD" / "TRADES", "TRADES", number)

    def sealed(self) -> list[bool]:
        found = list(verify(self.root))
        assert not [one for one in found if one.wrong]
        return [one.sealed for one in found]


async def test_a_day_is_sealed_once_it_is_over_and_nothing_came_for_a_while(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.append(row(TODAY - 2, 1), row(TODAY, 1))
    await kept.keeper.keep(SYMBOLS)
    assert kept.sealed() == [False, False], "rows came a moment ago"
    assert await kept.keep() == {"open": 1, "sealed": 1}
    assert kept.sealed() == [True, False]
    kept.append(row(TODAY - 2, 0), row(TODAY - 2, 2))
    assert kept.sealed() == [False, False]
    assert await kept.keep() == {"open": 1, "sealed": 1}
    assert kept.sealed() == [True, False]
    assert everything(kept.root) == [row(TODAY - 2, 0), row(TODAY - 2, 1), row(TODAY - 2, 2), row(TODAY, 1)]
    kept.writer.close()


async def test_a_row_that_comes_while_a_day_is_read_for_its_seal_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    kept.append(row(TODAY - 2, 1))
    real = day_keeper.measured

    def measured(day: Day) -> Any:
        seal = real(day)
        kept.append(row(TODAY - 2, 2))
        return seal

    monkeypatch.setattr(day_keeper, "measured", measured)
    assert await kept.keep() == {"open": 1}
    monkeypatch.undo()
    assert kept.sealed() == [False]
    assert await kept.keep() == {"sealed": 1}
    kept.writer.close()


async def test_an_old_day_becomes_parquet_and_late_rows_join_what_is_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path, archive_after_days=3)
    old = TODAY - 10
    kept.append(row(old, 1), row(old, 3), row(TODAY - 2, 1))
    assert await kept.keep() == {"archived": 1, "sealed": 1}
    archive = Archive(str(tmp_path / "archive"))
    assert everything(kept.root) == [row(TODAY - 2, 1)]
    assert archive.days("sim", "BTC-USD", "TRADES") == [old]
    kept.append(row(old, 2), row(old, 3))
    assert everything(kept.root)[:3] == [row(old, 1), row(old, 2), row(old, 3)], "at once: bars are made of all of them"
    assert await kept.keep() == {"archived": 1, "sealed": 1}
    archived = archive.get("sim", "BTC-USD", "TRADES", old)
    assert archived is not None
    assert archived["id"].tolist() == [1, 2, 3]
    assert archive.restore("sim", "BTC-USD", kept.day(old)) == 3
    kept.append(row(old, 4))
    assert len(everything(kept.root)) == 5
    kept.writer.close()


async def test_a_day_whose_return_was_cut_off_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, old = Kept(tmp_path, archive_after_days=3), TODAY - 10
    kept.append(row(old, 1), row(old, 3))
    assert await kept.keep() == {"archived": 1}
    real, left = column_archive.write_new_file, 5

    def write(path: Path, *parts: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(5, "Input/output error")
        real(path, *parts)

    monkeypatch.setattr(column_archive, "write_new_file", write)
    with pytest.raises(OSError, match="Input/output"):
        kept.append(row(old, 2))
    monkeypatch.undo()
    again = Kept(tmp_path, archive_after_days=3)
    again.writer.recover("sim", "BTC-USD")
    again.append(row(old, 2))
    assert everything(again.root) == [row(old, 1), row(old, 2), row(old, 3)]
    again.writer.close()


async def test_what_is_kept_for_so_many_days_goes_here_and_in_the_archive(tmp_path: Path) -> None:
    kept = Kept(tmp_path, archive_after_days=3)
    kept.append(row(TODAY - 40, 1), row(TODAY - 20, 1), row(TODAY - 2, 1))
    await kept.keep()
    kept.append(row(TODAY - 41, 1))
    kept.writer.close()
    shorter = Kept(tmp_path, archive_after_days=3, keep_days={"TRADES": 30, "MD": None})
    assert await shorter.keep() == {"removed": 1, "sealed": 1}
    assert Archive(str(tmp_path / "archive")).days("sim", "BTC-USD", "TRADES") == [TODAY - 20]
    assert everything(shorter.root) == [row(TODAY - 2, 1)]
    shorter.writer.close()


async def test_a_day_that_is_damaged_stays_as_it_is_and_is_told_while_others_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, archive_after_days=3)
    kept.append(row(TODAY - 10, 1), row(TODAY - 9, 1))
    assert await Kept(tmp_path).keep() == {"sealed": 2}
    kept.day(TODAY - 10).path("price").write_bytes(bytes(4))
    assert await kept.keep() == {"archived": 1, "failed": 1}
    [(name, why)] = kept.keeper.status()["days_failed"].items()
    assert name.startswith("sim BTC-USD TRADES ")
    assert "is not what it was when it was sealed" in why
    assert all(kept.day(TODAY - 10).path(column).exists() for column in COLUMNS["TRADES"])
    kept.writer.close()


async def test_a_late_row_of_a_day_that_was_archived_under_another_policy_loses_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path, archive_after_days=3)
    old = TODAY - 10
    kept.append(*(row(old, number) for number in range(1, 1001)))
    assert await kept.keep() == {"archived": 1}
    kept.writer.close()
    longer = Kept(tmp_path, archive_after_days=30)
    longer.append(row(old, 2000))
    longer.writer.close()
    shorter = Kept(tmp_path, archive_after_days=9)
    assert await shorter.keep() == {"archived": 1}
    shorter.writer.close()
    archived = Archive(str(tmp_path / "archive")).get("sim", "BTC-USD", "TRADES", old)
    assert archived is not None
    assert len(archived["id"]) == 1001


@pytest.mark.parametrize("policy", [{"archive_after_days": 3}, {"keep_days": {"TRADES": 3}}])
async def test_a_day_goes_once_that_is_written_down(tmp_path: Path, policy: dict[str, Any]) -> None:
    kept, old = Kept(tmp_path, **policy), TODAY - 10
    kept.append(row(old, 1), row(TODAY, 1))
    kept.full = True
    assert await kept.keep() == {"open": 1, "failed": 1}
    assert kept.keeper.status()["days_failed"] == {
        f"sim BTC-USD TRADES {day_name(old)}": "[Errno 28] No space left on device"
    }
    assert everything(kept.root) == [row(old, 1), row(TODAY, 1)]
    kept.full = False
    await kept.keep()
    assert (kept.gone, everything(kept.root)) == ([old], [row(TODAY, 1)])
    kept.writer.close()


async def test_an_archive_that_is_away_for_a_moment_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, keep_days={"TRADES": 30})
    kept.append(row(TODAY - 2, 1))

    def days(self: Archive, *name: str) -> list[int]:
        raise OSError("cannot reach the bucket")

    monkeypatch.setattr(Archive, "days", days)
    assert await kept.keep() == {"sealed": 1, "failed": 1}
    assert kept.keeper.status()["days_failed"] == {"sim BTC-USD TRADES archived": "cannot reach the bucket"}
