"""`/api/data` of a running instance against nginx, which sends files with the same bytes by sendfile, and against Arrow
Flight, which sends the same rows.

One symbol-day of a million trades is asked for through the front door: large answers over few connections, and
answers of 1,000 rows at random times over many and over one. A copy of the day is sealed, so its answers may be kept:
of it the same few ranges are asked for again and again. The answers are compared with the columns before anything is
measured. The instance collects nothing meanwhile. Rounds of all cases take turns; what is reported is the median.
"""

import random
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.flight_peer import fetched_rows, flight_load, flight_server
from benchmarks.instance import ports, quiet, running_instance
from benchmarks.table import Bound, Row
from benchmarks.web_load import ANSWERS, FAST, Load, Loads, asking, nginx, program
from storage.column_layout import Column
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.day_seal import measured as measured_seal
from storage.day_seal import write_seal
from storage.schema import COLUMNS

EXCHANGE, SYMBOL, SEALED, WANTED = "binance", "BENCHUSDT", "SEALEDUSDT", ("time", "price", "size")
#: 2024-03-01 00:00 UTC, in seconds.
DAY = 1_709_251_200
DAY_S = 86_400
#: Trades in even and odd seconds: any even number of seconds has 12.5 a second.
TRADES_PER_SECOND = (12, 13)
LARGE_S = 80_000
SMALL_S = 80
SMALL_ROWS = 1_000

LARGE_CONNECTIONS = 4
SMALL_CONNECTIONS = 32
#: So many ranges of the sealed day are asked for again and again.
REPEATED = 100
#: So many ranges, of 86,321, are asked for in turn.
WRITTEN = 50_000

#: Random ranges, so that nothing of a whole day can be answered from memory of an earlier one. They are written before
#: the load begins: to write each when it is sent would take the processors that who answers has.
_RANDOM_RANGES = """
local seed = 0
function setup(thread)
    seed = seed + 1
    thread:set("seed", seed)
end
local asked, at = {{}}, 0
function init(args)
    math.randomseed(seed + os.time())
    for number = 1, {written} do
        local start = {first} + math.random(0, {choices})
        asked[number] = wrk.format("GET", "{path}" .. "&start=" .. start .. "&end=" .. (start + {last}))
    end
end
function request()
    at = at % {written} + 1
    return asked[at]
end
"""


