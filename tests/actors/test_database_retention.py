"""What ClickHouse is to keep: by the settings of now, also for a gateway that Ray has made again with those of then."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.configuration import Configuration
from actors.database import Database
from config import load
from storage.schema import TRADES

DAY = 86_400 * 10**9


def trades(ids: list[int], ts: int) -> pa.Table:
    known = np.array(ids)
    columns: dict[str, Any] = {
        "symbol": pa.array(["BTCUSDT"] * known.size).dictionary_encode(),
        "ts_event": np.full(known.size, ts),
        "ts_recv": np.full(known.size, ts),
        "trade_id": known,
        "price": np.full(known.size, 1.5),
        "size": np.full(known.size, 0.1),
        "side": np.zeros(known.size, np.uint8),
        "maker_order_id": pa.nulls(known.size, pa.binary(16)),
        "taker_order_id": pa.nulls(known.size, pa.binary(16)),
    }
    return pa.table(columns).cast(TRADES)


async def count(database: Database) -> int:
    return int((await database.query("SELECT count() AS n FROM trades"))["n"][0].as_py())


async def test_a_restarted_gateway_keeps_what_is_to_be_kept_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    began_with = load(tmp_path, {"retention": {"trades": 30}}).model_copy(update={"clickhouse_url": None})
    database = Database(began_with)
    configuration = Configuration(began_with)
    configuration.change({"retention": {"trades": 3650}}, "keep all", "me", 0)
    await database.configure(configuration.settings)
    await database.insert("trades", "binance", trades([1, 2, 3], now - 60 * DAY))
    await database.insert("trades", "binance", trades([4, 5], now))
    assert await database.flush()
    assert await count(database) == 5
    await database.stop()

    monkeypatch.setattr("actors.database.is_made_again", lambda: True, raising=False)
    # Ray makes it again with what it was made with at first, and makes again the calls that waited.
    database = Database(began_with)
    await database.insert("trades", "binance", trades([6], now))
    assert await database.flush()
    # By now the supervisor has seen that it has another process.
    await database.configure(configuration.settings)
    await database.insert("trades", "binance", trades([7], now))
    assert await database.flush()
    found = await count(database)
    await database.stop()
    configuration.close()
    assert found == 7
