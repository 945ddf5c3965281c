"""Files that somebody else changes while they are open."""

import os
from pathlib import Path

import numpy as np
import pytest

from storage.column_writer import ColumnWriter
from storage.day_files import DamagedDay
from storage.schema import COLUMNS

DAY = 1_755_475_200


def test_a_file_that_became_shorter_while_it_was_open_is_told(tmp_path: Path) -> None:
    def append(*ids: int) -> int:
        known = np.array(ids, "<u8")
        columns = {name: np.zeros(known.size, kind) for name, kind in COLUMNS["TRADES"].items()}
        columns |= {"id": known, "time": (DAY + known).astype("<u4")}
        return int(writer.append("binance", "BTCUSDT", "TRADES", columns).sum())

    writer = ColumnWriter(tmp_path, 64)
    assert append(1, 2, 5) == 3
    [price] = tmp_path.glob("binance/BTCUSDT/TRADES/price64.*")
    os.truncate(price, 8)
    with pytest.raises(DamagedDay, match="became shorter"):
        append(3)
    writer.close()
