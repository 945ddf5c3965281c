"""Frames to Arrow batches, against orjson.loads alone and against cryptofeed, on recorded frames.

Ours turns frames into columns; orjson only parses them; cryptofeed parses them and makes one object per event.
All run on one core, in turns within one run; a rate is the median over the rounds, in processor time, so that
other work on the machine disturbs it less.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.feeds import FEEDS
from benchmarks.table import Bound, Row, UnavailableError

PROJECT = Path(__file__).parents[1]
RECORDINGS = Path(os.environ.get("RAYFEED_RECORDINGS") or PROJECT.parent / "shared" / "recordings")
PEERS = PROJECT / ".cache" / "cryptofeed-2.4.1"

ROUNDS = 9
#: Frames of one round, about; and how many are decoded in one go, as a busy collector would.
FRAMES = 40_000
FRAMES_AT_ONCE = 4_096

UNIT = "frames/s"


@dataclass(frozen=True)
class Frame:
    exchange: str
    text: str
    message: dict[str, Any]

    @property
    def channel(self) -> str:
        if self.exchange == "coinbase":
            return str(self.message["type"])
        return str(self.message["stream"]).partition("@")[2]


@dataclass(frozen=True)
class Workload:
    """The frames for us, and what cryptofeed gets for them; as many of the one as of the other."""

    ours: list[Frame]
    peers: list[tuple[str, str]]


def rows() -> list[Row]:
    """Rates of decoding; raises `UnavailableError` where recordings or peers cannot be had."""
    symbols, recorded = read_recordings()
    trades = [frame for frame in recorded if frame.channel in ("match", "aggTrade")]
    rare = [frame for frame in trades if frame.exchange == "binance"]
    # The recording has 97 matches and 2 aggTrades: repeat the few, so that both weigh the same.
    trades += rare * ((len(trades) - 2 * len(rare)) // len(rare))
    shared = [frame for frame in recorded if frame.channel in ("aggTrade", "bookTicker")]
    readable = shared + [frame for frame in recorded if frame.exchange == "coinbase"]
    workloads = {
        "all": repeated(recorded, [(frame.exchange, frame.text) for frame in recorded]),
        "trades": repeated(trades, [for_cryptofeed(frame) for frame in trades]),
        "recorded": repeated(readable, [(frame.exchange, frame.text) for frame in readable]),
        "binance": repeated(shared, [(frame.exchange, frame.text) for frame in shared]),
    }
    cases = [
        ("orjson", "all"),
        ("cryptofeed", "recorded"),
        ("orjson", "trades"),
        ("cryptofeed", "trades"),
        ("cryptofeed", "binance"),
    ]
    with peers(symbols, workloads) as peer_round:
        ours: dict[str, list[float]] = {name: [] for name in workloads}
        theirs: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
        for _ in range(ROUNDS):
            for name, workload in workloads.items():
                ours[name].append(our_round(workload.ours))
            for peer, name in cases:
                theirs[peer, name].append(peer_round(peer, name))

    def row(title: str, peer: str, name: str, bound: Bound, note: str = "") -> Row:
        count = len(workloads[name].ours)
        our_rate = count / statistics.median(ours[name])
        peer_rate = count / statistics.median(theirs[peer, name])
        return Row(f"decode: {title}", our_rate, UNIT, peer_rate, PEER_NAMES[peer], bound, note)

    return [
        row("all recorded frames", "orjson", "all", Bound(at_least=1_000_000), "97 % are book updates, ignored"),
        row("recorded frames", "cryptofeed", "recorded", Bound(), DROPPED_NOTE),
        row("trades", "orjson", "trades", Bound(at_least=1_000_000), "half match, half aggTrade"),
        row("trades", "cryptofeed", "trades", Bound(ratio_at_least=5), COINBASE_NOTE),
        row("aggTrade and bookTicker", "cryptofeed", "binance", Bound(ratio_at_least=5)),
    ]


PEER_NAMES = {"orjson": "orjson.loads alone", "cryptofeed": "cryptofeed 2.4.1"}
COINBASE_NOTE = "each match in the Advanced Trade form that cryptofeed speaks"
DROPPED_NOTE = "no bound: cryptofeed drops Coinbase's form unread; Binance books left out"


def read_recordings() -> tuple[dict[str, Any], list[Frame]]:
    """Symbol data as cryptofeed wants it, by exchange, and the received frames."""
    frames: list[Frame] = []
    answers: dict[str, Any] = {}
    for exchange in ("binance", "coinbase"):
        path = RECORDINGS / f"{exchange}.jsonl"
        if not path.is_file():
            raise UnavailableError(f"no {path.name} in the folder named by RAYFEED_RECORDINGS")
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if line["kind"] == "recv":
                frames.append(Frame(exchange, line["data"], json.loads(line["data"])))
            elif line["kind"] == "rest" and exchange not in answers:
                answers[exchange] = json.loads(line["data"])
    products = [
        {
            "base_currency_id": product["base_currency"],
            "quote_currency_id": product["quote_currency"],
            "quote_increment": product["quote_increment"],
            "product_id": product["id"],
        }
        for product in answers["coinbase"]
    ]
    return {"binance": answers["binance"], "coinbase": {"products": products}}, frames


def for_cryptofeed(frame: Frame) -> tuple[str, str]:
    """A Binance frame as it is; a Coinbase match as the `market_trades` message cryptofeed's adapter reads."""
    if frame.exchange == "binance":
        return frame.exchange, frame.text
    match = frame.message
    trade = {name: match[name] for name in ("trade_id", "product_id", "price", "size", "time")}
    message = {
        "channel": "market_trades",
        "client_id": "",
        "timestamp": match["time"],
        "sequence_num": match["sequence"],
        "events": [{"type": "update", "trades": [trade | {"side": str(match["side"]).upper()}]}],
    }
    return frame.exchange, json.dumps(message, separators=(",", ":"))


