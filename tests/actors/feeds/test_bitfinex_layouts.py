"""What the layouts read, and that they and the JSON decoder make the same of whatever comes."""

import itertools
import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.bitfinex import Bitfinex
from actors.feeds.events import Events
from actors.feeds.symbol_codes import SymbolCodes
from tests.actors.feeds.checks import decode_checked, same_outcomes, survives, without_layouts
from tests.actors.feeds.mutations import mutated
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_bitfinex import (
    CHANGED_LEVEL,
    CONTRACT,
    ENDPOINT,
    HISTORY,
    LIQUIDATION,
    PLAIN,
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


numbers = st.integers(1, 4)
events = st.one_of(
    st.builds(
        lambda channel, number, symbol: {
            "event": "subscribed",
            "channel": channel,
            "chanId": number,
            "symbol": symbol,
            "prec": "P0",
        },
        st.sampled_from(["trades", "ticker", "book"]),
        numbers,
        st.sampled_from(["tBTCUSD", "tETHUSD", "tSOLUSD"]),
    ),
    st.builds(lambda number: {"event": "unsubscribed", "status": "OK", "chanId": number}, numbers),
    st.builds(
        lambda status, flags: {"event": "conf", "status": status, "flags": flags},
        st.sampled_from(["OK", "OK", "FAILED"]),
        st.sampled_from([196608, 196608, 131072]),
    ),
)
contents = st.sampled_from(
    [["te", TRADE], ["tu", TRADE], ["hb"], [TICKER], [[7254.5, 1, 1.7]], [SNAPSHOT_LEVELS], [HISTORY], ["cs", 5]]
)
arrays = st.builds(lambda number, content: [number, *content], numbers, contents)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(events, arrays, arrays), max_size=16), st.booleans())
def test_layouts_know_what_a_number_means_between_the_events_that_change_it(sent: list[Any], numbered: bool) -> None:
    conf = {"event": "conf", "status": "OK", "flags": 196608}
    count = itertools.count(1)
    frames = [
        json.dumps([*one, next(count)] if isinstance(one, list) else one, separators=(",", ":")).encode()
        for one in [*([conf] if numbered else []), *sent]
    ]

    def new_feed() -> Bitfinex:
        feed = Bitfinex(["tBTCUSD", "tETHUSD"], ENDPOINT, PLAIN)
        feed.subscribe(["tBTCUSD", "tETHUSD"])
        return feed

    same_outcomes(new_feed(), without_layouts(new_feed()), frames)


def test_an_array_before_its_channel_is_granted_is_ignored() -> None:
    connection = Connection("tBTCUSD", channels=PLAIN)
    array, again = (connection.array("book", "tBTCUSD", [7254.5, 1, 1.7]) for _ in range(2))
    conf, *grants = connection.opening
    feed = Bitfinex(["tBTCUSD"], ENDPOINT, PLAIN)
    feed.subscribe(["tBTCUSD"])
    frames = [conf, array, *grants, again]
    decoded = decode_checked(feed, frames, np.arange(len(frames)))
    assert decoded.books.column("sequence").to_pylist() == [2]
    assert (decoded.ignored, decoded.rejected) == (5, ())
