"""Recorded frames to Arrow batches, against tardis-dev and cryptofeed, which make an object of each event.

All run on one core, in turns within one run. A rate is the median over the rounds, in processor time, so that other
work on the machine disturbs it less. Where exchanges are put together, each weighs as many frames as were recorded.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.peers import CRYPTOFEED, TARDIS, Peer, cryptofeed, tardis
from benchmarks.recorded import EXCHANGES, Recorded, read_recordings
from benchmarks.table import Bound, Row

ROUNDS = 9
#: Rounds before the first that counts: Node compiles while it runs.
WARM_UPS = 2
#: Frames of a round, about.
FRAMES = 40_000

UNIT = "frames/s"
OURS = "ours"

#: What cryptofeed can read of the recordings, besides trades.
READABLE = ("binance: aggTrade and bookTicker", "bitfinex", "deribit", "kraken", "okx")
TRADES = ("trades of binance", "trades of coinbase")


@dataclass(frozen=True)
class Turn:
    """Something that plays a workload: seconds for a frame, in one round."""

    who: str
    workload: str
    play: Callable[[], float]


def rows() -> list[Row]:
    """Rates of decoding; raises `UnavailableError` where recordings or peers cannot be had."""
    recorded = read_recordings()
    aggregates, matches = _of(recorded["binance"], "@aggTrade"), _of(recorded["coinbase"], '"type":"match"')
    workloads = recorded | {
        READABLE[0]: _of(recorded["binance"], "@aggTrade", "@bookTicker"),
        # There are 2 and 97: both are to weigh the same.
        TRADES[0]: _repeated(aggregates, len(matches) // len(aggregates)),
        TRADES[1]: matches,
    }
    theirs = {name: workloads[name] for name in (*READABLE, *TRADES)} | {TRADES[1]: _advanced_trade(matches)}
    # What a peer has to find in a workload: every message of a book, or every frame where there are no books.
    least = {name: _book_messages(workload) or len(workload) for name, workload in workloads.items()}
    with tardis(recorded) as tardis_peer, cryptofeed(theirs) as cryptofeed_peer:
        seconds = in_turns(
            [
                *(_our_turn(name, workload) for name, workload in workloads.items()),
                # Of Binance's books it maps nothing before a snapshot that its own client would ask for.
                *(_turn(tardis_peer, name, recorded[name], least[name] * (name != "binance")) for name in recorded),
                *(_turn(cryptofeed_peer, name, theirs[name], least[name]) for name in theirs),
            ]
        )

    def row(title: str, names: Sequence[str], peer: str, bound: Bound, note: str = "") -> Row:
        counts = [len(workloads[name]) for name in names]
        ours, its = (rate([seconds[who, name] for name in names], counts) for who in (OURS, peer))
        return Row(f"decode: {title}", ours, UNIT, its, peer, bound, note)

    twice, tenfold = Bound(ratio_at_least=2), Bound(ratio_at_least=10)
    return [
        row("six exchanges", EXCHANGES, TARDIS, twice, "it maps trades and books; ours quotes, too"),
        row("binance", ["binance"], TARDIS, Bound(), NOTHING_MAPPED),
        *(row(name, [name], TARDIS, twice) for name in EXCHANGES if name != "binance"),
        row("five exchanges", READABLE, CRYPTOFEED, tenfold, "it keeps its books meanwhile, unverified"),
        *(row(name, [name], CRYPTOFEED, tenfold) for name in READABLE),
        row("trades", TRADES, CRYPTOFEED, Bound(at_least=1_000_000, ratio_at_least=5), COINBASE_NOTE),
    ]


NOTHING_MAPPED = "no bound: tardis-dev wants @trade and snapshots of its own client, so it only parses these"
COINBASE_NOTE = "half aggTrade, half match, each in the Advanced Trade form that cryptofeed speaks"


def in_turns(turns: Sequence[Turn]) -> dict[tuple[str, str], list[float]]:
    """Seconds for a frame in each round, by who played which workload."""
    seconds: dict[tuple[str, str], list[float]] = {(turn.who, turn.workload): [] for turn in turns}
    for number in range(WARM_UPS + ROUNDS):
        for turn in turns:
            taken = turn.play()
            if number >= WARM_UPS:
                seconds[turn.who, turn.workload].append(taken)
    return seconds


def rate(seconds: Sequence[Sequence[float]], counts: Sequence[int]) -> float:
    """Frames a second over workloads of so many frames: the median of the rounds."""
    rounds = (
        sum(one * count for one, count in zip(of_round, counts, strict=True)) for of_round in zip(*seconds, strict=True)
    )
    return sum(counts) / float(statistics.median(rounds))


def our_round(workload: Recorded) -> float:
    """Seconds of processor time for a frame to become rows of Arrow batches."""
    times = workload.times(FRAMES)
    play = workload.played(times)
    started = time.process_time()
    for frames, ts_recv in play.calls:
        decoded = play.feed.decode(frames, ts_recv)
        assert not decoded.rejected
        assert not decoded.refused
    return (time.process_time() - started) / (times * len(workload))


def _our_turn(name: str, workload: Recorded) -> Turn:
    return Turn(OURS, name, lambda: our_round(workload))


def _turn(peer: Peer, name: str, workload: Recorded, least_events: int) -> Turn:
    return Turn(peer.name, name, lambda: peer.round(name, workload, least_events))


def _book_messages(workload: Recorded) -> int:
    return workload.feed().decode(workload.frames, workload.ts_recv).books.num_rows


def _of(recorded: Recorded, *marks: str) -> Recorded:
    """The frames that hold one of these texts."""
    marked = [at for at, frame in enumerate(recorded.frames) if any(mark.encode() in frame for mark in marks)]
    return replace(recorded, frames=[recorded.frames[at] for at in marked], ts_recv=recorded.ts_recv[marked])


def _repeated(recorded: Recorded, times: int) -> Recorded:
    return replace(recorded, frames=list(recorded.frames) * times, ts_recv=np.tile(recorded.ts_recv, times))


def _advanced_trade(matches: Recorded) -> Recorded:
    """Matches as the `market_trades` messages of Advanced Trade, and its list of products."""
    frames = []
    for match in map(json.loads, matches.frames):
        trade = {name: match[name] for name in ("trade_id", "product_id", "price", "size", "time")}
        message = {
            "channel": "market_trades",
            "client_id": "",
            "timestamp": match["time"],
            "sequence_num": match["sequence"],
            "events": [{"type": "update", "trades": [trade | {"side": match["side"].upper()}]}],
        }
        frames.append(json.dumps(message, separators=(",", ":")).encode())
    products = [
        {
            "base_currency_id": product["base_currency"],
            "quote_currency_id": product["quote_currency"],
            "quote_increment": product["quote_increment"],
            "product_id": product["id"],
        }
        for product in json.loads(matches.answers[0])
    ]
    return replace(matches, frames=frames, answers=[json.dumps({"products": products}).encode()])
