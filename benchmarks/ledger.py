"""What the ledger costs a shard: commits of trades to column files and bars, with the ledger and without it.

Two shards commit the same batches in turns, so that both meet the same machine, and a row shows the pair of commits
whose ratio is the median, in processor time. Sinks are left out and all files stay open, or the ledger would seem
cheaper than it is: to open them again, as a shard with more symbols than files does, costs more than all the rest.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from actors.ledger.account import Kind, Mask
from actors.ledger.keeper import Delivered, Keeper, Trades
from actors.ledger.origin import Origin
from actors.parcels import packed
from actors.symbol_shard import SymbolShard
from benchmarks.table import Bound, Row, UnavailableError
from config import load
from storage.schema import TRADES

EXCHANGE: Final = "binance"
#: Symbols, trades of each in a commit, pairs of commits. The ledger looks at each symbol: few trades of many are worst.
CASES: Final = ((500, 4, 201), (4, 500, 1_001))
#: Pairs before the first that counts, which make the files.
WARM_UPS: Final = 5
START_NS: Final = 1_767_268_800_000_000_000
#: Never, within a benchmark.
_NEVER_MS: Final = 10_000_000


def rows() -> list[Row]:
    """Rates of commits with the ledger, each against the same without; raises `UnavailableError` where not so many
    files can be open."""
    return [_row(*case) for case in CASES]


def _row(symbols: int, each: int, rounds: int) -> Row:
    pairs = sorted(asyncio.run(measured(symbols, each, rounds)), key=lambda pair: pair[1] / pair[0])
    ledger, without = (symbols * each / seconds for seconds in pairs[len(pairs) // 2])
    spread = [f"{off / on:.3f}" for on, off in (pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4])]
    return Row(
        f"ledger: {symbols} symbols",
        ledger,
        "trades/s",
        without,
        "the same without a ledger",
        Bound(ratio_at_least=0.95),
        f"commits of {each} trades a symbol; half of {len(pairs)} pairs within {spread[0]} to {spread[1]}",
    )


class NoLedger(Keeper):
    """Stores what comes and knows nothing of it."""

    def begin(self, exchange: str, delivered: Sequence[Delivered], now_ns: int) -> None:
        pass

    def store(
        self, exchange: str, symbol: str, proof: Any, kind: Kind, trades: Trades, now_ns: int,
        write: Callable[[pa.RecordBatch], Mask],
    ) -> pa.RecordBatch:  # fmt: skip
        new = write(trades.rows)
        return trades.rows if np.count_nonzero(new) == len(new) else trades.rows.filter(pa.array(new))

    def finish(self) -> None:
        pass


class Shard(SymbolShard):
    """Commits when it is told to, in `data`."""

    def __init__(self, data: Path, keeper: type[Keeper], symbols: int) -> None:
        shard = {
            "commit_interval_ms": _NEVER_MS,
            "share_interval_ms": _NEVER_MS,
            "max_open_files": 16 * symbols + 32,
        }
        # Who knows nothing of ids does not look at them.
        self._looks = contextlib.nullcontext() if keeper is Keeper else patch("actors.by_symbol.runs", _no_runs)
        with patch("actors.holdings.Keeper", keeper):
            super().__init__(0, load(data, {"shards": 1, "shard": shard}), lambda table: table, _nowhere, False)

    async def commit(self, trades: pa.RecordBatch, sequence: int) -> float:
        """Seconds of processor time for this batch to be stored and acknowledged."""
        origin = Origin(1, sequence, "ids")
        stored = asyncio.create_task(self.append(EXCHANGE, packed({"trades": trades}), 0, origin))
        await asyncio.sleep(0)
        with self._looks:
            started = time.process_time()
            await self._commit()
            taken = time.process_time() - started
        if failure := (await self.status())["failure"]:
            raise UnavailableError(failure)
        assert await stored == 0, "the ledger sees a gap where there is none"
        return taken


async def measured(symbols: int, each: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds of each pair of commits, with the ledger and without."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as data:
        ledger, without = (
            Shard(Path(data) / name, keeper, symbols) for name, keeper in (("on", Keeper), ("off", NoLedger))
        )
        taken: dict[Shard, list[float]] = {ledger: [], without: []}
        for number in range(WARM_UPS + rounds):
            trades = batch(symbols, each, number)
            for shard in (ledger, without) if number % 2 else (without, ledger):
                taken[shard].append(await shard.commit(trades, number))
        for shard in taken:
            # Nobody reads these files again: they need not survive a power cut.
            with patch("os.fsync"), patch("os.fdatasync"):
                await shard.stop()
            assert (await shard.status())["TRADES"] == symbols * each * (WARM_UPS + rounds)
        states = [row["state"] for row in await ledger.integrity(EXCHANGE)]
        assert states == ["synced"] * symbols
        assert not await without.integrity(EXCHANGE)
    return list(zip(*(seconds[WARM_UPS:] for seconds in taken.values()), strict=True))


def batch(symbols: int, each: int, number: int) -> pa.RecordBatch:
    """Trades of commit `number`: `each` of every symbol, in turns, with ids that count up by one."""
    count = symbols * each
    ids = np.repeat(np.arange(each), symbols) + number * each + 1
    ns = START_NS + (number * count + np.arange(count)) * 100_000
    codes = pa.array(np.tile(np.arange(symbols, dtype=np.int32), each))
    nobody = pa.nulls(count, pa.binary(16))
    return pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(codes, pa.array([f"COIN{code}USDT" for code in range(symbols)])),
            pa.array(ns),
            pa.array(ns),
            pa.array(ids),
            pa.array(100 + ids % 7 * 0.01),
            pa.array(1 + ids % 5 * 0.1),
            pa.array((ids % 2).astype(np.uint8)),
            nobody,
            nobody,
        ],
        schema=TRADES,
    )


def _no_runs(_ids: Any, _ts: Any, ends: Sequence[int]) -> list[None]:
    return [None] * len(ends)


async def _nowhere(*_: object) -> None:
    pass