def repeated(ours: list[Frame], peer: list[tuple[str, str]]) -> Workload:
    times = max(1, FRAMES // len(ours))
    return Workload(ours * times, peer * times)


def our_round(workload: list[Frame]) -> float:
    """Seconds of processor time to turn the frames into Arrow batches, each exchange by its own feed."""
    tasks = []
    for exchange, feed in FEEDS.items():
        frames = [frame.text.encode() for frame in workload if frame.exchange == exchange]
        symbols = {symbol_of(frame) for frame in workload if frame.exchange == exchange} - {""}
        tasks.append((feed(sorted(symbols)), frames, np.full(len(frames), 1_634_000_000_000_000_000)))
    started = time.process_time()
    for decoder, frames, ts_recv in tasks:
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            piece = slice(start, start + FRAMES_AT_ONCE)
            decoded = decoder.decode(frames[piece], ts_recv[piece])
            assert not decoded.rejected
    return time.process_time() - started


def symbol_of(frame: Frame) -> str:
    if frame.exchange == "coinbase":
        return str(frame.message.get("product_id", ""))
    return str(frame.message["data"]["s"])


@contextmanager
def peers(symbols: dict[str, Any], workloads: dict[str, Workload]) -> Iterator[Any]:
    """A function (peer, workload) -> seconds that runs one round in a process with the peers installed."""
    task = {"symbols": symbols, "workloads": {name: workload.peers for name, workload in workloads.items()}}
    process = subprocess.Popen(
        [peer_python(), Path(__file__).with_name("decode_peer.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    stdin, stdout = process.stdin, process.stdout

    def run(line: str) -> float:
        stdin.write(line + "\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise UnavailableError(f"the peers stopped with status {process.wait()}; remove {PEERS} and try again")
        return float(answer)

    try:
        stdin.write(json.dumps(task) + "\n")
        yield lambda peer, name: run(f"{peer} {name}")
    finally:
        process.kill()
        process.communicate()


def peer_python() -> Path:
    """The Python of the environment with the peers, made at the first call."""
    python = PEERS / "bin" / "python"
    done = PEERS / ".installed"
    if done.exists():
        return python
    own = PROJECT / ".uv" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        raise UnavailableError("uv is missing: run make install")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(PEERS)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "cryptofeed==2.4.1", "orjson"],
    ):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise UnavailableError(f"cryptofeed 2.4.1 and orjson cannot be installed: {result.stderr.strip()}")
    done.touch()
    return python
