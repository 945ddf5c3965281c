"""2,000 symbols of Binance on one collector, trades, quotes and books: how long they take to start within the limits of
the exchange, what memory and processor time they cost then, and whether every book is right.

Exchange and collectors run in processes of their own over real loopback WebSockets and REST (`many_symbols`). A minute
is spent within the weight Binance allows, which is enough for a twentieth of the books; meanwhile another collector of
another exchange, which allows more, starts all of them. `python -m benchmarks.symbols CASE WEBSOCKET REST DATA` is such
a collector and prints what came of it as lines of JSON.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import pyarrow as pa

from actors.collector import Collector
from actors.endpoint import Endpoint
from actors.feeds.binance import Binance
from actors.ledger.origin import Origin
from benchmarks.flooded import NoGaps, memory
from benchmarks.many_symbols import LEVELS, RATE, prices, sizes, symbols
from benchmarks.peers import CRYPTOFEED, environment
from benchmarks.table import Bound, Row, UnavailableError
from config import load

PROJECT: Final = Path(__file__).parents[1]
EXCHANGE: Final = "binance"

SYMBOLS: Final = 2_000
#: Added while it runs.
MORE: Final = 100
#: What the peer starts; its cost is that of each.
PEER_SYMBOLS: Final = 300
#: How many books are waited for within the budget.
FIRST_BOOKS: Final = 100
WEIGHT: Final = Binance.limits.rest_weight_per_minute
#: Of a minute in which nothing waits for the budget.
PLENTY: Final = 1_000_000
#: A minute of the exchange, and some more.
MINUTE_S: Final = 62.0
#: After this long what may be asked for at once was.
BURST_S: Final = 3.0
MEASURED_S: Final = 4.0
STATUS_CALLS: Final = 10
#: A collector is asked how far it is this often; what that costs is measured with the rest.
POLL_S: Final = 0.25
#: What has not come by then does not come.
PATIENCE_S: Final = 180.0


@dataclass
class Within:
    """What came of a minute within the budget, `snapshots_per_minute` after the first ones, which come at once. The
    exchange counts snapshots, the most weight in any 60 s, and the requests and connections it refused."""

    subscribed_s: float = 0.0
    first_books_s: float = 0.0
    snapshots: int = 0
    snapshots_per_minute: float = 0.0
    weight_of_a_minute: int = 0
    refused: int = 0
    cut: int = 0


@dataclass
class Beyond:
    """What came of all books. Memory in bytes; processor time in seconds, `quiet` and `busy` of one second."""

    synced_s: float = 0.0
    synced_cpu_s: float = 0.0
    resident_before: int = 0
    resident: int = 0
    quiet_cpu: float = 0.0
    busy_cpu: float = 0.0
    frames_per_second: float = 0.0
    status_cpu_s: float = 0.0
    add_s: float = 0.0
    wrong_books: int = 0


@dataclass
class Peer:
    """What came of the peer's books. Memory in bytes, processor time in seconds."""

    cpu_s: float
    resident_before: int
    resident: int


