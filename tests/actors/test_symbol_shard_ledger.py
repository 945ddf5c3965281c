"""A shard's ledger with real column files: it is true to them whatever is killed, sent again, left out or filled."""

import asyncio
import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.ledger.account import AFTER_A_CRASH, NOT_CONTIGUOUS
from actors.ledger.origin import Origin
from actors.parcels import Key, packed
from config import Settings, load
from storage.ledger_log import Gap
from storage.schema import GAPS
from tests.actors.batches import NOON, SECOND, breaks, merged, trades
from tests.actors.shards import Shard, Taken, stored_ids
from tests.polling import until

BTC = "BTCUSDT"
DAY = 86_400 * SECOND


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return fresh(tmp_path)


def fresh(data: Path, **shard: int) -> Settings:
    return load(data, {"shards": 1, "shard": {"commit_interval_ms": 1, "share_interval_ms": 5, **shard}})


def ids(*numbers: int, symbol: str = BTC, ns: int | None = None) -> pa.RecordBatch:
    """One trade a second, by id, unless they are all at `ns`."""
    return trades([(symbol, NOON + one * SECOND if ns is None else ns, one, 100.0 + one, 1.0, 0) for one in numbers])


async def row(shard: Shard, symbol: str = BTC) -> dict[str, Any]:
    return next(one for one in await shard.integrity(None) if one["symbol"] == symbol)


async def open_ids(shard: Shard) -> list[tuple[int | None, int | None]]:
    return [(gap.first_id, gap.last_id) for gap in await shard.gaps(None)]


class Killed(BaseException):
    """Instead of a write the process was killed."""


