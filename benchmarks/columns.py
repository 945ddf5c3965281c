"""Column files: appends with the default sync policy, range reads against numpy, and a shard of 4,000 symbols.

`python -m benchmarks.columns write DATA` writes the files of many symbols as a shard that is then killed does, and
`python -m benchmarks.columns start DATA` is the shard that starts after it; both print what came of it as JSON.
"""

import asyncio
import gc
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import numpy as np

from actors.ledger.origin import Origin
from actors.parcels import packed
from actors.symbol_shard import SymbolShard
from benchmarks.flooded import memory
from benchmarks.ledger import EXCHANGE, batch
from benchmarks.table import Bound, Row
from config import load
from storage.column_layout import NANOS_PER_DAY, NANOS_PER_SECOND, Column
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.file_operations import sync_filesystem
from storage.schema import COLUMNS

PROJECT: Final = Path(__file__).parents[1]
ROUNDS: Final = 5
SYMBOLS: Final = 10
#: Rows of an append: what a shard commits of a symbol with a million trades a second.
ROWS: Final = 5_000
APPENDS: Final = 60
DAY: Final = 20_454
READS: Final = 200
#: Rows of a range that is read: about as many as an hour of a busy symbol.
RANGE: Final = 100_000
MANY: Final = 4_000
#: Trades of each of many symbols, in two commits.
EACH: Final = 50

ROW_BYTES: Final = sum(dtype.itemsize for dtype in COLUMNS["TRADES"].values())


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-", dir=Path.home()) as folder:
        appended, written = _appends(Path(folder))
        read, numpy_read = _reads(Path(folder) / "columns-0")
        many = _many(Path(folder) / "many")
    return [
        Row(
            "columns: append, synced every second",
            appended,
            "rows/s",
            written,
            "numpy.tofile, the same bytes",
            Bound(at_least=5_000_000),
            f"{SYMBOLS} symbols, {ROWS:,} rows of {ROW_BYTES} bytes an append, checksums, one core",
        ),
        Row(
            "columns: read a range",
            read * RANGE,
            "rows/s",
            numpy_read * RANGE,
            "numpy.fromfile at known offsets",
            Bound(ratio_at_least=0.9),
            f"{RANGE:,} rows of price64 and size64 at random times, summed; of both",
        ),
        Row(
            f"columns: {MANY:,} symbols, start after a kill",
            many["seconds"],
            "s",
            note=f"{many['rows']:,} trades; bars of seven timeframes made anew, ledger held to the files",
        ),
        Row(f"columns: {MANY:,} symbols, open files", many["files"], "files", bound=Bound(at_most=700)),
        Row(f"columns: {MANY:,} symbols, memory", many["resident"] / 1e6, "MB", many["empty"] / 1e6, "without any"),
        Row(
            f"columns: {MANY:,} symbols, a commit",
            many["trades_per_s"],
            "trades/s",
            note=f"{EACH // 2} trades of each symbol, files of {MANY - 46:,} of them opened again",
        ),
    ]


