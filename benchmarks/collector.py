"""The collector under a flood: how many frames a second it takes from a socket, and what memory that costs.

Flood and flooded run in processes of their own over a real loopback WebSocket; see `flood` and `flooded`. The
cases take turns, rates are medians in wall-clock time, and every trade is looked for at the far end.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.flood import BLOCK_FRAMES, FRAME_BYTES
from benchmarks.flooded import HELD_S, PATIENCE_S, Outcome
from benchmarks.table import Bound, Row
from config import load
from config.settings import CollectorSettings

PROJECT = Path(__file__).parents[1]

ROUNDS = 3
#: Frames of one round: enough for seconds, so that connecting (a tenth of one) hardly counts.
FRAMES = {"nothing": 6_000_000, "shard": 2_000_000, "websockets": 200_000}
#: More than may be in flight, so that the flood goes on behind a collector that does not read.
FRAMES_HELD = 500 * BLOCK_FRAMES


def rows() -> list[Row]:
    """Rates and memory; raises CalledProcessError when a process of its own fails."""
    outcomes: dict[str, list[Outcome]] = {case: [] for case in FRAMES}
    with flood() as endpoint:
        for _ in range(ROUNDS):
            for case, count in FRAMES.items():
                outcomes[case].append(flooded(case, endpoint, count))
        held = flooded("held", endpoint, FRAMES_HELD)

    def rate(case: str) -> float:
        return statistics.median(one.frames / one.seconds for one in outcomes[case])

    ours = [*outcomes["nothing"], *outcomes["shard"], held]
    sent = sum(one.frames for one in ours)
    growth = allowed_growth(load(PROJECT / "data").collector)
    return [
        Row(
            "collector: socket to batches",
            rate("nothing"),
            "frames/s",
            rate("websockets"),
            "websockets, json.loads to dicts",
            Bound(at_least=1_000_000),
            f"aggTrade frames of {FRAME_BYTES} bytes, one socket, one core; the shard does nothing",
        ),
        Row(
            "collector: socket to files, bars",
            rate("shard"),
            "trades/s",
            rate("websockets"),
            "websockets, json.loads to dicts",
            note="collector and shard on one core; without ClickHouse and Redis",
        ),
        Row(
            "collector: missing or wrong trades",
            sum(one.wrong for one in ours),
            "trades",
            bound=Bound(at_most=0),
            note=f"of {sent:,} sent; ids in batches and files, prices, trades in bars",
        ),
        Row(
            f"collector: memory, {HELD_S:g} s no ack",
            held.resident_peak / 1e6,
            "MB",
            held.resident_before / 1e6,
            "before the flood",
            Bound(at_most=(held.resident_before + growth) / 1e6),
            f"{held.batches_held} batches of {held.trades_held:,} trades unacknowledged; bound: before + 4 max_bytes "
            f"(frames waiting, their text joined, its rows, batches in flight) = + {growth / 1e6:,.0f} MB",
        ),
    ]


def allowed_growth(limits: CollectorSettings) -> int:
    """Bytes: frames that wait, their text joined to be decoded, the rows of it, and batches in flight, each of which
    has at most `max_bytes`."""
    return 4 * limits.max_bytes


@contextmanager
def flood() -> Iterator[str]:
    """The WebSocket address of a flooding exchange; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks.flood"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"


def flooded(case: str, endpoint: str, count: int) -> Outcome:
    """What came of one case in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="rayfeed-bench-") as data:
        command = [sys.executable, "-m", "benchmarks.flooded", case, endpoint, str(count), data]
        said = subprocess.check_output(command, cwd=PROJECT, text=True, timeout=PATIENCE_S + 60)
    return Outcome(**json.loads(said))
