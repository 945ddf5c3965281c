"""A shard writes every row once, acknowledges after writing, and comes back from its files."""

import asyncio
import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stored_bars import StoredBars
from actors.symbol_shard import SymbolShard
from config import Settings, load
from storage.column_reader import BeingRewritten, ColumnReader
from storage.column_writer import ColumnWriter
from storage.timeframes import TIMEFRAMES
from tests.actors.batches import NOON, SECOND, quotes, trades
from tests.actors.shards import Shard, Taken, stored_ids
from tests.polling import until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "share_interval_ms": 5}})


async def test_a_batch_is_acknowledged_only_when_it_is_in_the_files(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    batch = trades([("BTCUSDT", NOON, 1, 60000.5, 0.1, 0), ("ETHUSDT", NOON, 7, 3000.5, 0.2, 1)])
    await shard.send("binance", {"trades": batch, "quotes": quotes([("BTCUSDT", NOON, 5, 60000.0, 60001.0)])}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == [1]
    assert stored_ids(settings, "binance", "ETHUSDT") == [7]
    quoted = ColumnReader(settings.columns).select("binance", "BTCUSDT", "MD", 0, 2**62, ["sequence", "best_ask64"])
    assert quoted.column("best_ask64").tolist() == [60001.0]
    await shard.stop()


async def test_what_is_sent_again_counts_once_everywhere(settings: Settings) -> None:
    sink = Taken()
    shard = Shard(settings, sink)
    batch = trades([("BTCUSDT", NOON + i * SECOND, i, 100.0 + i, 1.0, 0) for i in range(5)])
    for _ in range(3):
        await shard.send("binance", {"trades": batch}, NOON + 24 * 3600 * SECOND)
    await shard.stop()
    assert stored_ids(settings, "binance", "BTCUSDT") == [0, 1, 2, 3, 4]
    assert len(sink.rows("trades")) == 5
    told = [bar for bar in sink.rows("bars") if bar["closed"]]
    assert [(bar["timeframe"], bar["trade_count"]) for bar in told if bar["timeframe"] != "1s"] == [
        (timeframe, 5) for timeframe in ("1m", "5m", "15m", "1h", "4h", "1d")
    ]


async def test_symbols_of_two_exchanges_do_not_mix(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    for exchange in ("binance", "coinbase"):
        await shard.send(exchange, {"trades": trades([("BTC-USD", NOON, 1, 1.0, 1.0, 0)])}, NOON)
    assert (await shard.bars("binance", "BTC-USD", "1m", 5)).column("trade_count").to_pylist() == [1]
    assert stored_ids(settings, "coinbase", "BTC-USD") == [1]
    await shard.stop()


async def test_a_restarted_shard_has_its_bars_again_and_knows_what_it_stored(settings: Settings) -> None:
    first = Shard(settings, Taken())
    batch = trades([("BTCUSDT", NOON + i * 20 * SECOND, i, 100.0 + i, 1.0, i % 2) for i in range(10)])
    await first.send("binance", {"trades": batch}, NOON)
    before = (await first.bars("binance", "BTCUSDT", "1m", 100)).drop_columns(["closed", "revision"])
    await first.stop()
    second = Shard(settings, Taken())
    assert (await second.bars("binance", "BTCUSDT", "1m", 100)).drop_columns(["closed", "revision"]).equals(before)
    await second.send("binance", {"trades": batch}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == list(range(10))
    assert (await second.bars("binance", "BTCUSDT", "1m", 100)).drop_columns(["closed", "revision"]).equals(before)
    await second.stop()


@pytest.mark.parametrize("unreadable", [0, 1, 3])
async def test_a_trade_older_than_the_bars_in_memory_still_revises_its_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unreadable: int
) -> None:
    shard_settings = {"commit_interval_ms": 5, "share_interval_ms": 5, "recent_bars": 2}
    settings = load(tmp_path, {"shards": 1, "shard": shard_settings})
    sink = Taken()
    shard = Shard(settings, sink)
    minutes = [("BTCUSDT", NOON + i * 60 * SECOND, 10 + i, 100.0, 1.0, 0) for i in range(5)]
    await shard.send("binance", {"trades": trades(minutes)}, NOON + 3600 * SECOND)

    async def forgotten() -> bool:
        return (await shard.bars("binance", "BTCUSDT", "1m", 10)).num_rows == 2

    await until(forgotten)
    # The bars of its second and of its minute are read back.
    select, failures = ColumnReader.select, [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), BeingRewritten()]
    failures *= unreadable

    def sometimes(self: ColumnReader, *what: Any) -> Any:
        if failures:
            raise failures.pop()
        return select(self, *what)

    monkeypatch.setattr(ColumnReader, "select", sometimes)
    late = trades([("BTCUSDT", NOON + 30 * SECOND, 9, 500.0, 2.0, 1)])
    await shard.send("binance", {"trades": late}, NOON + 3600 * SECOND)
    for number in range(unreadable):
        # Whatever comes next.
        other = trades([("ETHUSDT", NOON + 3600 * SECOND, number, 1.0, 1.0, 0)])
        await shard.send("binance", {"trades": other}, NOON + 3600 * SECOND)
    assert failures == []
    await shard.stop()
    revised = [bar for bar in sink.rows("bars") if (bar["timeframe"], bar["time"]) == ("1m", NOON)][-1]
    assert (revised["high"], revised["trade_count"], revised["revision"]) == (500.0, 2, 1)


async def test_only_so_many_bars_wait_until_their_trades_can_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.stored_bars.MOST_UNREAD", 2)
    bars = StoredBars(
        settings.model_copy(update={"shard": settings.shard.model_copy(update={"recent_bars": 1})}),
        ColumnReader(settings.columns, rescan_s=0),
        [],
    )

    def revised(*at: int) -> list[tuple[str, int]]:
        batch = trades([("BTCUSDT", NOON + n * 60 * SECOND, 10 * n + 5, 1.0, 1.0, 0) for n in at])
        given = list(bars.update("binance", batch))
        return [(row["timeframe"], row["time"]) for one in given for row in one.to_pylist()]

    def unreadable(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert revised(0, 1, 2, 3) == []
    with monkeypatch.context() as now:
        now.setattr(ColumnReader, "select", unreadable)
        # Each is late for the bars of its second and of its minute.
        assert revised(0) == revised(1) == []
    read: list[int] = []
    monkeypatch.setattr(
        StoredBars, "_trades", lambda self, exchange, symbol, begin, end: read.append(begin) or trades([])
    )
    assert revised(3) == []
    assert read == [NOON + 60 * SECOND] * 2


DAY = 24 * 3600 * SECOND


async def all_bars(shard: Shard) -> dict[str, list[dict[str, Any]]]:
    """Of BTCUSDT, but those of seconds; without what happened on the way."""
    found = {}
    for name in ("1m", "5m", "15m", "1h", "4h", "1d"):
        bars = await shard.bars("binance", "BTCUSDT", name, 1000)
        found[name] = bars.drop_columns(["closed", "revision"]).to_pylist()
    return found


async def days_of_trades(settings: Settings, sink: Taken | None = None) -> Shard:
    """A shard that stored a trade every 1,000 s of four days."""
    shard = Shard(settings, sink or Taken())
    rows = [("BTCUSDT", NOON + n * 1000 * SECOND, n, 100.0 + n % 7, 0.1, n % 2) for n in range(345)]
    await shard.send("binance", {"trades": trades(rows)}, NOON + 3 * DAY + DAY // 2)
    return shard


async def test_bars_of_days_that_are_over_are_not_made_again_at_a_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.stored_bars.SETTLED_NS", 0)
    shard = await days_of_trades(settings)
    await shard.stop()
    before = await all_bars(shard)
    read: list[int] = []
    trades_of = StoredBars._trades

    def counted(self: StoredBars, exchange: str, symbol: str, from_ns: int, before_ns: int) -> Any:
        read.append(from_ns // DAY)
        return trades_of(self, exchange, symbol, from_ns, before_ns)

    monkeypatch.setattr(StoredBars, "_trades", counted)
    again = Shard(settings, Taken())
    assert await all_bars(again) == before
    assert read == [(NOON + 344 * 1000 * SECOND) // DAY], "the newest day alone"
    for path in settings.bars_folder.rglob("*.arrow"):
        path.write_bytes(path.read_bytes()[:-9])
    assert await all_bars(Shard(settings, Taken())) == before, "a torn file costs time and nothing else"


async def test_an_exchange_may_come_while_bars_of_days_that_are_over_are_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.stored_bars.SETTLED_NS", 0)
    shard, kept = await days_of_trades(settings), list[str]()

    def come(folder: Path, exchange: str, symbol: str, history: object) -> None:
        kept.append(symbol)
        shard._bars._of("coinbase")

    monkeypatch.setattr("actors.stored_bars.write_history", come)
    await shard._keep_history()
    await shard._keep_history()
    assert kept == ["BTCUSDT"], "once"
    await shard.stop()


async def test_bars_by_activity_begin_anew_each_day_and_the_newest_are_given(settings: Settings) -> None:
    shard = await days_of_trades(settings)
    day = (NOON + 344 * 1000 * SECOND) // DAY * DAY
    newest = [n for n in range(345) if NOON + n * 1000 * SECOND >= day]
    bars = (await shard.bars("binance", "BTCUSDT", "tick:10", 1000)).to_pylist()
    assert sum(bar["trade_count"] for bar in bars) == 345
    last = [bar for bar in bars if bar["time"] >= day]
    assert [bar["time"] for bar in last] == [NOON + n * 1000 * SECOND for n in newest[::10]]
    assert [bar["closed"] for bar in last] == [True] * (len(newest) // 10) + [False] * bool(len(newest) % 10)
    assert (await shard.bars("binance", "BTCUSDT", "tick:10", 3)).to_pylist() == bars[-3:]
    assert (await shard.bars("binance", "NOPE", "tick:10", 3)).num_rows == 0
    with pytest.raises(ValueError, match="must be one of"):
        await shard.bars("binance", "BTCUSDT", "2m", 3)
    await shard.stop()


async def test_a_late_trade_in_a_day_that_is_over_makes_its_bars_anew_also_after_a_crash(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.stored_bars.SETTLED_NS", 0)
    await (await days_of_trades(settings)).stop()
    crashed = Shard(settings, Taken())
    late = trades([("BTCUSDT", NOON + DAY + 500 * SECOND, 1000, 900.0, 0.3, 0)])
    await crashed.send("binance", {"backfill": late}, NOON + 4 * DAY)
    before = await all_bars(crashed)
    crashed.kill()
    (day,) = [bar for bar in (await all_bars(Shard(settings, Taken())))["1d"] if bar["high"] == 900.0]
    assert day["time"] == (NOON + DAY) // DAY * DAY
    assert await all_bars(Shard(settings, Taken())) == before


async def test_a_bar_that_closed_while_nothing_ran_is_told_after_the_start(settings: Settings) -> None:
    shard = await days_of_trades(settings)
    shard.kill()
    sink = Taken()
    again = Shard(settings, sink)
    await again.send("binance", {}, NOON + 9 * DAY)
    await again.stop()
    told = [(bar["timeframe"], bar["time"]) for bar in sink.rows("bars") if bar["closed"]]
    last = NOON + 344 * 1000 * SECOND
    assert told == [(name, last // span * span) for name, span in TIMEFRAMES.items()], (
        "what closed long before was told"
    )


async def test_the_trades_of_the_last_minute_are_told_again_after_a_start(settings: Settings) -> None:
    rows = [("BTCUSDT", NOON + second * SECOND, second, 100.0, 1.0, 0) for second in range(200)]
    rows += [("ETHUSDT", NOON + second * SECOND, second, 100.0, 1.0, 1) for second in range(10)]
    killed = Shard(settings, Taken())
    await killed.send("binance", {"trades": trades(rows)}, NOON + 200 * SECOND)
    killed.kill()
    again = Shard(settings, sink := Taken())
    await again.send("binance", {}, NOON + 200 * SECOND)
    await again.stop()
    told = [(row["symbol"], row["trade_id"]) for row in sink.rows("trades")]
    assert sorted(told) == [("BTCUSDT", number) for number in range(139, 200)] + [("ETHUSDT", n) for n in range(10)]


async def test_the_clock_of_a_replay_closes_bars_and_the_wall_clock_does_not(settings: Settings) -> None:
    shard = Shard(settings, Taken())
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 100.0, 1.0, 0)])}, NOON + SECOND)
    assert (await shard.bars("binance", "BTCUSDT", "1m", 1)).column("closed").to_pylist() == [False]
    later = quotes([("BTCUSDT", NOON + 61 * SECOND, 1, 1.0, 2.0)])
    await shard.send("binance", {"quotes": later}, NOON + 61 * SECOND)

    async def closed() -> bool:
        return (await shard.bars("binance", "BTCUSDT", "1m", 1)).column("closed").to_pylist() == [True]

    await until(closed)
    await shard.stop()


@given(now_ns=st.integers(0, 2**61), grace_ms=st.sampled_from([0, 50, 2000]))
def test_bars_are_looked_at_a_moment_after_they_are_over(
    tmp_path_factory: pytest.TempPathFactory, now_ns: int, grace_ms: int
) -> None:
    settings = load(tmp_path_factory.getbasetemp(), {"shards": 1, "bars": {"grace_ms": grace_ms}})
    shard = SymbolShard.__new__(SymbolShard)
    shard._settings, shard._recorded = settings, False
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: now_ns)
        woken_ns = now_ns + int(shard._until_bars_close() * 1e9)
    over_ns = (now_ns - grace_ms * 1_000_000) // SECOND * SECOND + SECOND + grace_ms * 1_000_000
    assert over_ns < woken_ns < over_ns + SECOND // 500


async def test_a_bar_that_is_over_when_its_first_trade_comes_is_closed_with_it(settings: Settings) -> None:
    shard = Shard(settings, Taken(), recorded=False)
    over_ns = time.time_ns() // SECOND * SECOND - 5 * SECOND
    for number in range(20):
        await shard.send(
            "binance", {"trades": trades([("BTCUSDT", over_ns - number * SECOND, number, 1.0, 1.0, 0)])}, over_ns
        )
        assert all((await shard.bars("binance", "BTCUSDT", "1s", 100)).column("closed").to_pylist())
    await shard.stop()


async def test_what_cannot_be_stored_is_said_to_who_sent_it_and_stops_nobody_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(settings, Taken())
    real_append = ColumnWriter.append

    def stumbles(writer: ColumnWriter, exchange: str, *rest: Any) -> Any:
        if exchange == "kraken":
            raise OverflowError("no such trade was thought of")
        return real_append(writer, exchange, *rest)

    monkeypatch.setattr(ColumnWriter, "append", stumbles)
    batch = {"trades": trades([("BTC-USD", NOON, 1, 1.0, 1.0, 0)])}
    refused, stored = await asyncio.gather(
        shard.send("kraken", batch, NOON), shard.send("coinbase", batch, NOON), return_exceptions=True
    )
    assert isinstance(refused, OverflowError)
    assert stored == 0
    monkeypatch.undo()
    await shard.send("kraken", batch, NOON, epoch=2)
    assert stored_ids(settings, "kraken", "BTC-USD") == stored_ids(settings, "coinbase", "BTC-USD") == [1]
    await shard.stop()


async def test_a_step_that_failed_is_taken_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard(settings, Taken())
    batch = {"trades": trades([("BTC-USD", NOON, 1, 1.0, 1.0, 0)])}
    real_close = StoredBars.close

    def stumbles(*_: Any) -> None:
        raise OverflowError("no such bar was thought of")

    monkeypatch.setattr(StoredBars, "close", stumbles)
    await shard.send("coinbase", batch, NOON)

    async def says_so() -> bool:
        return "no such bar" in (await shard.status())["failure"]

    async def has_gone_on() -> bool:
        return (await shard.status())["failure"] == ""

    await until(says_so)
    monkeypatch.setattr(StoredBars, "close", real_close)
    await until(has_gone_on)
    await shard.stop()


async def test_a_full_disk_delays_the_acknowledgement_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard = Shard(settings, Taken())
    real_pwrite = os.pwrite

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    sending = asyncio.create_task(shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON))

    async def says_so() -> bool:
        return "No space left" in (await shard.status())["failure"]

    await until(says_so)
    assert not sending.done()
    monkeypatch.setattr(os, "pwrite", real_pwrite)
    await sending
    assert (await shard.status())["failure"] == ""
    assert stored_ids(settings, "binance", "BTCUSDT") == [1]
    await shard.stop()


async def test_a_disk_that_is_full_for_one_symbol_costs_the_bars_of_others_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.symbol_shard.RETRY_S", 0.01)
    shard, append, full = Shard(settings, Taken()), ColumnWriter.append, ["BTCUSDT"] * 3

    def appended(self: ColumnWriter, exchange: str, symbol: str, *rows: Any) -> Any:
        if symbol in full:
            full.remove(symbol)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(self, exchange, symbol, *rows)

    monkeypatch.setattr(ColumnWriter, "append", appended)
    rows = [(symbol, NOON + n, n, 1.0, 1.0, 0) for symbol in ("ADAUSDT", "BTCUSDT", "XRPUSDT") for n in range(5)]
    await shard.send("binance", {"trades": trades(rows)}, NOON)
    assert full == []
    for symbol in ("ADAUSDT", "BTCUSDT", "XRPUSDT"):
        assert (await shard.bars("binance", symbol, "1m", 5)).column("trade_count").to_pylist() == [5]
    (row,) = [row for row in await shard.quality("binance", "ADAUSDT", 1) if row["symbol"] == "ADAUSDT"]
    assert row["total_checks"] == 5
    await shard.stop()


async def test_a_dead_sink_costs_the_shard_nothing_and_is_counted(settings: Settings) -> None:
    async def dead(*_: Any) -> None:
        raise ConnectionError("gone")

    shard = Shard(settings, dead)
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON)

    async def counted() -> bool:
        return (await shard.status())["unsunk"] >= 1

    await until(counted)
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 2, 1.0, 1.0, 0)])}, NOON)
    assert stored_ids(settings, "binance", "BTCUSDT") == [1, 2]
    await shard.stop()


