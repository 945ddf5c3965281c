"""A shard judges every live trade once, whatever is killed when, and treats all of them alike."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.aggregation.quality_kernels import HOUR_NS
from actors.parcels import Key
from actors.stored_quality import StoredQuality
from config import Settings, load
from tests.actors.aggregation.plain_quality import SECOND, Trade, batch, many, walk
from tests.actors.batches import NOON, trades
from tests.actors.shards import Shard, Taken, stored_ids
from tests.polling import until

CHECKOUT = Path(__file__).parents[2]
EXCHANGE, SYMBOL = "binance", "BTCUSDT"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})


async def report(shard: Shard, symbol: str = SYMBOL, hours: int = 24) -> dict[str, Any]:
    (row,) = await shard.quality(EXCHANGE, symbol, hours)
    return row


async def test_a_trade_that_fails_is_stored_and_served_like_every_other(settings: Settings) -> None:
    sink = Taken()
    shard = Shard(settings, sink)
    made = many(SYMBOL, [100.0] * 20 + [300.0], NOON)
    await shard.send(EXCHANGE, {"trades": batch(made)}, NOON)
    assert stored_ids(settings, EXCHANGE, SYMBOL) == [*range(1, 22)]
    assert (await shard.bars(EXCHANGE, SYMBOL, "1h", 1)).column("high").to_pylist() == [300.0]
    assert (await shard.quarantine(EXCHANGE, SYMBOL)).column("trade_id").to_pylist() == [21]
    row = await report(shard)
    (failure,) = row.pop("recent_failures")
    assert (failure["time"], failure["check_type"]) == (NOON + 20 * SECOND + 20_000_000, "price_anomaly")
    assert row == {
        "exchange": EXCHANGE,
        "symbol": SYMBOL,
        "hours": 24,
        "quality_score": 20 / 21,
        "score": pytest.approx(0.9),
        "total_checks": 21,
        "passed_checks": 20,
        "failed_checks": 1,
        "failed": {"valid_values": 0, "data_freshness": 0, "price_anomaly": 1, "volume_sanity": 0},
        "zero_sizes": 0,
        "duplicates": 0,
        "level_shifts": 0,
        "silences": 0,
        "lateness_ms": pytest.approx(20),
        "last_trade": NOON + 20 * SECOND,
        "completeness": 1.0,
        "recent_level_shifts": [],
        "recent_silences": [],
    }
    assert (await shard.status())["flagged"] == 1
    assert await shard.clear_quarantine(EXCHANGE, SYMBOL) == 1
    assert (await report(shard))["recent_failures"] == []
    await shard.stop()
    assert len(sink.rows("trades")) == 21


async def test_trades_that_are_old_by_nature_are_not_judged(settings: Settings) -> None:
    shard = Shard(settings)
    await shard.send(EXCHANGE, {"trades": trades([(SYMBOL, NOON, 10, 100.0, 1.0, 0)])}, NOON)
    old = [Trade(SYMBOL, NOON - HOUR_NS + n, NOON, n, 500.0, 1.0) for n in range(5, 10)]
    await shard.send(EXCHANGE, {"backfill": batch(old)}, NOON)
    assert stored_ids(settings, EXCHANGE, SYMBOL) == [*range(5, 11)]
    assert ((await report(shard))["total_checks"], (await report(shard))["silences"]) == (1, 0)
    await shard.stop()


async def test_duplicates_are_counted_and_not_judged_again(settings: Settings) -> None:
    shard = Shard(settings)
    made = many(SYMBOL, [100.0] * 10, NOON)
    await shard.send(EXCHANGE, {"trades": batch(made)}, NOON)
    await shard.send(EXCHANGE, {"trades": batch([*made[5:], *many(SYMBOL, [100.0], NOON, first_id=99) * 2])}, NOON)
    row = await report(shard)
    assert (row["total_checks"], row["duplicates"]) == (11, 6)
    await shard.stop()


async def test_what_the_exchange_counted_and_nobody_has_shows_as_incomplete(settings: Settings) -> None:
    shard = Shard(settings)
    made = many(SYMBOL, [100.0] * 10, NOON)
    await shard.send(EXCHANGE, {"trades": batch(made[:4] + made[6:])}, NOON)
    assert (await report(shard))["completeness"] == 0.8
    await shard.send(EXCHANGE, {"backfill": batch(made[4:6])}, NOON)
    assert (await report(shard))["completeness"] == 1.0
    await shard.send("bitfinex", {"trades": batch(made)}, NOON, proof="numbered")
    (row,) = await shard.quality("bitfinex", None, 24)
    assert row["completeness"] is None
    await shard.stop()


async def test_rows_of_all_symbols_or_of_those_of_an_exchange_or_of_a_name(settings: Settings) -> None:
    shard = Shard(settings)
    for exchange in ("binance", "kraken"):
        made = many("BTC/USD", [100.0] * 3, NOON) + many("ETH/USD", [7.0] * 3, NOON)
        await shard.send(exchange, {"trades": batch(made)}, NOON)

    async def named(exchange: str | None, symbol: str | None) -> list[tuple[str, str]]:
        return [(row["exchange"], row["symbol"]) for row in await shard.quality(exchange, symbol, 1)]

    assert len(await named(None, None)) == 4
    assert await named("kraken", None) == [("kraken", "BTC/USD"), ("kraken", "ETH/USD")]
    assert await named(None, "ETH_USD") == [("binance", "ETH/USD"), ("kraken", "ETH/USD")]
    assert await named("kraken", "NOPE") == await named("nasdaq", None) == []
    await shard.stop()


async def test_hours_reach_the_sink_when_they_are_due_and_at_the_end_and_again_when_it_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, away, refused = Taken(), True, 0

    async def sometimes(tables: Mapping[Key, pa.Table]) -> None:
        nonlocal refused
        if ("quality", EXCHANGE) in tables and away:
            refused += 1
            raise ConnectionError("gone")
        await sink(tables)

    monkeypatch.setattr("actors.stored_quality.TELL_INTERVAL_S", 0.02)
    shard = Shard(settings, sometimes)
    await shard.send(EXCHANGE, {"trades": batch(many(SYMBOL, [100.0] * 5, NOON))}, NOON)
    await until(lambda: refused >= 2)
    away = False
    await until(lambda: bool(sink.rows("quality")))
    monkeypatch.setattr("actors.stored_quality.TELL_INTERVAL_S", 60.0)
    await shard.send(EXCHANGE, {"trades": batch(many(SYMBOL, [100.0] * 5, NOON + SECOND, first_id=50))}, NOON)
    await shard.stop()
    totals = [(row["symbol"], row["time"], row["total"]) for row in sink.rows("quality")]
    assert (totals[0], totals[-1]) == ((SYMBOL, NOON, 5), (SYMBOL, NOON, 10))


async def test_a_restarted_shard_goes_on_with_score_history_and_counts(settings: Settings) -> None:
    first = Shard(settings)
    await first.send(EXCHANGE, {"trades": batch(many(SYMBOL, [100.0] * 20 + [300.0] * 9, NOON))}, NOON)
    before = await report(first)
    first.kill()
    sink = Taken()
    second = Shard(settings, sink)
    assert await report(second) == before
    after = many(SYMBOL, [300.0] * 5, NOON + 29 * SECOND, first_id=30)
    await second.send(EXCHANGE, {"trades": batch(after)}, NOON)
    row = await report(second)
    assert (row["level_shifts"], row["failed"]["price_anomaly"], row["total_checks"]) == (1, 10, 34)
    assert row["recent_level_shifts"][0]["from_ns"] == NOON + 20 * SECOND
    await second.stop()
    assert [told["total"] for told in sink.rows("quality")] == [34]


async def test_another_number_of_shards_takes_over_what_was_known(settings: Settings) -> None:
    symbols = [f"S{n}" for n in range(40)]
    alone = Shard(settings)
    await alone.send(EXCHANGE, {"trades": batch(t for name in symbols for t in many(name, [9.0] * 5, NOON))}, NOON)
    await alone.stop()
    two = settings.model_copy(update={"shards": 2})
    for known in (5, 6):
        shards = [Shard(two, index=index) for index in range(2)]
        rows = [await shard.quality(EXCHANGE, None, 24) for shard in shards]
        assert sorted(row["symbol"] for own in rows for row in own) == sorted(symbols)
        assert all(row["total_checks"] == known for own in rows for row in own)
        for shard, own in zip(shards, rows, strict=True):
            assert own
            made = (t for row in own for t in many(row["symbol"], [9.0], NOON + SECOND * known, first_id=known + 1))
            await shard.send(EXCHANGE, {"trades": batch(made)}, NOON)
            await shard.stop()
    one = Shard(settings)
    assert {row["total_checks"] for row in await one.quality(EXCHANGE, None, 24)} == {7}
    await one.stop()


class Killed(BaseException):
    """Nothing this process does after it has an effect."""


@pytest.mark.parametrize("judged", [0, 7, 30])
async def test_trades_stored_but_not_judged_when_the_shard_was_killed_are_judged_when_they_come_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, judged: int
) -> None:
    judge = StoredQuality.judge

    def dies(self: StoredQuality, exchange: str, rows: pa.RecordBatch) -> None:
        judge(self, exchange, rows.slice(0, judged))
        raise Killed

    first = Shard(settings)
    before, later = (
        batch(
            t for name in ("A", "B", "C") for t in many(name, walk(10, seed), NOON + seed * 60 * SECOND, first_id=id_)
        )
        for seed, id_ in ((1, 1), (2, 11))
    )
    await first.send(EXCHANGE, {"trades": before}, NOON)
    for task in first._tasks:
        task.cancel()
    sending = asyncio.create_task(first.send(EXCHANGE, {"trades": later}, NOON))
    await asyncio.sleep(0)
    with monkeypatch.context() as context:
        context.setattr(StoredQuality, "judge", dies)
        with pytest.raises(Killed):
            await first._commit()
    sending.cancel()
    second = Shard(settings)
    for _ in range(2):
        await second.send(EXCHANGE, {"trades": later}, NOON)
        rows = await second.quality(EXCHANGE, None, 24)
        assert [(row["symbol"], row["total_checks"]) for row in rows] == [("A", 20), ("B", 20), ("C", 20)]
    assert stored_ids(settings, EXCHANGE, "C") == [*range(1, 21)]
    await second.stop()


COMMITTING = """
import asyncio, sys
from pathlib import Path
from config import load
from tests.actors.shards import Shard
from tests.actors.test_symbol_shard_quality import EXCHANGE, NOON, commit_of
async def run():
    shard = Shard(load(Path(sys.argv[1]), {"shards": 1, "shard": {"commit_interval_ms": 1}}))
    number = int(sys.argv[2])
    while True:
        await shard.send(EXCHANGE, {"trades": commit_of(number)}, NOON)
        number += 1
        print(number, flush=True)