def rows() -> list[Row]:
    """Answers per second; raises `UnavailableError` where wrk or nginx is missing or no instance comes up."""
    program("wrk")
    program("nginx")
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as temporary:
        folder = Path(temporary)
        data, peer = folder / "data", folder / "nginx"
        columns = symbol_day()
        folders = stored(data / "columns", columns)
        (peer / "files").mkdir(parents=True)
        with (
            running_instance(data, quiet(folder)) as door,
            nginx(peer) as peer_door,
            flight_server(folders, DAY // DAY_S, WANTED) as flight,
        ):
            lane = f"http://127.0.0.1:{ports(data)['data']}"
            checked(door, lane, columns)
            for name, seconds in (("large", LARGE_S), ("small", SMALL_S)):
                (peer / "files" / name).write_bytes(fetched(door + target(DAY, seconds)))
            assert fetched_rows(flight, DAY, DAY + SMALL_S - 1).num_rows == SMALL_ROWS
            return measured(door, lane, peer_door, flight, folder)


def measured(door: str, lane: str, peer_door: str, flight: str, folder: Path) -> list[Row]:
    large = target(DAY, LARGE_S)
    ranges = random_ranges(path(), DAY_S - SMALL_S)
    repeated = random_ranges(path(SEALED), REPEATED - 1)

    def any_range(chance: random.Random) -> tuple[int, int]:
        start = DAY + chance.randrange(DAY_S - SMALL_S)
        return start, start + SMALL_S - 1

    cases: dict[str, Callable[[int], Load]] = {
        "large": asking(door + large, LARGE_CONNECTIONS, folder, threads=FAST),
        "large nginx": asking(f"{peer_door}/large", LARGE_CONNECTIONS, folder, threads=FAST),
        "small": asking(door, SMALL_CONNECTIONS, folder, ranges),
        "small nginx": asking(f"{peer_door}/small", SMALL_CONNECTIONS, folder),
        "small flight": lambda seconds: flight_load(flight, SMALL_CONNECTIONS, seconds, any_range),
        "large flight": lambda seconds: flight_load(
            flight, LARGE_CONNECTIONS, seconds, lambda _: (DAY, DAY + LARGE_S - 1)
        ),
        "one": asking(door, 1, folder, ranges),
        "one flight": lambda seconds: flight_load(flight, 1, seconds, any_range),
        "repeated": asking(door, SMALL_CONNECTIONS, folder, repeated, FAST),
        "small lane": asking(lane, SMALL_CONNECTIONS, folder, ranges),
    }
    loads = Loads(cases)
    median, latency = loads.median, loads.latency

    speeds = [median(name, lambda one: one.gigabytes_per_s) for name in ("large", "large nginx")]
    unit, many = ANSWERS, f"{SMALL_CONNECTIONS} connections"
    return [
        Row(
            "data api: 12 MB, 4 connections",
            median("large"),
            unit,
            median("large nginx"),
            "nginx",
            Bound(ratio_at_least=1.0),
            f"{speeds[0]:.2f} GB/s, nginx {speeds[1]:.2f}; {latency('large')}",
        ),
        Row(
            f"data api: 1,000 rows, {many}",
            median("small"),
            unit,
            median("small nginx"),
            "nginx",
            Bound(at_least=20_000),
            f"{latency('small')}; random ranges, nginx sends one file of that size",
        ),
        Row(
            "data api: 12 MB, 4 connections",
            median("large"),
            unit,
            median("large flight"),
            "flight",
            Bound(ratio_at_least=1.0),
            latency("large flight"),
        ),
        Row(
            f"data api: 1,000 rows, {many}",
            median("small"),
            unit,
            median("small flight"),
            "flight",
            Bound(ratio_at_least=1.0),
            latency("small flight"),
        ),
        Row(
            "data api: 1,000 rows, 1 connection",
            1000 * median("one", lambda one: one.p50_ms),
            "us (p50)",
            1000 * median("one flight", lambda one: one.p50_ms),
            "flight",
            Bound(at_most=200),
            latency("one"),
        ),
        Row(
            f"data api: {REPEATED} sealed ranges, {many}",
            median("repeated"),
            unit,
            median("small flight"),
            "flight",
            Bound(at_least=80_000, ratio_at_least=1.0),
            f"{latency('repeated')}; kept by the edge",
        ),
        Row(
            "data api: 1,000 rows, replica's port",
            median("small lane"),
            unit,
            note=f"{latency('small lane')}; the same without the edge",
        ),
    ]


def stored(root: Path, columns: dict[str, Column]) -> Path:
    """Two symbols with these rows, of which the second's day is sealed; where the files of the first are."""
    writer = ColumnWriter(root, 64)
    for symbol in (SYMBOL, SEALED):
        writer.append(EXCHANGE, symbol, "TRADES", columns)
    writer.close()
    sealed = Day(root / EXCHANGE / SEALED / "TRADES", "TRADES", DAY // DAY_S)
    write_seal(sealed, measured_seal(sealed))
    return root / EXCHANGE / SYMBOL / "TRADES"


def symbol_day() -> dict[str, Column]:
    """`TRADES` columns of one day; every `SMALL_S` seconds of it have `SMALL_ROWS` rows."""
    chance = np.random.default_rng(7)
    counts = np.tile(TRADES_PER_SECOND, DAY_S // len(TRADES_PER_SECOND))
    rows = int(counts.sum())
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    price = np.round(60_000 + np.cumsum(chance.normal(0, 0.5, rows)), 2)
    size = np.round(chance.exponential(0.02, rows) + 1e-5, 5)
    values = {
        "time": DAY + np.repeat(np.arange(DAY_S), counts),
        "nanos": place * (1_000_000_000 // max(TRADES_PER_SECOND)),
        "id": np.arange(1, rows + 1),
        "price": price,
        "size": size,
        "side": chance.integers(0, 2, rows),
        "maker_order_id": np.zeros(rows, "V16"),
        "taker_order_id": np.zeros(rows, "V16"),
        "price64": price,
        "size64": size,
    }
    return {name: values[name].astype(dtype) for name, dtype in COLUMNS["TRADES"].items()}


def random_ranges(asked: str, latest: int) -> str:
    """A script for wrk: `SMALL_S` seconds of the day from second 0 to `latest` on."""
    return _RANDOM_RANGES.format(first=DAY, choices=latest, path=asked, last=SMALL_S - 1, written=WRITTEN)


def path(symbol: str = SYMBOL) -> str:
    query = {"exchange": EXCHANGE, "symbol": symbol, "type": "TRADES", "columns": ",".join(WANTED)}
    return "/api/data?" + urllib.parse.urlencode(query, safe=",")


def target(start: int, seconds: int) -> str:
    """Asks for that many seconds of the day from `start` on; the end of a range is included."""
    return f"{path()}&start={start}&end={start + seconds - 1}"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
    return body


def checked(door: str, lane: str, columns: dict[str, Column]) -> None:
    """Raises AssertionError when an answer is not the bytes of the columns."""
    starts = np.random.default_rng(1).integers(0, DAY_S - SMALL_S, 20).tolist()
    for origin, start, seconds in [
        (door, 0, LARGE_S),
        *((o, start, SMALL_S) for o in (door, lane) for start in starts),
    ]:
        first, last = np.searchsorted(columns["time"], [DAY + start, DAY + start + seconds])
        expected = b"".join(columns[name][first:last].tobytes() for name in WANTED)
        header, _, body = fetched(origin + target(DAY + start, seconds)).partition(b"\n")
        assert last - first == seconds * SMALL_ROWS // SMALL_S
        assert b'"num_records":%d' % (last - first) in header
        assert body == expected, f"wrong bytes for {seconds} s from {start}"
