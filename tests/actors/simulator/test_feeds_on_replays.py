"""Our own feeds as clients of replayed exchanges: live equals replay."""

from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from actors import recorded_clock
from actors.feeds.feed import Decoded
from actors.feeds.registry import FEEDS
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import drained, recording_of
from tests.actors.simulator.conftest import Play

#: Trades, quotes, history and messages of books in each recording.
COUNTS = {
    "binance": (2, 84, 0, 177),
    "bitfinex": (0, 21, 210, 1600),
    "coinbase": (97, 107, 10, 9729),
    "deribit": (0, 89, 0, 46),
    "kraken": (10, 18, 0, 4279),
    "okx": (71, 28, 3, 290),
}
BATCHES = ("trades", "quotes", "history", "books", "derivatives", "liquidations")


async def replayed(play: Play, recordings: Path, exchange: str) -> Decoded:
    """What the feed makes of a replay: it subscribes in its own way and goes by the recorded clock."""
    recording = recording_of(recordings, exchange)
    _, websocket, _ = await play(recording)
    feed = FEEDS[exchange](recording.symbols, websocket)
    clock = Subprotocol(recorded_clock.SUBPROTOCOL)
    async with connect(feed.url, max_size=None, max_queue=None, subprotocols=[clock]) as client:
        for message in (*feed.greet(), *feed.subscribe(recording.symbols)):
            await client.send(message.decode())
        received = await drained(client)
    times = np.array([recorded_clock.decode(payload) for payload in received[::2] if isinstance(payload, bytes)])
    return feed.decode([str(text).encode() for text in received[1::2]], times)


def recorded(recordings: Path, exchange: str, symbols: tuple[str, ...]) -> Decoded:
    """What the feed makes of the frames as they are in the file."""
    lines = sorted(capture_files.recorded(recordings / f"{exchange}.jsonl"), key=lambda fields: int(fields["t_ns"]))
    feed = FEEDS[exchange](symbols, lines[0]["url"].partition("/stream")[0])
    feed.subscribe(symbols)
    return feed.decode([fields["data"].encode() for fields in lines], np.array([fields["t_ns"] for fields in lines]))


@pytest.mark.parametrize("exchange", COUNTS)
async def test_a_feed_reads_a_replay_as_it_reads_the_recording(recordings: Path, play: Play, exchange: str) -> None:
    replay = await replayed(play, recordings, exchange)
    symbols = recording_of(recordings, exchange).symbols
    assert replay.subscribed == frozenset(symbols)
    assert (replay.refused, replay.rejected, replay.notices) == ((), (), ())
    assert tuple(getattr(replay, name).num_rows for name in BATCHES[:4]) == COUNTS[exchange]
    original = recorded(recordings, exchange, symbols)
    for name in BATCHES:
        assert getattr(replay, name).equals(getattr(original, name)), name
