"""Days that the policy archives or lets go of are not missing."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.audit import _Audit, _Disks
from config import load
from storage.column_layout import NANOS_PER_DAY, day_name
from tests.actors.batches import SECOND, trades
from tests.actors.shards import Shard

TODAY = time.time_ns() // NANOS_PER_DAY


async def send_two_days(shard: Shard) -> None:
    """A hundred trades of ten days ago and a hundred of today, with ids that count up."""
    rows = [
        ("BTCUSDT", day * NANOS_PER_DAY + i * SECOND, n * 100 + i, 1.0, 1.0, 0)
        for n, day in enumerate((TODAY - 10, TODAY))
        for i in range(100)
    ]
    await shard.send("binance", {"trades": trades(rows)}, rows[-1][1])


@pytest.mark.parametrize("policy", [{"archive_after_days": 3}, {"keep_days": {"TRADES": 3}}])
@pytest.mark.parametrize("ended", ["stopped", "killed"])
async def test_days_that_went_by_the_policy_are_not_missing(tmp_path: Path, policy: dict[str, Any], ended: str) -> None:
    settings = load(tmp_path, {"shards": 1, "columns_policy": policy})
    shard = Shard(settings)
    await send_two_days(shard)
    for path in settings.columns.rglob("*.bin"):
        os.utime(path, ns=(time.time_ns() - NANOS_PER_DAY,) * 2)
    await shard._keep_days()
    if ended == "stopped":
        await shard.stop()
    else:
        shard.kill()
    loosened = load(tmp_path, {"shards": 1, "columns_policy": {}})
    for now in (settings, loosened):
        (row,) = _Audit(now, _Disks(now), None, False).run(tmp_path, None, None)
        assert (row.stored, row.missing, row.ranges) == (100, 0, [])
        assert row.whole
    await Shard(loosened).stop()
    (row,) = _Audit(loosened, _Disks(loosened), None, False).run(tmp_path, None, None)
    assert (row.stored, row.missing, row.whole) == (100, 0, True), "what was said is kept"


async def test_days_that_nobody_let_go_of_are_missing(tmp_path: Path) -> None:
    settings = load(tmp_path, {"shards": 1})
    shard = Shard(settings)
    await send_two_days(shard)
    await shard.stop()
    for path in settings.columns.rglob(f"*{day_name(TODAY - 10)}*"):
        path.unlink()
    (row,) = _Audit(settings, _Disks(settings), None, False).run(tmp_path, None, None)
    assert (row.stored, row.missing, row.whole) == (100, 100, False)
