"""Days that the policy archives or lets go of are not missing."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.audit import _Audit, _Disks
from config import load
from storage.column_layout import NANOS_PER_DAY
from tests.actors.batches import SECOND, trades
from tests.actors.shards import Shard

TODAY = time.time_ns() // NANOS_PER_DAY


@pytest.mark.parametrize("policy", [{"archive_after_days": 3}, {"keep_days": {"TRADES": 3}}])
async def test_days_that_went_by_the_policy_are_not_missing(tmp_path: Path, policy: dict[str, Any]) -> None:
    settings = load(tmp_path, {"shards": 1, "columns_policy": policy})
    shard = Shard(settings)
    rows = [
        ("BTCUSDT", day * NANOS_PER_DAY + i * SECOND, n * 100 + i, 1.0, 1.0, 0)
        for n, day in enumerate((TODAY - 10, TODAY))
        for i in range(100)
    ]
    await shard.send("binance", {"trades": trades(rows)}, rows[-1][1])
    for path in settings.columns.rglob("*.bin"):
        os.utime(path, ns=(time.time_ns() - NANOS_PER_DAY,) * 2)
    await shard._keep_days()
    await shard.stop()
    (row,) = _Audit(settings, _Disks(settings), None, False).run(tmp_path, None, None)
    assert (row.stored, row.missing, row.ranges) == (100, 0, [])
    assert row.whole