async def test_with_an_interval_of_zero_rows_are_acknowledged_once_the_disk_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "sync_interval_s": 0}})
    shard, began, held = Shard(settings, Taken()), threading.Event(), threading.Event()
    monkeypatch.setattr("actors.durability.sync_filesystem", lambda _: began.set() or held.wait(30))
    sending = asyncio.create_task(shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON))
    await until(began.is_set)
    assert stored_ids(settings, "binance", "BTCUSDT") == [1]
    assert not sending.done()
    held.set()
    await sending
    await shard.stop()


async def test_a_disk_that_cannot_hold_rows_is_told_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5, "sync_interval_s": 0.01}})
    shard, synced, mended = Shard(settings, Taken()), list[int](), threading.Event()

    def sync(_: Path) -> None:
        synced.append(len(synced))
        if not mended.is_set():
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("actors.durability.sync_filesystem", sync)
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 1, 1.0, 1.0, 0)])}, NOON)
    await until(lambda: bool(synced))

    async def says_so() -> bool:
        return "power cut: Input/output error" in (await shard.status())["failure"]

    await until(says_so)
    # It is said for as long as it is so, whatever is committed meanwhile.
    await shard.send("binance", {"trades": trades([("BTCUSDT", NOON, 2, 1.0, 1.0, 0)])}, NOON)
    assert await says_so()
    mended.set()

    async def silent() -> bool:
        return (await shard.status())["failure"] == ""

    await until(silent)
    assert not shard._writer.begin_sync()
    await shard.stop()
