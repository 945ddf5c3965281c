"""`/api/data` of a running instance against nginx, which sends files with the same bytes by sendfile.

One symbol-day of a million trades is asked for through the front door: large answers over few connections, and
answers of 1,000 rows at random times over many. The answers are compared with the columns before anything is
measured. Rounds of all cases take turns; what is reported is the median.
"""

import statistics
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.instance import ports, running_instance
from benchmarks.table import Bound, Row
from benchmarks.web_load import Load, load, nginx, program
from storage.column_layout import Column
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS

ROUNDS = 3
ROUND_S = 3

EXCHANGE, SYMBOL, WANTED = "binance", "BENCHUSDT", ("time", "price", "size")
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

#: Each request asks for a random range of its own, so nothing can be answered from memory of an earlier one.
_RANDOM_RANGES = """
local seed = 0
function setup(thread)
    seed = seed + 1
    thread:set("seed", seed)
end
function init(args)
    math.randomseed(seed + os.time())
end
function request()
    local start = {first} + math.random(0, {choices})
    return wrk.format("GET", "{path}" .. "&start=" .. start .. "&end=" .. (start + {last}))
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
        ColumnWriter(data / "columns", 64).append(EXCHANGE, SYMBOL, "TRADES", columns)
        (peer / "files").mkdir(parents=True)
        with running_instance(data) as door, nginx(peer) as peer_door:
            lane = f"http://127.0.0.1:{ports(data)['data']}"
            checked(door, lane, columns)
            for name, seconds in (("large", LARGE_S), ("small", SMALL_S)):
                (peer / "files" / name).write_bytes(fetched(door + target(DAY, seconds)))
            return measured(door, lane, peer_door, folder)


def measured(door: str, lane: str, peer_door: str, folder: Path) -> list[Row]:
    large = target(DAY, LARGE_S)
    ranges = _RANDOM_RANGES.format(first=DAY, choices=DAY_S - SMALL_S, path=path(), last=SMALL_S - 1)
    cases: dict[str, Callable[[int], Load]] = {
        "large": lambda seconds: load(door + large, LARGE_CONNECTIONS, seconds, folder),
        "large nginx": lambda seconds: load(f"{peer_door}/large", LARGE_CONNECTIONS, seconds, folder),
        "small": lambda seconds: load(door, SMALL_CONNECTIONS, seconds, folder, ranges),
        "small nginx": lambda seconds: load(f"{peer_door}/small", SMALL_CONNECTIONS, seconds, folder),
        "small lane": lambda seconds: load(lane, SMALL_CONNECTIONS, seconds, folder, ranges),
    }
    for ask in cases.values():
        ask(1)
    loads: dict[str, list[Load]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, ask in cases.items():
            loads[name].append(ask(ROUND_S))

    def median(name: str, value: Callable[[Load], float] = lambda one: one.answers_per_s) -> float:
        return statistics.median(value(one) for one in loads[name])

    def latency(name: str) -> str:
        failed = sum(one.failed for one in loads[name])
        p50, p99 = median(name, lambda one: one.p50_ms), median(name, lambda one: one.p99_ms)
        return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms" + (f", {failed} FAILED" if failed else "")

    speeds = [median(name, lambda one: one.gigabytes_per_s) for name in ("large", "large nginx")]
    unit, many = "answers/s", f"{SMALL_CONNECTIONS} connections"
    return [
        Row(
            "data api: 12 MB, 4 connections",
            median("large"),
            unit,
            median("large nginx"),
            "nginx",
            Bound(ratio_at_least=0.5),
            f"{speeds[0]:.2f} GB/s, nginx {speeds[1]:.2f}; {latency('large')}",
        ),
        Row(
            f"data api: 1,000 rows, {many}",
            median("small"),
            unit,
            median("small nginx"),
            "nginx",
            Bound(at_least=5_000),
            f"{latency('small')}; random ranges, nginx sends one file of that size",
        ),
        Row(
            "data api: 1,000 rows, replica's port",
            median("small lane"),
            unit,
            note=f"{latency('small lane')}; the same without the edge",
        ),
    ]


def symbol_day() -> dict[str, Column]:
    """`TRADES` columns of one day; every `SMALL_S` seconds of it have `SMALL_ROWS` rows."""
    random = np.random.default_rng(7)
    counts = np.tile(TRADES_PER_SECOND, DAY_S // len(TRADES_PER_SECOND))
    rows = int(counts.sum())
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    price = np.round(60_000 + np.cumsum(random.normal(0, 0.5, rows)), 2)
    size = np.round(random.exponential(0.02, rows) + 1e-5, 5)
    values = {
        "time": DAY + np.repeat(np.arange(DAY_S), counts),
        "nanos": place * (1_000_000_000 // max(TRADES_PER_SECOND)),
        "id": np.arange(1, rows + 1),
        "price": price,
        "size": size,
        "side": random.integers(0, 2, rows),
        "maker_order_id": np.zeros(rows, "V16"),
        "taker_order_id": np.zeros(rows, "V16"),
        "price64": price,
        "size64": size,
    }
    return {name: values[name].astype(dtype) for name, dtype in COLUMNS["TRADES"].items()}


def path() -> str:
    query = {"exchange": EXCHANGE, "symbol": SYMBOL, "type": "TRADES", "columns": ",".join(WANTED)}
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
