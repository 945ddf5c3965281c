"""Keeps a shard's ledger true to its column files, whatever is killed when.

The files are the truth: what is in them is not missing. A trade that stands for several is in the log as such before
it is in a file, and so is a window of time in which trades may have been missed; the rows of holes in the ids follow
after, as the files show them again. At a start only days that changed since the last checkpoint are read.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from actors.feeds.feed import Proof
from actors.ledger.account import Account, Kind, Mask
from actors.ledger.ledger import Ledger
from actors.ledger.origin import Origin
from actors.ledger.ranges import Ids
from actors.ledger.series import Run
from actors.placement import Series
from storage.column_days import Stamp, stored_days
from storage.column_layout import NANOS_PER_DAY, join_time
from storage.column_reader import ColumnReader
from storage.ledger_log import Checkpoint, Gap, LedgerLog, Merged, Record, read_log
from storage.ledger_reading import read_ledgers, records_of
from storage.schema import symbols_of

#: The log is made short when it has grown by this, or when its checkpoints are this old.
COMPACT_BYTES: Final = 16 * 1024 * 1024
COMPACT_NS: Final = 600 * 1_000_000_000
#: A checkpoint and the time of a file may differ by this.
_SLACK_NS: Final = 5_000_000_000
#: No exchange puts more fills into one trade; a larger number is no truth.
_MOST_FILLS: Final = 100_000

#: Batches by kind, and where they come from.
Delivered = tuple[Origin, Mapping[str, pa.RecordBatch]]
#: Per symbol the ids of merged trades, ascending, and how many each stands for.
_Fills = dict[str, tuple[Ids, Ids]]


class Trades(NamedTuple):
    """Trades of one symbol in the order they came, with their columns `trade_id` and `ts_event`, and the first and last
    id and the last time where the ids count up by one."""

    rows: pa.RecordBatch
    ids: Ids
    ts: Ids
    run: Run | None


class Keeper:
    """The ledger of one shard, with its log `folder/name.log`. `mine` says which symbols (exchange, symbol) it has; the
    logs of other shards are read for what they knew of them."""

    def __init__(
        self, folder: Path, name: str, reader: ColumnReader, columns: Path, mine: Callable[[str, str], bool],
        clock: Callable[[], int],
    ) -> None:  # fmt: skip
        """`clock` is the wall clock (ns). OSError when the log cannot be made."""
        self.ledger = Ledger()
        self._reader = reader
        self._columns = columns
        self._mine = mine
        self._clock = clock
        self._log = LedgerLog(folder / f"{name}.log")
        self._epochs: dict[str, int] = {}
        #: Exchanges all of whose files were looked at.
        self._known: set[str] = set()
        #: How trades of each exchange are known to follow each other.
        self._proofs: dict[str, Proof] = {}
        self._folder = folder
        self._fills: _Fills = {}
        self._begun: list[Account] = []
        self._compacting: asyncio.Future[None] | None = None
        # What the logs say of symbols that are not recovered yet.
        self._checkpoints: dict[tuple[str, str], Checkpoint] = {}
        self._merged: dict[tuple[str, str], dict[int, int]] = {}
        self._gaps: dict[tuple[str, str], dict[int, Gap]] = {}
        #: Of symbols that are on their way to or from here, what the log must not lose.
        self._aside: dict[Series, list[Record]] = {}
        for path in sorted(folder.glob("*.log")):
            if path.stem != name:
                self._remember(read_log(path))
        self._remember(self._log.read())
        self._compacted_size = 0
        self._compacted_ns = min((known.changed_ns for known in self._checkpoints.values()), default=clock())
        for exchange, symbol in list(self._checkpoints):
            self._recover(exchange, symbol, self._checkpoints[exchange, symbol].proof)

    # ---- one commit: begin, store per symbol and kind, finish

    def begin(self, exchange: str, delivered: Sequence[Delivered], now_ns: int) -> None:
        """Write down what must be known before the trades are in the files. Backfill comes apart from live trades, as
        both may speak of the same id. OSError: nothing may be stored."""
        proof = self._proofs[exchange] = delivered[-1][0].proof
        if exchange not in self._known:
            self._recover_files(exchange, proof)
        accounts = self.ledger.of(exchange)
        for origin, batches in delivered:
            if origin.epoch > self._epochs.get(exchange, -1):
                self._epochs[exchange] = origin.epoch
                for account in accounts.values():
                    account.another_collector()
            if "breaks" in batches:
                for row in batches["breaks"].to_pylist():
                    if row["symbol"] in accounts:
                        accounts[row["symbol"]].broke(row["from_ns"], row["to_ns"], row["reason"], now_ns)
        said = [batches["merged"] for _, batches in delivered if "merged" in batches]
        past = [batches["backfill"] for _, batches in delivered if "backfill" in batches]
        if past and (said or any(account.merging for account in accounts.values())):
            # A crash may have left word of a merged trade that never came: one that stands for itself says so.
            said = [*map(_alone, past), *said]
        self._fills = _fills(said)
        self._write(_merged(exchange, self._fills, accounts))

    def store(
        self, exchange: str, symbol: str, proof: Proof, kind: Kind, trades: Trades, now_ns: int,
        write: Callable[[pa.RecordBatch], Mask],
    ) -> pa.RecordBatch:  # fmt: skip
        """Put trades of one symbol into the files with `write` (which rows are new), as far as they belong there; the
        new ones."""
        account = self.ledger.account(exchange, symbol, proof)
        rows, ids, ts, run = trades
        starts, kept = ids, None
        if kind != "trades" or account.merging or symbol in self._fills:
            starts = _starts(ids, self._fills.get(symbol))
            kept = account.admit(kind, starts, ids, ts)
        left_out: tuple[Ids, Ids] | None = None
        if kept is not None:
            if kind == "trades":
                left_out = ids[~kept], ts[~kept]
            same = starts is ids
            ids, ts, rows, run = ids[kept], ts[kept], rows.filter(pa.array(kept)), None
            starts = ids if same else starts[kept]
        if len(ids):
            new = write(rows)
            usual = kind == "trades" and starts is ids and np.count_nonzero(new) == len(new)
            if usual and run is not None and account.went_on(*run):
                return rows
            if kind == "trades" and not account.begun:
                self._begun.append(account)
            if account.stored(kind, starts, ids, ts, new, now_ns) < len(ids):
                rows = rows.filter(pa.array(new))
        if left_out is not None:
            account.dropped(*left_out, now_ns)
        return rows

    def finish(self) -> None:
        """Write down what changed. OSError: it stays to be written."""
        # It claims nothing but where the promise begins: everything else is read from the files.
        at_ns = self._clock() if self._begun else 0
        self._write([_beginning(account.checkpoint(at_ns)) for account in self._begun])
        self._begun.clear()

    def attempted(self, exchange: str, symbol: str, gap_id: int, covered: bool, note: str, now_ns: int) -> None:
        account = self.ledger.of(exchange).get(symbol)
        if account is not None:
            account.attempted(gap_id, covered, note, now_ns)
            with suppress(OSError):  # written with the next commit otherwise
                self._write([])

    async def let_go(self, exchange: str, symbol: str, day: int, sync: Callable[[], Awaitable[None]]) -> None:
        """Write down that a day of trades is about to go by the policy; `sync` returns when a power cut leaves what was
        written before. OSError: it may not go."""
        if (account := self.ledger.of(exchange).get(symbol)) is None:
            return
        account.kept_from = max(account.kept_from, day + 1)
        # From before the sync: it must not speak of rows that come meanwhile.
        checkpoint = account.checkpoint(self._clock())
        await sync()
        self._log.append([checkpoint])
        self._log.sync()

    # ---- the log

    async def compact(self) -> None:
        """Make the log short if it is time; takes as long as the disk needs to hold all that was written."""
        grown = self._log.size - self._compacted_size > COMPACT_BYTES
        if not grown and (self._clock() - self._compacted_ns < COMPACT_NS or not self._log.size):
            return
        size, now_ns = self._log.size, self._clock()
        self._compacting = asyncio.ensure_future(asyncio.to_thread(self._prepare, self._everything(now_ns)))
        await asyncio.shield(self._compacting)
        # What was written meanwhile is as it was.
        meanwhile = self._log.size - size
        self._log.swap(size)
        self._compacted_size, self._compacted_ns = self._log.size - meanwhile, now_ns

    async def close(self) -> None:
        """Write a last checkpoint; the files must have been flushed."""
        if self._compacting is not None:
            await asyncio.wait([self._compacting])
        if self._log.size or self.ledger.unwritten:
            self._log.prepare(self._everything(self._clock()))
            self._log.swap(self._log.size)
        self._log.close()

    def _prepare(self, records: Sequence[Record]) -> None:
        # A checkpoint must not speak of rows that a power cut can still take.
        os.sync()
        self._log.prepare(records)

    def _everything(self, at_ns: int) -> list[Record]:
        waiting = [self._checkpoints[key] for key in self._checkpoints]
        merged = [
            Merged(exchange, symbol, list(fills), list(fills.values()))
            for (exchange, symbol), fills in self._merged.items()
        ]
        gaps = [gap for gaps in self._gaps.values() for gap in gaps.values()]
        aside = [record for records in self._aside.values() for record in records]
        return [*aside, *waiting, *merged, *gaps, *(one.checkpoint(at_ns) for one in self.ledger), *self.ledger.kept()]

    def _write(self, records: Sequence[Record]) -> None:
        rows = dict(self.ledger.unwritten)
        if records or rows:
            self._log.append([*records, *rows.values()])
            self.ledger.unwritten.clear()

    def _remember(self, records: Iterator[Record]) -> None:
        for record in records:
            key = record.exchange, record.symbol
            if not self._mine(*key):
                continue
            match record:
                case Checkpoint():
                    known = self._checkpoints.get(key)
                    if known is None or known.at_ns <= record.at_ns:
                        self._checkpoints[key] = record
                case Merged():
                    self._merged.setdefault(key, {}).update(zip(record.ids, record.fills, strict=False))
                case Gap():
                    gaps = self._gaps.setdefault(key, {})
                    if record.gap_id not in gaps or gaps[record.gap_id].revision <= record.revision:
                        gaps[record.gap_id] = record

    # ---- symbols come and go

    def release(self, symbols: Sequence[Series]) -> list[Record]:
        """Let go of symbols whose files were flushed; what the logs know of them, for `keep` and `adopt` elsewhere. The
        log goes on saying it until `forget`. OSError: they are here still."""
        accounts = [
            account for exchange, symbol in symbols if (account := self.ledger.of(exchange).get(symbol)) is not None
        ]
        now_ns = self._clock()
        self._write([account.checkpoint(now_ns) for account in accounts])
        self._log.sync()
        logged = read_ledgers(self._folder)
        for key in symbols:
            self._aside[key] = records_of(*key, logged[key]) if key in logged else []
            self.ledger.forget(*key)
        return [record for key in symbols for record in self._aside[key]]

    def keep(self, records: Sequence[Record]) -> None:
        """Put what another shard knew of symbols into the log, for `adopt`. OSError."""
        for key in {(record.exchange, record.symbol) for record in records}:
            self._aside[key] = [record for record in records if (record.exchange, record.symbol) == key]
        self._log.append(records)
        self._log.sync()

    def adopt(self, exchange: str, symbol: str) -> None:
        """A symbol is mine from now on: its account from what was kept of it, and from its files."""
        kept = self._aside.pop((exchange, symbol), [])
        if symbol in self.ledger.of(exchange):
            return
        self._remember(iter(kept))
        known = self._checkpoints.get((exchange, symbol))
        proof = self._proofs.get(exchange) if known is None else known.proof
        # Where nothing of the exchange came yet, its files are looked at when it does.
        if proof is not None:
            self._recover(exchange, symbol, proof)

    def forget(self, exchange: str, symbol: str) -> None:
        """Another shard has it for good."""
        self._aside.pop((exchange, symbol), None)
        self.ledger.forget(exchange, symbol)

    # ---- the files

    def _recover_files(self, exchange: str, proof: Proof) -> None:
        """Look at every symbol of an exchange whose files no log speaks of."""
        known = self.ledger.of(exchange)
        for symbol in self._reader.symbols().get(exchange, []):
            if symbol not in known and self._mine(exchange, symbol):
                self._recover(exchange, symbol, proof)
        self._known.add(exchange)

    def _recover(self, exchange: str, symbol: str, proof: Proof) -> None:
        key = exchange, symbol
        checkpoint, gaps = self._checkpoints.pop(key, None), list(self._gaps.pop(key, {}).values())
        merged = self._merged.pop(key, {})
        days = stored_days(self._columns, exchange, symbol, "TRADES")
        if not days and checkpoint is None and not gaps:
            return
        account = self.ledger.account(exchange, symbol, proof)
        account.restore(checkpoint, gaps)
        self.ledger.remember(gaps)
        account.rows = sum(stamp.rows for stamp in days.values())
        changed = _changed(days, checkpoint, account.rows, self._clock())
        account.recover(self._stored(exchange, symbol, changed, merged, proof), self._clock())
        if checkpoint is None:
            self._begun.append(account)

    def _stored(
        self, exchange: str, symbol: str, days: Sequence[int], merged: Mapping[int, int], proof: Proof
    ) -> Iterator[tuple[Ids, Ids, Ids]]:
        """First and last id and time of the trades of these days, day by day; of the newest one alone where ids prove
        nothing."""
        fills = _sorted(merged)
        for day in days if proof == "ids" else days[-1:]:
            begin = day * NANOS_PER_DAY
            columns = ["id", "time", "nanos"]
            rows = self._reader.select(exchange, symbol, "TRADES", begin, begin + NANOS_PER_DAY - 1, columns)
            if rows.rows:
                ids = rows.column("id").view(np.int64)
                yield _starts(ids, fills), ids, join_time(rows.column("time"), rows.column("nanos"))


def _changed(days: Mapping[int, Stamp], known: Checkpoint | None, rows: int, now_ns: int) -> list[int]:
    """The days that may be others than they were when the checkpoint was made."""
    if known is None or known.changed_ns > now_ns:
        return [*days]
    changed = [day for day, stamp in days.items() if stamp.changed_ns >= known.changed_ns - _SLACK_NS]
    # The clock was ahead then, and was set back.
    return changed if changed or known.rows in (None, rows) else [*days]


def _beginning(known: Checkpoint) -> Checkpoint:
    after = None if known.first_id is None else known.first_id - 1
    return replace(known, changed_ns=0, through_id=after, missing=[], surplus=0)


def _starts(ids: Ids, fills: tuple[Ids, Ids] | None) -> Ids:
    """The first id each trade stands for; `ids` itself where each stands for itself."""
    if fills is None:
        return ids
    merged, count = fills
    place = np.searchsorted(merged, ids)
    place[place == len(merged)] = 0
    starts: Ids = np.where(merged[place] == ids, ids - count[place] + 1, ids)
    return starts if (starts != ids).any() else ids


def _sorted(fills: Mapping[int, int]) -> tuple[Ids, Ids] | None:
    if not fills:
        return None
    ids = np.fromiter(fills.keys(), np.int64, len(fills))
    counts = np.fromiter(fills.values(), np.int64, len(fills))
    order = np.argsort(ids)
    return ids[order], np.clip(counts[order], 1, _MOST_FILLS)


def _fills(batches: Sequence[pa.RecordBatch]) -> _Fills:
    """MERGED batches by symbol; what comes later counts."""
    found: dict[str, dict[int, int]] = {}
    for batch in batches:
        names, codes = symbols_of(batch)
        columns: Any = (codes, batch.column("trade_id").to_numpy(), batch.column("fills").to_numpy())
        for code, trade_id, fills in zip(*(column.tolist() for column in columns), strict=True):
            found.setdefault(names[code], {})[trade_id] = fills
    return {symbol: known for symbol, fills in found.items() if (known := _sorted(fills)) is not None}


def _alone(trades: pa.RecordBatch) -> pa.RecordBatch:
    """Every trade stands for itself."""
    ones = pa.array(np.ones(trades.num_rows, np.int32))
    columns = [trades.column("symbol"), trades.column("trade_id"), ones]
    return pa.RecordBatch.from_arrays(columns, names=["symbol", "trade_id", "fills"])


def _merged(exchange: str, fills: _Fills, accounts: Mapping[str, Account]) -> list[Merged]:
    """Records of trades that may be stored now; what the log says of one that is stored must stay."""
    records = []
    for symbol, (ids, counts) in fills.items():
        account = accounts.get(symbol)
        new = slice(None) if account is None else ~account.holds(ids)
        if len(ids[new]):
            records.append(Merged(exchange, symbol, _plain(ids[new]), _plain(counts[new])))
    return records


def _plain(numbers: Ids) -> list[int]:
    plain: Any = numbers.tolist()
    return list(plain)