@contextmanager
def killed_at_write(number: int) -> Iterator[asyncio.Event]:
    """The write of that number from here on reaches the disk in part, and no later one at all."""
    real, left, dead = os.pwrite, [number], asyncio.Event()

    def pwrite(descriptor: int, content: Any, offset: int) -> int:
        left[0] -= 1
        if left[0] == 0:
            real(descriptor, bytes(content)[: len(bytes(content)) // 2], offset)
        if left[0] <= 0:
            dead.set()
            raise Killed
        return real(descriptor, content, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        yield dead


async def delivered(shard: Shard, batches: list[dict[str, pa.RecordBatch]], done: int, dead: asyncio.Event) -> int:
    """Send what is not acknowledged yet, one after another, until the end or the shard's death; how many now are."""
    while done < len(batches):
        sending = asyncio.create_task(shard.append("okx", packed(batches[done]), NOON, Origin(7, done, "ids")))
        dying = asyncio.create_task(dead.wait())
        await asyncio.wait([sending, dying], return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not sending.done():
            sending.cancel()
            break
        done += 1
    return done


def story() -> list[dict[str, pa.RecordBatch]]:
    """Merged trades, a hole, trades of two days, late ones and a backfill that fills it."""
    other = "ETHUSDT"
    return [
        {"trades": ids(103, 104), "merged": merged([(BTC, 103, 3)])},
        {"trades": ids(110, 112), "merged": merged([(BTC, 112, 2)]), "breaks": breaks([(BTC, 0, NOON, "a new start")])},
        {"trades": ids(5, 9, symbol=other), "backfill": ids(105, 106, 107)},
        {"backfill": ids(108, 109, 110)},
        {"trades": ids(8, 7, symbol=other), "history": ids(6, symbol=other)},
    ]


async def test_killed_at_any_write_and_sent_again_every_trade_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is the process that dies, not the machine.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    batches = story()
    writes = 0
    while True:
        writes += 1
        settings = fresh(tmp_path / str(writes))
        shard = Shard(settings)
        with killed_at_write(writes) as dead:
            done = await delivered(shard, batches, 0, dead)
        survived = not dead.is_set()
        if not survived:
            shard.kill()
            shard = Shard(settings)
            assert await delivered(shard, batches, done, asyncio.Event()) == len(batches)
        assert stored_ids(settings, "okx", BTC) == [103, 104, 105, 106, 107, 108, 109, 110, 112]
        assert stored_ids(settings, "okx", "ETHUSDT") == [5, 6, 7, 8, 9]
        assert await shard.gaps(None) == []
        btc = await row(shard)
        assert (btc["state"], btc["first_id"], btc["last_id"]) == ("synced", 101, 112)
        assert (btc["trades"], btc["merged"], btc["missing"], btc["earlier"]) == (9, 3, 0, 0)
        shard.kill()
        assert (await row(again := Shard(settings)))["trades"] == 9
        assert await again.gaps(None) == []
        if survived:
            break
    assert writes > 40, "the story was never cut"


@pytest.mark.parametrize("together", [True, False])
async def test_what_a_merged_trade_stands_for_is_never_said_of_another_way_it_came(
    settings: Settings, together: bool
) -> None:
    shard = Shard(settings)
    await shard.send("okx", {"trades": ids(101)}, NOON)
    steps: list[dict[str, pa.RecordBatch]] = [
        {"trades": ids(104), "merged": merged([(BTC, 104, 3)])},
        {"backfill": ids(104)},
        {"trades": ids(110)},
        {"backfill": ids(109)},
        {"trades": ids(109), "merged": merged([(BTC, 109, 5)])},
    ]
    if together:
        await asyncio.gather(*(shard.send("okx", step, NOON) for step in steps))
    else:
        for step in steps:
            await shard.send("okx", step, NOON)
    before, gaps = await row(shard), await open_ids(shard)
    shard.kill()
    again = Shard(settings)
    assert (await open_ids(again), (await row(again))["missing"]) == (gaps, before["missing"])
    assert (await row(again))["trades"] == before["trades"] == len(stored_ids(settings, "okx", BTC))
    await again.send("okx", {"backfill": ids(*range(102, 111))}, NOON, epoch=2)
    assert (await row(again))["missing"] == 0
    await again.stop()


async def test_a_hole_is_a_row_at_once_and_the_sender_is_told(settings: Settings) -> None:
    sink = Taken()
    shard = Shard(settings, sink)
    assert await shard.send("binance", {"trades": ids(1, 2)}, NOON) == 0
    assert await shard.send("binance", {"trades": ids(5)}, NOON) == 1
    gap = (await shard.gaps("binance"))[0]
    assert (gap.exchange, gap.symbol, gap.first_id, gap.last_id, gap.missing) == ("binance", BTC, 3, 4, 2)
    assert await shard.gaps("coinbase") == []
    assert await shard.send("binance", {"backfill": ids(2, 3, 4, 5)}, NOON) == 0
    await shard.stop()
    assert stored_ids(settings, "binance", BTC) == [1, 2, 3, 4, 5]
    shown = [r for r in sink.rows("gaps") if r["closed"] is not None][-1]
    assert list(shown) == GAPS.names
    assert (shown["backfilled"], shown["missing"], shown["evidence"]) == (
        2,
        0,
        "every id is stored: 2 trades by backfill",
    )


async def test_a_batch_that_came_before_is_dropped_and_acknowledged_and_a_jump_is_counted(settings: Settings) -> None:
    shard = Shard(settings)
    origin = Origin(1, 0, "ids")
    both = [shard.append("binance", packed({"trades": ids(one)}), NOON, origin) for one in (1, 2)]
    assert await asyncio.gather(*both) == [0, 0]
    await shard.append("binance", packed({"trades": ids(2)}), NOON, Origin(1, 5, "ids"))
    await shard.append("binance", packed({"trades": ids(3)}), NOON, Origin(1, 4, "ids"))
    status = await shard.status()
    assert (status["batches_repeated"], status["batches_jumped"]) == (1, 1)
    assert stored_ids(settings, "binance", BTC) == [1, 2, 3]
    await shard.stop()


async def test_after_a_restart_the_first_live_trade_behind_the_last_stored_one_opens_a_gap(settings: Settings) -> None:
    first = Shard(settings)
    await first.send("binance", {"trades": ids(1, 2, 3)}, NOON)
    first.kill()
    second = Shard(settings)
    new = breaks([(BTC, 0, NOON + 9 * SECOND, "the collector was started")])
    assert await second.send("binance", {"breaks": new, "trades": ids(10)}, NOON, epoch=2) == 1
    gap = (await second.gaps(None))[0]
    assert (gap.first_id, gap.last_id, gap.reason) == (4, 9, "the collector was started")
    assert (gap.from_ns, gap.to_ns) == (NOON + 3 * SECOND, NOON + 10 * SECOND)
    await second.stop()


async def test_without_its_log_the_ledger_is_what_the_files_show(settings: Settings) -> None:
    first = Shard(settings)
    await first.send("binance", {"trades": ids(1, 2, 6)}, NOON)
    await first.stop()
    for log in (settings.data / "ledger").iterdir():
        log.unlink()
    second = Shard(settings)
    await second.send("binance", {"trades": ids(7)}, NOON)
    assert [(gap.first_id, gap.last_id, gap.reason) for gap in await second.gaps(None)] == [(3, 5, AFTER_A_CRASH)]
    assert ((await row(second))["trades"], (await row(second))["missing"]) == (4, 3)
    await second.stop()


async def test_a_start_with_a_checkpoint_reads_no_day_that_did_not_change(settings: Settings, tmp_path: Path) -> None:
    first = Shard(settings)
    await first.send("binance", {"trades": ids(1, 2, 5)}, NOON)
    await first.stop()
    # Behind the checkpoint's back: a day it has spoken of is not looked at again.
    folder = settings.columns / "binance" / BTC / "TRADES"
    for file in folder.iterdir():
        os.utime(file, ns=(0, 0))
    file = next(folder.glob("id.*"))
    file.write_bytes(bytes(8 * 3))
    second = Shard(settings)
    assert ((await row(second))["first_id"], (await row(second))["last_id"]) == (1, 5)
    assert await open_ids(second) == [(3, 4)]
    second.kill()


@pytest.mark.parametrize("ahead_s", [20, 86_400])
async def test_a_clock_that_was_ahead_and_is_set_back_makes_no_trade_come_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + ahead_s * SECOND)
    shard = Shard(settings)
    await shard.send("okx", {"trades": ids(1, 2, 3)}, NOON)
    await shard.stop()
    monkeypatch.setattr(time, "time_ns", now_ns)
    shard = Shard(settings)
    await shard.send("okx", {"trades": ids(4, 5, 6)}, NOON)
    shard.kill()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + (ahead_s + 1) * SECOND)

    shard = Shard(settings)
    await shard.send("okx", {"trades": ids(5, 6, 7)}, NOON, epoch=2)
    assert await open_ids(shard) == []
    await shard.send("okx", {"backfill": ids(3, 4, 5)}, NOON, epoch=2)
    assert stored_ids(settings, "okx", BTC) == [1, 2, 3, 4, 5, 6, 7]
    await shard.stop()


@pytest.mark.parametrize("stopped", [True, False])
async def test_open_and_closed_rows_survive_a_restart(settings: Settings, stopped: bool) -> None:
    first = Shard(settings)
    await first.send("binance", {"trades": ids(1, 3, 7)}, NOON)
    await first.send("binance", {"trades": ids(2)}, NOON)
    open_gap = (await first.gaps(None))[0]
    await first.attempted("binance", BTC, open_gap.gap_id, False, "the exchange said 503", NOON)
    before = await first.gaps(None, open_only=False)
    await (first.stop() if stopped else asyncio.sleep(0))
    first.kill()
    sink = Taken()
    second = Shard(settings, sink)
    assert [gap.gap_id for gap in await second.gaps(None, open_only=False)] == [gap.gap_id for gap in before]
    kept = (await second.gaps(None))[0]
    assert (kept.first_id, kept.last_id, kept.opened, kept.missing) == (4, 6, open_gap.opened, 3)
    assert (kept.attempts, kept.evidence) == (1, "the exchange said 503")
    await second.send("binance", {"backfill": ids(4, 5, 6)}, NOON)
    await second.stop()
    # Whoever was not told before the crash is told now.
    assert {r["gap_id"] for r in sink.rows("gaps")} == {gap.gap_id for gap in before}


async def test_rows_a_sink_refused_are_shown_again(settings: Settings) -> None:
    taken = Taken()
    refused: list[str] = []

    async def sink(tables: Mapping[Key, pa.Table]) -> None:
        if ("gaps", "binance") in tables and len(refused) < 3:
            refused.append("gaps")
            raise ConnectionError("gone")
        await taken(tables)

    shard = Shard(settings, sink)
    await shard.send("binance", {"trades": ids(1, 3)}, NOON)

    async def shown() -> bool:
        return [r["first_id"] for r in taken.rows("gaps")] == [2]

    await until(shown)
    await shard.stop()


async def test_a_window_opens_before_its_trades_are_stored_and_closes_with_evidence(settings: Settings) -> None:
    shard = Shard(settings)
    await shard.send("bybit", {"trades": ids(900, ns=NOON)}, NOON, "recent")
    lost = breaks([(BTC, NOON, NOON + 9 * SECOND, "connection lost"), ("NEVER", 0, NOON, "connection lost")])
    assert await shard.send("bybit", {"breaks": lost, "trades": ids(4, ns=NOON + 9 * SECOND)}, NOON, "recent") == 1
    gap = (await shard.gaps("bybit"))[0]
    shard.kill()
    shard = Shard(settings)
    assert await shard.send("bybit", {"backfill": ids(77, ns=NOON + 3 * SECOND)}, NOON, "recent", epoch=2) == 1
    await shard.attempted("bybit", BTC, gap.gap_id, True, "both ends seen in 1 page", NOON)
    assert await shard.gaps("bybit") == []
    closed = (await shard.gaps("bybit", open_only=False))[0]
    assert (closed.backfilled, closed.evidence, closed.missing) == (1, "both ends seen in 1 page", None)
    assert (await row(shard))["state"] == "synced"
    assert [one["symbol"] for one in await shard.integrity("bybit")] == [BTC]
    assert ((await row(shard))["trades"], (await row(shard))["missing"]) == (3, None)
    await shard.stop()


async def test_a_full_disk_keeps_the_ledger_true(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.001)
    shard = Shard(settings)
    await shard.send("okx", {"trades": ids(1)}, NOON)
    real, calls = os.pwrite, [0]

    def sometimes_full(*write: Any) -> int:
        calls[0] += 1
        if calls[0] % 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*write)

    monkeypatch.setattr(os, "pwrite", sometimes_full)
    sending = asyncio.create_task(
        shard.send("okx", {"trades": ids(4, 9), "merged": merged([(BTC, 9, 4)])}, NOON, epoch=1)
    )

    async def tried() -> bool:
        return calls[0] > 50

    await until(tried)
    monkeypatch.setattr(os, "pwrite", real)
    assert await sending == 2
    assert await open_ids(shard) == [(2, 3), (5, 5)]
    assert stored_ids(settings, "okx", BTC) == [1, 4, 9]
    await shard.stop()


async def test_what_a_failed_commit_has_stored_is_accounted_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.001)
    names = ("AAA", "BBB", "CCC")
    shard = Shard(settings)
    for name in names:
        await shard.send("binance", {"trades": ids(1, symbol=name)}, NOON)
    both = pa.Table.from_batches([ids(2, 4, symbol=name) for name in names]).unify_dictionaries().combine_chunks()
    real, calls = os.pwrite, [0]

    def full_for_a_moment(*write: Any) -> int:
        calls[0] += 1
        if calls[0] in (11, 25):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*write)

    monkeypatch.setattr(os, "pwrite", full_for_a_moment)
    assert await shard.send("binance", {"trades": both.to_batches()[0]}, NOON) == 3
    assert calls[0] > 25
    for name in names:
        known = await row(shard, name)
        assert (known["trades"], known["missing"], known["earlier"]) == (3, 1, 0)
        assert stored_ids(settings, "binance", name) == [1, 2, 4]
    await shard.stop()