def _columns(append: int) -> dict[str, Column]:
    random = np.random.default_rng(append)
    ids = np.arange(append * ROWS, (append + 1) * ROWS, dtype=np.uint64)
    ns = DAY * NANOS_PER_DAY + ids.astype(np.int64) * 10_000_000
    price, size = np.round(random.random(ROWS) * 100, 2), np.round(random.random(ROWS), 4)
    nobody = np.zeros(ROWS, "V16")
    return {
        "time": (ns // NANOS_PER_SECOND).astype("<u4"),
        "nanos": (ns % NANOS_PER_SECOND).astype("<u4"),
        "id": ids,
        "price": price.astype("<f4"),
        "size": size.astype("<f4"),
        "side": (ids % 2).astype("<u4"),
        "maker_order_id": nobody,
        "taker_order_id": nobody,
        "price64": price,
        "size64": size,
    }


def _appends(folder: Path) -> tuple[float, float]:
    """Rows a second of ours and of numpy, until the disk has been told of everything, medians."""
    batches = [_columns(append) for append in range(APPENDS)]
    count = SYMBOLS * ROWS * APPENDS
    ours, peers = [], []
    for number in range(ROUNDS):
        gc.collect()
        ours.append(count / _timed(lambda place: _append(place, batches), folder / f"columns-{number}"))
        peers.append(count / _timed(lambda place: _tofile(place, batches), folder / f"plain-{number}"))
    return statistics.median(ours), statistics.median(peers)


def _timed(work: Callable[[Path], None], place: Path) -> float:
    place.mkdir(parents=True)
    sync_filesystem(place)
    with _syncing(place):
        started = time.perf_counter()
        work(place)
        return time.perf_counter() - started


@contextmanager
def _syncing(place: Path) -> Iterator[None]:
    """Sync the file system once a second meanwhile, as a shard does."""
    stop = Event()

    def run() -> None:
        while not stop.wait(1.0):
            sync_filesystem(place)

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _append(place: Path, batches: list[dict[str, Column]]) -> None:
    writer = ColumnWriter(place, 512)
    for columns in batches:
        for symbol in range(SYMBOLS):
            writer.append(EXCHANGE, f"COIN{symbol}USDT", "TRADES", columns)


def _tofile(place: Path, batches: list[dict[str, Column]]) -> None:
    files = {
        (symbol, name): (place / f"{symbol}.{name}").open("ab", buffering=0)
        for symbol in range(SYMBOLS)
        for name in COLUMNS["TRADES"]
    }
    for columns in batches:
        for (_, name), file in files.items():
            columns[name].tofile(file)
    for file in files.values():
        file.close()


def _reads(root: Path) -> tuple[float, float]:
    """Ranges a second, ours and numpy's, medians of turns."""
    reader = ColumnReader(root)
    begins = np.random.default_rng(1).integers(0, ROWS * APPENDS - RANGE, READS).tolist()
    start = DAY * NANOS_PER_DAY
    folder = root / EXCHANGE / "COIN3USDT" / "TRADES"
    [price], [size] = folder.glob("price64.*"), folder.glob("size64.*")

    def ours(begin: int) -> float:
        first, last = start + begin * 10_000_000, start + (begin + RANGE - 1) * 10_000_000
        chosen = reader.select(EXCHANGE, "COIN3USDT", "TRADES", first, last, ["price64", "size64"])
        return float(chosen.column("price64").sum() + chosen.column("size64").sum())

    def numpys(begin: int) -> float:
        return float(sum(np.fromfile(path, "<f8", RANGE, offset=begin * 8).sum() for path in (price, size)))

    assert all(ours(begin) == numpys(begin) for begin in begins[:20])
    rates: dict[Callable[[int], float], list[float]] = {ours: [], numpys: []}
    for _ in range(ROUNDS):
        for case, known in rates.items():
            began = time.perf_counter()
            for begin in begins:
                case(begin)
            known.append(READS / (time.perf_counter() - began))
    return statistics.median(rates[ours]), statistics.median(rates[numpys])


def _many(data: Path) -> dict[str, Any]:
    """What it takes to start after a kill."""
    with subprocess.Popen([*_COMMAND, "write", str(data)], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    said = subprocess.check_output([*_COMMAND, "start", str(data)], cwd=PROJECT, text=True)
    return {**written, **json.loads(said)}


_COMMAND: Final = [sys.executable, "-m", "benchmarks.columns"]


async def _nowhere(*_: object) -> None:
    pass


def _shard(data: Path) -> SymbolShard:
    return SymbolShard(0, load(data, {"shards": 1}), lambda table: table, _nowhere, False)


async def _write(data: Path) -> Mapping[str, float]:
    shard = _shard(data)
    seconds = 0.0
    for number in range(2):
        began = time.perf_counter()
        trades = batch(MANY, EACH // 2, number)
        await shard.append(EXCHANGE, packed({"trades": trades}), 0, Origin(1, number, "ids"))
        seconds = time.perf_counter() - began
    return {"trades_per_s": MANY * EACH / 2 / seconds}


def _start(data: Path) -> Mapping[str, float]:
    _shard(data.with_name("none"))  # kernels are loaded, and what the process needs anyway
    gc.collect()
    empty = memory("VmRSS")
    began = time.perf_counter()
    shard = _shard(data)
    seconds = time.perf_counter() - began
    rows = sum(row["trades"] for row in asyncio.run(shard.integrity(EXCHANGE)))
    files = len(list(Path("/proc/self/fd").iterdir()))
    return {"seconds": seconds, "rows": rows, "files": files, "resident": memory("VmRSS"), "empty": empty}


def main(what: str, data: str) -> None:
    if what == "write":
        asyncio.run(_write_and_wait(Path(data)))
    else:
        print(json.dumps(_start(Path(data))))


async def _write_and_wait(data: Path) -> None:
    """Until somebody kills it."""
    print(json.dumps(await _write(data)), flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
