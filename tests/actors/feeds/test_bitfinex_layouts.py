"""What the layouts read, and that they and the JSON decoder make the same of whatever comes."""

import numpy as np

from actors.feeds.events import Events
from actors.feeds.symbol_codes import SymbolCodes
from tests.actors.feeds.checks import decode_checked, same_outcomes, survives, without_layouts
from tests.actors.feeds.mutations import mutated
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_bitfinex import (
    CHANGED_LEVEL,
    CONTRACT,
    HISTORY,
    LIQUIDATION,
    SNAPSHOT_LEVELS,
    STATUS,
    TICKER,
    TRADE,
    Connection,
    recorded_feed,
)


def test_layouts_read_all_frequent_messages(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    feed = recorded_feed(bitfinex_recording)
    feed.decode(recorded.frames, recorded.ts_recv)
    connection = Connection("tBTCUSD")
    live = [
        connection.array("trades", "tBTCUSD", "te", TRADE),
        connection.array("trades", "tBTCUSD", "tu", TRADE),
        connection.array("ticker", "tBTCUSD", [*TICKER, None]),
    ]
    for one, frames in ((feed, [frame for frame in recorded.frames if frame[:1] == b"["]), (connection.feed, live)):
        read = vars(one)["_layouts"].read(frames, Events(np.arange(len(frames)), SymbolCodes()))
        assert list(read.others) == []


def samples() -> tuple[Connection, list[bytes]]:
    connection = Connection("tBTCUSD", CONTRACT)
    frames = [
        connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS),
        connection.array("book", "tBTCUSD", CHANGED_LEVEL),
        connection.array("book", "tBTCUSD", [7254.5, 0, 1]),
        connection.array("book", "tBTCUSD", "cs", -1330055495),
        connection.array("trades", "tBTCUSD", HISTORY),
        connection.array("trades", "tBTCUSD", "te", TRADE),
        connection.array("trades", "tBTCUSD", "tu", TRADE),
        connection.array("ticker", "tBTCUSD", [*TICKER, None]),
        connection.array("status", f"deriv:{CONTRACT}", STATUS),
        connection.array("status", "liq:global", [[*LIQUIDATION[:4], "tBTCUSD", *LIQUIDATION[5:]]]),
        connection.array("book", "tBTCUSD", "hb"),
        b'{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}',
        b'{"channel":"trades","symbol":"tBTCUSD","event":"error","msg":"symbol: invalid","code":10300}',
        *connection.opening,
    ]
    return connection, frames


def test_layouts_and_the_json_decoder_agree_on_mutated_frames() -> None:
    fast, frames = samples()
    slow, _ = samples()
    without_layouts(slow.feed)
    same_outcomes(fast.feed, slow.feed, frames)
    same_outcomes(fast.feed, slow.feed, list(mutated(frames, 10_000, seed=3)), piece=20)


def test_layouts_and_the_json_decoder_agree_on_mutated_recorded_frames(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    fast, slow = recorded_feed(bitfinex_recording), recorded_feed(bitfinex_recording)
    for feed in (fast, slow):
        decode_checked(feed, recorded.frames, recorded.ts_recv)
    arrays = [frame for frame in recorded.frames if frame[:1] == b"["]
    same_outcomes(fast, without_layouts(slow), list(mutated(arrays, 10_000, seed=5)), piece=50)


def test_hostile_frames_cost_nothing(bitfinex_recording: Recording) -> None:
    survives(recorded_feed(bitfinex_recording), bitfinex_recording.connection.frames, seed=4)
    connection, frames = samples()
    survives(connection.feed, frames, seed=6, count=10_000)
