"""Recorded frames to Arrow batches and order books with every checksum verified, against cryptofeed doing the same.

Rounds and rates are those of the benchmark of decoding. Nothing was recorded with checksums of Bitfinex and Deribit:
their books are held together by sequence numbers, on both sides.
"""

import time
from typing import Final

from actors.aggregation.book_sync import BookSync
from benchmarks.decode import FRAMES, OURS, UNIT, Turn, in_turns, rate
from benchmarks.peers import CRYPTOFEED, cryptofeed
from benchmarks.recorded import Recorded, read_recordings
from benchmarks.table import Bound, Row

#: The checksums in a recording.
CHECKSUMS: Final = {"kraken": 4_269, "okx": 290, "bitfinex": 0, "deribit": 0}
#: How many messages of a book are in it, snapshots too.
MESSAGES: Final = {"kraken": 4_279, "okx": 290, "bitfinex": 1_600, "deribit": 46}


def rows() -> list[Row]:
    """Rates of decoding with books; raises `UnavailableError` where recordings or the peer cannot be had."""
    recorded = read_recordings()
    workloads = {name: recorded[name] for name in CHECKSUMS}
    with cryptofeed(workloads) as peer:

        def theirs(name: str, workload: Recorded) -> Turn:
            return Turn(CRYPTOFEED, name, lambda: peer.round(name, workload, MESSAGES[name], checksums=True))

        seconds = in_turns(
            [
                *(_our_turn(name, workload) for name, workload in workloads.items()),
                *(theirs(name, workload) for name, workload in workloads.items()),
            ]
        )

    def row(name: str) -> Row:
        ours, its = (rate([seconds[who, name]], [len(workloads[name])]) for who in (OURS, CRYPTOFEED))
        count = CHECKSUMS[name]
        bound = Bound(ratio_at_least=5) if count else Bound()
        note = f"all {count:,} checksums verified" if count else "for information: no checksums recorded"
        return Row(f"books: {name}", ours, UNIT, its, CRYPTOFEED, bound, note)

    return [row(name) for name in CHECKSUMS]


def our_round(workload: Recorded) -> float:
    """Seconds of processor time for a frame to become rows of Arrow batches and to change its book."""
    times = workload.times(FRAMES)
    play = workload.played(times)
    books = BookSync(play.feed.book_rules, by_request=False)
    books.add(workload.symbols, 0.0)
    started = time.process_time()
    for frames, ts_recv in play.calls:
        books.apply(play.feed.decode(frames, ts_recv).books, 0.0)
    taken = time.process_time() - started
    _check(workload, books, times)
    return taken / (times * len(workload))


def _our_turn(name: str, workload: Recorded) -> Turn:
    return Turn(OURS, name, lambda: our_round(workload))


def _check(workload: Recorded, books: BookSync, times: int) -> None:
    """Every book is good and was so all the time, and every checksum was made and matched."""
    states = books.states().values()
    assert books.synced == set(workload.symbols)
    assert not any(state.gaps or state.checksum_failures or state.checksums_unknown for state in states)
    verified, messages = (sum(getattr(state, name) for state in states) for name in ("checksums", "messages"))
    expected = (times * CHECKSUMS[workload.exchange], times * MESSAGES[workload.exchange])
    assert (verified, messages) == expected, f"{workload.exchange}: {verified} checksums in {messages} messages"
