"""What exchanges really sent, from the recordings, made ready for benchmarks that play it again and again."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from actors.feeds.feed import Feed
from actors.feeds.registry import FEEDS
from actors.simulator.captures import CaptureError, Recording, read_captures, recordings
from benchmarks.table import UnavailableError

PROJECT: Final = Path(__file__).parents[1]
RECORDINGS: Final = Path(os.environ.get("RAYFEED_RECORDINGS") or PROJECT.parent / "shared" / "recordings")
EXCHANGES: Final = ("binance", "bitfinex", "coinbase", "deribit", "kraken", "okx")

#: Frames decoded in one go, as a busy collector would.
FRAMES_AT_ONCE: Final = 4_096

#: Bitfinex numbers the arrays of a connection: the number ends each.
_NUMBER: Final = re.compile(rb"(?<=,)[0-9]+(?=\]$)")


@dataclass(frozen=True)
class Play:
    """A feed that has subscribed and what it is to decode: frames and when they were received (ns), of each call."""

    feed: Feed
    calls: Sequence[tuple[Sequence[bytes], npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class Recorded:
    """The frames of one exchange in the order they came, when (ns), and the answers over REST the client had."""

    exchange: str
    symbols: tuple[str, ...]
    endpoint: str
    frames: Sequence[bytes]
    ts_recv: npt.NDArray[np.int64]
    answers: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.frames)

    def times(self, frames: int) -> int:
        """How often to play it for about so many frames."""
        return max(1, frames // len(self))

    def feed(self) -> Feed:
        """One that has subscribed."""
        feed = FEEDS[self.exchange](self.symbols, self.endpoint)
        feed.subscribe(self.symbols)
        return feed

    def played(self, times: int) -> Play:
        """The recording `times` times in a row on one connection: a busy collector has more frames in a call than some
        recordings have, and does not begin anew all the time."""
        frames = [frame for play in range(times) for frame in self._again(play)]
        span = np.ptp(self.ts_recv) + 1
        ts_recv = (self.ts_recv + span * np.arange(times)[:, None]).ravel()
        starts = range(0, len(frames), FRAMES_AT_ONCE)
        pieces = [slice(start, start + FRAMES_AT_ONCE) for start in starts]
        return Play(self.feed(), [(frames[piece], ts_recv[piece]) for piece in pieces])

    def _again(self, play: int) -> Sequence[bytes]:
        """The frames as a connection sends them that has sent them `play` times before."""
        if self.exchange != "bitfinex" or play == 0:
            return self.frames
        before = play * sum(frame.startswith(b"[") for frame in self.frames)
        return [_NUMBER.sub(lambda number: b"%d" % (int(number[0]) + before), frame) for frame in self.frames]


def read_recordings() -> dict[str, Recorded]:
    """The recordings of `EXCHANGES`, by exchange; `UnavailableError` where one is missing."""
    try:
        found = {recording.exchange: _recorded(recording) for recording in recordings(read_captures(RECORDINGS))}
    except CaptureError as error:
        raise UnavailableError(f"{error} (the folder is named by RAYFEED_RECORDINGS)") from None
    missing = [exchange for exchange in EXCHANGES if exchange not in found]
    if missing:
        raise UnavailableError(f"no recording of {', '.join(missing)} in the folder named by RAYFEED_RECORDINGS")
    return {exchange: found[exchange] for exchange in EXCHANGES}


def _recorded(recording: Recording) -> Recorded:
    received = [pair for one in recording.connections for pair in zip(one.times, one.frames, strict=True)]
    received.sort(key=itemgetter(0))
    return Recorded(
        recording.exchange,
        recording.symbols,
        # The path says which version of the protocol is spoken; nobody is connected to.
        f"ws://127.0.0.1{recording.endpoint}",
        [frame for _, frame in received],
        np.array([t_ns for t_ns, _ in received], np.int64),
        [body for bodies in recording.rest.values() for _, body in bodies],
    )