async def test_ids_that_are_never_contiguous_stop_no_feed_and_the_state_says_so_for_good(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.ledger.series.MOST_RANGES", 50)
    sink = Taken()
    shard = Shard(settings, sink)
    for first in range(0, 120, 20):
        await shard.send("binance", {"trades": ids(*range(first, first + 20, 2))}, NOON)
    assert await shard.send("binance", {"trades": ids(200, 201, 199, 200), "backfill": ids(1, 3, 4)}, NOON) == 1
    shard.kill()
    shard = Shard(settings, sink)
    await shard.send("binance", {"trades": ids(202, 300)}, NOON, epoch=2)
    await shard.stop()
    log = next((settings.data / "ledger").glob("*.log")).read_text()
    (checkpoint,) = (line for line in log.splitlines() if '"checkpoint"' in line)
    assert '"missing":[]' in checkpoint
    shard = Shard(settings, sink)
    gap = (await shard.gaps(None))[0]
    assert (gap.reason, gap.first_id, gap.closed) == (NOT_CONTIGUOUS, None, None)
    await shard.attempted("binance", BTC, gap.gap_id, True, "the exchange showed everything", NOON)
    known = await row(shard)
    assert (known["state"], known["why"], known["missing"], known["gaps_open"]) == ("gapped", NOT_CONTIGUOUS, None, 1)
    assert stored_ids(settings, "binance", BTC) == sorted([*range(0, 120, 2), 1, 3, 199, 200, 201, 202, 300])
    assert [r["closed"] for r in sink.rows("gaps") if r["reason"] == NOT_CONTIGUOUS][-1] is None
    shard.kill()


async def test_a_backfilled_minute_revises_its_bar_across_days_and_after_a_restart(tmp_path: Path) -> None:
    settings = fresh(tmp_path, recent_bars=2)
    shard = Shard(settings)
    midnight = NOON - NOON % DAY + DAY
    times = {1: midnight - 61 * SECOND, 4: midnight + SECOND, 5: midnight + 3600 * SECOND}
    live = trades([(BTC, ns, one, 100.0, 1.0, 0) for one, ns in times.items()])
    await shard.send("binance", {"trades": live}, midnight + DAY)
    await shard.stop()
    sink = Taken()
    shard = Shard(settings, sink)
    late = [(BTC, midnight - 59 * SECOND, 2, 90.0, 2.0, 1), (BTC, midnight + 2 * SECOND, 3, 110.0, 3.0, 1)]
    await shard.send("binance", {"backfill": trades(late)}, midnight + DAY + SECOND)
    await shard.stop()
    bars = {(bar["timeframe"], bar["time"]): (bar["low"], bar["high"], bar["trade_count"]) for bar in sink.rows("bars")}
    assert bars["1m", midnight - 60 * SECOND] == (90.0, 90.0, 1)
    assert bars["1m", midnight] == (100.0, 110.0, 2)
    assert bars["5m", midnight - 300 * SECOND] == (90.0, 100.0, 2)
    assert bars["1d", midnight - DAY] == (90.0, 100.0, 2)
    assert bars["1d", midnight] == (100.0, 110.0, 3)
    assert ("1m", midnight - 120 * SECOND) not in bars
    assert stored_ids(settings, "binance", BTC) == [1, 2, 4, 3, 5]
    assert (await row(Shard(settings)))["missing"] == 0


async def test_a_merge_that_was_cut_short_does_not_keep_the_shard_from_starting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(settings)
    await shard.send("binance", {"trades": ids(1, 2, 5)}, NOON)
    real = Path.replace
    renamed: list[Path] = []

    def replace(path: Path, target: Path) -> Path:
        if path.suffix == ".merge":
            renamed.append(path)
            if len(renamed) > 3:
                raise Killed
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    sending = asyncio.create_task(shard.send("binance", {"backfill": ids(3, 4)}, NOON))

    async def cut() -> bool:
        return len(renamed) > 3

    await until(cut)
    monkeypatch.setattr(Path, "replace", real)
    sending.cancel()
    shard.kill()
    again = Shard(settings)
    assert stored_ids(settings, "binance", BTC) == [1, 2, 3, 4, 5]
    assert await again.gaps(None) == []
    assert (await again.gaps(None, open_only=False))[0].missing == 0
    again.kill()


async def test_another_number_of_shards_takes_the_ledger_along(tmp_path: Path) -> None:
    one = Shard(fresh(tmp_path))
    await one.send("binance", {"trades": ids(1, 4)}, NOON)
    gap = (await one.gaps(None))[0]
    await one.stop()
    three = load(tmp_path, {"shards": 3})
    found: list[Gap] = []
    for index in range(3):
        shard = Shard(three, index=index)
        found += await shard.gaps(None)
        await shard.stop()
    assert [(kept.gap_id, kept.first_id) for kept in found] == [(gap.gap_id, 2)]


async def test_the_log_stays_short(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.symbol_shard.COMPACT_INTERVAL_S", 0.01)
    monkeypatch.setattr("actors.ledger.keeper.COMPACT_BYTES", 20_000)
    shard = Shard(settings)
    log = next((settings.data / "ledger").glob("*.log"))
    biggest = 0
    for number in range(40):
        many = [1_000 * number + 2 * one + 2 for one in range(200)]
        batch = {"trades": ids(*many, ns=NOON + number), "merged": merged([(BTC, one, 2) for one in many])}
        await shard.send("okx", batch, NOON)
        biggest = max(biggest, log.stat().st_size)

    async def short() -> bool:
        return log.stat().st_size < 40_000

    await until(short)
    expected = await row(shard)
    assert expected["merged"] == 8_000
    shard.kill()
    assert await row(Shard(settings)) == expected