asyncio.run(run())
"""
MANY = [f"S{n}" for n in range(30)]


def commit_of(number: int) -> pa.RecordBatch:
    """200 trades of each of many symbols."""
    ids = np.repeat(np.arange(200) + number * 200 + 1, len(MANY))
    made = pa.array((NOON + ids * 1_000_000).tolist(), pa.int64())
    count = len(ids)
    columns: list[Any] = [
        pa.DictionaryArray.from_arrays(pa.array(np.tile(np.arange(len(MANY), dtype=np.int32), 200)), pa.array(MANY)),
        *[made] * 2,
        pa.array(ids),
        *[pa.array(np.full(count, 7.0))] * 2,
        pa.array(np.zeros(count, np.uint8)),
        *[pa.nulls(count, pa.binary(16))] * 2,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch([]).schema)


def commit_until_killed(data: Path, number: int, commits: int) -> int:
    """Begin with that commit, in a process of its own that is killed within those after so many; which was not
    acknowledged."""
    command = [sys.executable, "-c", COMMITTING, str(data), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as child:
        assert child.stdout is not None
        for _ in range(commits):
            number = int(child.stdout.readline())
        time.sleep(0.007 * commits)
        child.send_signal(signal.SIGKILL)
        return max([number, *map(int, child.stdout)])


async def test_a_shard_killed_at_any_moment_loses_and_doubles_no_verdict(tmp_path: Path) -> None:
    number = 0
    for commits in (3, 5, 4):
        number = await asyncio.to_thread(commit_until_killed, tmp_path, number, commits)
    shard = Shard(load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 1}}))
    await shard.send(EXCHANGE, {"trades": commit_of(number)}, NOON)
    rows = await shard.quality(EXCHANGE, None, 168)
    expected = (number + 1) * 200
    assert [(row["total_checks"], row["passed_checks"]) for row in rows] == [(expected, expected)] * len(MANY)
    assert len(stored_ids(load(tmp_path), EXCHANGE, MANY[-1])) == expected
    await shard.stop()


async def test_a_full_disk_delays_new_symbols_and_every_trade_is_judged_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard = Shard(settings)
    await shard.send(EXCHANGE, {"trades": batch(many("A", [1.0] * 5, NOON))}, NOON)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    names = [f"S{n}" for n in range(20)]
    with monkeypatch.context() as context:
        context.setattr(os, "posix_fallocate", full)
        more = batch(t for name in names for t in many(name, [1.0] * 5, NOON))
        sending = asyncio.create_task(shard.send(EXCHANGE, {"trades": more}, NOON))

        async def says_so() -> bool:
            return "No space left" in (await shard.status())["failure"]

        await until(says_so)
        assert not sending.done()
    await sending
    rows = await shard.quality(EXCHANGE, None, 24)
    assert {row["symbol"]: row["total_checks"] for row in rows} == dict.fromkeys(["A", *names], 5)
    bars = await shard.bars(EXCHANGE, "S19", "1h", 1)
    assert bars.column("trade_count").to_pylist() == [5]
    await shard.stop()