def rows() -> list[Row]:
    """Times, memory and costs; raises CalledProcessError when a process of its own fails."""
    with exchange(WEIGHT) as strict, collector("within", strict) as minute:
        # Once this one waits for nothing but the budget, the others have the machine.
        _line(minute)
        with exchange(PLENTY) as generous:
            with collector("beyond", generous) as all_books:
                beyond = Beyond(**_line(all_books))
            peer = cryptofeed(generous)
        within = Within(**_line(minute))
    return [
        Row("symbols: 2,000 subscribed", within.subscribed_s, "s", bound=Bound(at_most=10)),
        Row(
            "symbols: first 100 books synced",
            within.first_books_s,
            "s",
            bound=Bound(at_most=60),
            note=f"{within.snapshots} snapshots of {LEVELS:,} levels in {MINUTE_S:g} s; at "
            f"{within.snapshots_per_minute:.0f} a minute all take {SYMBOLS / within.snapshots_per_minute:.0f} minutes",
        ),
        Row(
            "symbols: REST weight of a minute",
            within.weight_of_a_minute,
            "weight",
            bound=Bound(at_most=WEIGHT),
            note="the most in any 60 s, as the exchange counted it",
        ),
        Row(
            "symbols: refused for a limit",
            within.refused + within.cut,
            "times",
            bound=Bound(at_most=0),
            note="requests beyond the weight, connections with too many messages a second or streams",
        ),
        Row(
            "symbols: 2,000 books synced",
            beyond.synced_s,
            "s",
            note=f"with a budget of {PLENTY:,}; {beyond.synced_cpu_s:.1f} s of it processor time",
        ),
        Row(
            "symbols: to start a book",
            beyond.synced_cpu_s / SYMBOLS * 1e3,
            "ms of processor time",
            None if peer is None else peer.cpu_s / PEER_SYMBOLS * 1e3,
            CRYPTOFEED,
            note=f"the peer with {PEER_SYMBOLS} symbols",
        ),
        Row(
            "symbols: memory of a symbol",
            (beyond.resident - beyond.resident_before) / SYMBOLS / 1e3,
            "KB",
            None if peer is None else (peer.resident - peer.resident_before) / PEER_SYMBOLS / 1e3,
            CRYPTOFEED,
            Bound(at_most=120),
            f"resident, {LEVELS:,} levels a side; all: {beyond.resident / 1e6:,.0f} MB, "
            f"{beyond.resident_before / 1e6:,.0f} MB without symbols",
        ),
        Row(
            "symbols: processor, all quiet",
            beyond.quiet_cpu * 1e3,
            "ms/s",
            bound=Bound(at_most=100),
            note="no frames at all",
        ),
        Row(
            "symbols: processor, all updated",
            beyond.busy_cpu * 1e3,
            "ms/s",
            note=f"{beyond.frames_per_second:,.0f} frames/s, each book {RATE:g} times a second",
        ),
        Row("symbols: status()", beyond.status_cpu_s * 1e3, "ms of processor time", bound=Bound(at_most=20)),
        Row("symbols: 100 more added", beyond.add_s, "s", bound=Bound(at_most=5), note="until each is acknowledged"),
        Row(
            "symbols: missing or wrong books",
            beyond.wrong_books,
            "books",
            bound=Bound(at_most=0),
            note="of 2,100; every level against the exchange's own book at the same update",
        ),
    ]


@contextmanager
def exchange(weight: int) -> Iterator[tuple[str, str]]:
    """The WebSocket and REST addresses of an exchange that allows so much weight a minute; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks.many_symbols", str(SYMBOLS + MORE), str(weight)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        websocket, rest = process.stdout.readline().split()
        yield f"ws://127.0.0.1:{websocket}", f"http://127.0.0.1:{rest}"


@contextmanager
def collector(case: str, endpoint: tuple[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A collector in a process of its own, which is killed with the block if it has not ended."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as data:
        command = [sys.executable, "-m", "benchmarks.symbols", case, *endpoint, data]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def cryptofeed(endpoint: tuple[str, str]) -> Peer | None:
    """What came of the peer's books; None where it cannot be installed."""
    try:
        python = environment("cryptofeed-2.4.1", "cryptofeed==2.4.1")
    except UnavailableError:
        return None
    script = Path(__file__).with_name("cryptofeed_symbols.py")
    command = [str(python), str(script), *endpoint, ",".join(symbols(PEER_SYMBOLS))]
    return Peer(**json.loads(subprocess.check_output(command, text=True, timeout=PATIENCE_S)))


def _line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise subprocess.CalledProcessError(process.wait(), process.args)
    said: dict[str, Any] = json.loads(line)
    return said


# What follows runs in the process of a collector.


class Handle:
    """Stands where a collector has the handle of a shard: takes everything at once, and counts the rows."""

    def __init__(self) -> None:
        self.append = self
        self.gaps = NoGaps()
        self.rows = 0

    async def remote(self, exchange: str, batches: Mapping[str, pa.RecordBatch], clock_ns: int, origin: Origin) -> int:
        self.rows += sum(batch.num_rows for batch in batches.values())
        return 0


async def within(collector: Collector, rest: str) -> None:
    """A minute within the budget."""
    outcome = Within()
    started = time.perf_counter()
    await collector.start()
    await _until(collector, lambda said: len(said["subscribed"]) == SYMBOLS)
    outcome.subscribed_s = time.perf_counter() - started
    print("{}", flush=True)
    await asyncio.sleep(BURST_S)
    begun, before = time.perf_counter(), (await _ask(f"{rest}/measured/counts"))["snapshots"]
    await _until(collector, lambda said: said["book_states"].get("synced", 0) >= FIRST_BOOKS)
    outcome.first_books_s = time.perf_counter() - started
    await asyncio.sleep(started + MINUTE_S - time.perf_counter())
    counts = await _ask(f"{rest}/measured/counts")
    outcome.snapshots_per_minute = (counts["snapshots"] - before) / (time.perf_counter() - begun) * 60
    for name in ("snapshots", "weight_of_a_minute", "refused", "cut"):
        setattr(outcome, name, counts[name])
    print(json.dumps(asdict(outcome)), flush=True)


