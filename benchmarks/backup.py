"""Backups: a first one of column files, a second one when nothing has changed, and the check of all of it, against
`tar` and `sha256sum` of the same files. Backups are rated by the bytes they cover, before compression (`tar` does not
compress); the check by the bytes it reads, which are those after it.
"""

import gc
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.table import Row, UnavailableError
from storage.backup import Copying
from storage.backup_store import open_store
from storage.backup_verify import Verifying
from storage.column_layout import NANOS_PER_DAY, Column, split_time
from storage.column_writer import ColumnWriter
from storage.file_operations import sync_filesystem

ROUNDS: Final = 3
SYMBOLS: Final = 10
DAYS: Final = 2
#: Of a day of a symbol.
ROWS: Final = 200_000
FIRST_DAY: Final = 20_454
#: When backups begin, ns.
NOW: Final = (FIRST_DAY + DAYS) * NANOS_PER_DAY


def rows() -> list[Row]:
    """Rates of backing up and of checking; raises `UnavailableError` without `tar` and `sha256sum`."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-", dir=Path.home()) as folder:
        root, data = Path(folder), Path(folder) / "data"
        _fill(data)
        size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        taken: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            for name, work in _works(data, root / f"backups-{number}", root / f"{number}.tar"):
                sync_filesystem(root)
                gc.collect()
                taken.setdefault(name, []).append(_timed(work))
        objects = sum(path.stat().st_size for path in _objects(root / "backups-0"))
    covered = {"sha256sum": objects, "verify": objects}
    speed = {name: covered.get(name, size) / 1e6 / statistics.median(seconds) for name, seconds in taken.items()}
    what = f"{size / 1e6:,.0f} MB of {SYMBOLS} symbols, {objects / size:.0%} of that after compression, synced"
    return [
        Row("backup: the first", speed["first"], "MB/s", speed["tar"], "tar and sha256sum, synced", note=what),
        Row(
            "backup: nothing has changed",
            speed["second"],
            "MB/s",
            speed["tar"],
            "tar and sha256sum, synced",
            note="files are named again by their size, time of change and inode; not read",
        ),
        Row(
            "backup: verify",
            speed["verify"],
            "MB/s",
            speed["sha256sum"],
            "sha256sum of the objects",
            note=f"the {objects / 1e6:,.0f} MB that are stored, and what lists them",
        ),
    ]


def _works(data: Path, place: Path, archive: Path) -> list[tuple[str, Callable[[], None]]]:
    def backup() -> None:
        Copying(open_store(str(place)), data, None).run(lambda: NOW)

    def verify() -> None:
        store = open_store(str(place))
        assert not Verifying(store).run(store.names()[-1])

    def tar() -> None:
        _run("tar", "-cf", str(archive), "-C", str(data), ".")
        _run("sha256sum", str(archive))
        _run("sync", str(archive))

    return [
        ("tar", tar),
        ("first", backup),
        ("second", backup),
        ("sha256sum", lambda: _run("sha256sum", *map(str, _objects(place)))),
        ("verify", verify),
    ]


def _objects(place: Path) -> list[Path]:
    return [path for path in (place / "objects").rglob("*") if path.is_file()]


def _fill(data: Path) -> None:
    """Trades whose prices walk by ticks; order ids are empty, as those of most exchanges."""
    writer = ColumnWriter(data / "columns", 64)
    for symbol in range(SYMBOLS):
        for day in range(DAYS):
            writer.append("binance", f"COIN{symbol}USDT", "TRADES", _columns(symbol, day))
    writer.close()


def _columns(symbol: int, day: int) -> dict[str, Column]:
    random = np.random.default_rng((symbol, day))
    step = NANOS_PER_DAY // ROWS
    times = (FIRST_DAY + day) * NANOS_PER_DAY + np.arange(ROWS) * step + random.integers(0, step, ROWS)
    seconds, nanos = split_time(times)
    price = np.round(1_000 + np.cumsum(random.integers(-1, 2, ROWS)) * 0.01, 2)
    size = np.round(random.lognormal(-3, 2, ROWS), 5)
    nobody = np.zeros(ROWS, "V16")
    return {
        "time": seconds,
        "nanos": nanos,
        "id": np.arange(day * ROWS + 1, (day + 1) * ROWS + 1, dtype="<u8"),
        "price": price.astype("<f4"),
        "size": size.astype("<f4"),
        "side": random.integers(0, 2, ROWS).astype("<u4"),
        "maker_order_id": nobody,
        "taker_order_id": nobody,
        "price64": price,
        "size64": size,
    }


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        raise UnavailableError(f"there is no {command[0]}") from None