async def beyond(collector: Collector, rest: str) -> None:
    """All books, and what they cost."""
    outcome = Beyond(resident_before=memory("VmRSS"))
    started, cpu_before = time.perf_counter(), time.process_time()
    await collector.start()
    await _until(collector, lambda said: said["book_states"].get("synced", 0) == SYMBOLS)
    outcome.synced_s, outcome.synced_cpu_s = time.perf_counter() - started, time.process_time() - cpu_before

    frames = (await collector.status())["frames"]
    outcome.busy_cpu, seconds = await _processor_time()
    outcome.frames_per_second = ((await collector.status())["frames"] - frames) / seconds
    outcome.resident = memory("VmRSS")
    outcome.status_cpu_s = statistics.median([await _cost_of_status(collector) for _ in range(STATUS_CALLS)])

    more = symbols(SYMBOLS + MORE)[SYMBOLS:]
    started = time.perf_counter()
    refused = [symbol for symbol, reason in (await collector.add(more)).items() if reason]
    outcome.add_s = time.perf_counter() - started
    assert not refused, f"not added: {refused}"
    await _until(collector, lambda said: said["book_states"].get("synced", 0) == SYMBOLS + MORE)

    # Every book is changed once more, so that none is as its snapshot was.
    await asyncio.sleep(1.5 / RATE)
    await _ask(f"{rest}/measured/rate?rate=0")
    await asyncio.sleep(1)
    outcome.quiet_cpu, _ = await _processor_time()
    outcome.wrong_books = await _wrong_books(collector, (await _ask(f"{rest}/measured/counts"))["updates"])
    await _ask(f"{rest}/measured/rate?rate={RATE}")
    print(json.dumps(asdict(outcome)), flush=True)


async def _until(collector: Collector, reached: Callable[[dict[str, Any]], bool]) -> None:
    # Nobody is told when a collector's state changes.
    deadline = time.perf_counter() + PATIENCE_S
    while not reached(said := await collector.status()):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{said['actor']}: books {said['book_states']}, {said['last_error'] or 'no error'}")
        await asyncio.sleep(POLL_S)


async def _ask(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        said: dict[str, Any] = await answer.json()
        return said


async def _processor_time() -> tuple[float, float]:
    """Seconds of it in one second of a while, and how long that was."""
    started, cpu_before = time.perf_counter(), time.process_time()
    await asyncio.sleep(MEASURED_S)
    seconds = time.perf_counter() - started
    return (time.process_time() - cpu_before) / seconds, seconds


async def _cost_of_status(collector: Collector) -> float:
    # Others must not run in between.
    started = time.process_time()
    await collector.status()
    return time.process_time() - started


async def _wrong_books(collector: Collector, updates: list[int]) -> int:
    """How many books are not what the exchange has."""
    right = 0
    number_of = {name: number for number, name in enumerate(symbols(len(updates)))}
    for batch in await collector.book(levels=None):
        for row in batch.to_pylist():
            number = number_of[row["symbol"]]
            expected = sizes(number, updates[number])
            right += row["sequence"] == updates[number] and all(
                [level["price"] for level in row[side]] == prices(side)
                and np.array_equal([level["size"] for level in row[side]], expected)
                for side in ("bids", "asks")
            )
    return len(updates) - right


def main(case: str, websocket: str, rest: str, data: str) -> None:
    if case == "beyond":
        Binance.limits = replace(Binance.limits, rest_weight_per_minute=PLENTY)
    settings = load(data, {"exchanges": {EXCHANGE: {"channels": ["trades", "quotes", "book"]}}})
    handles = [Handle() for _ in range(settings.shards)]
    collector = Collector(EXCHANGE, Endpoint(websocket, rest, symbols(SYMBOLS)), settings, handles)
    asyncio.run({"within": within, "beyond": beyond}[case](collector, rest))


if __name__ == "__main__":
    main(*sys.argv[1:])
