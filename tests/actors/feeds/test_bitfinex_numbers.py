"""The numbers of arrays: holes in them break every book of the connection."""

import json

import numpy as np
import pytest

from actors.feeds.bitfinex import Bitfinex
from actors.feeds.feed import Refusal
from storage.schema import BROKEN, CHANGE, SNAPSHOT
from tests.actors.feeds.checks import decode, decode_checked, rows, without_layouts
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_bitfinex import (
    CHANGED_LEVEL,
    ENDPOINT,
    SNAPSHOT_LEVELS,
    TICKER,
    TRADE,
    Connection,
    recorded_feed,
    recorded_symbols,
)


def test_recorded_numbers_follow_each_other_without_a_hole(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    numbers = [one[-1] for one in recorded.messages if isinstance(one, list)]
    assert numbers == list(range(1, 1_671))
    decoded = decode_checked(recorded_feed(bitfinex_recording), recorded.frames, recorded.ts_recv)
    assert BROKEN not in decoded.books.column("kind").to_pylist()
    # The same without one of them.
    at = next(at for at, one in enumerate(recorded.messages) if isinstance(one, list) and one[-1] == 1_000)
    frames = [*recorded.frames[:at], *recorded.frames[at + 1 :]]
    ts_recv = np.delete(recorded.ts_recv, at)
    decoded = decode_checked(recorded_feed(bitfinex_recording), frames, ts_recv)
    broken = [row for row in rows(decoded.books) if row["kind"] == BROKEN]
    assert {row["symbol"] for row in broken} == set(recorded_symbols(bitfinex_recording))
    assert {row["ts_recv"] for row in broken} == {ts_recv[at]}
    assert len(decoded.rejected) == 1


def test_a_hole_in_the_numbers_breaks_every_book_of_the_connection_at_its_place() -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    before = connection.array("book", "tBTCUSD", CHANGED_LEVEL)
    connection.lose(3)
    after = [
        connection.array("book", "tETHUSD", CHANGED_LEVEL),
        connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS),
    ]
    for frames in ([before, *after], [before, *after[:1]]):
        feed = Connection("tBTCUSD", "tETHUSD").feed
        decoded = decode(feed, *frames)
        assert [(row["symbol"], row["kind"], row["ts_recv"]) for row in rows(decoded.books)] == [
            ("tBTCUSD", CHANGE, 1_000),
            ("tBTCUSD", BROKEN, 1_001),
            ("tETHUSD", BROKEN, 1_001),
            ("tETHUSD", CHANGE, 1_001),
            *([("tBTCUSD", SNAPSHOT, 1_002)] if len(frames) == 3 else []),
        ]
        assert [one.reason for one in decoded.rejected] == [
            "its number does not follow the last one of this connection"
        ]


@pytest.mark.parametrize("last", [b'"hb",5]', b'"tu",[401597395,1574694478808,0.005,7245.3],5]'])
def test_a_hole_before_a_message_without_content_shows_too(last: bytes) -> None:
    for make in (lambda feed: feed, without_layouts):
        connection = Connection("tBTCUSD")
        feed = make(connection.feed)
        number = b"[%d," % connection.ids["trades", "tBTCUSD"]
        assert decode(feed, number + b'"hb",1]').books.num_rows == 0
        decoded = decode(feed, number + b'"hb",2]', number + last)
        assert [row["kind"] for row in rows(decoded.books)] == [BROKEN]
        assert (len(decoded.rejected), decoded.ignored) == (1, 1)


def test_numbers_are_counted_across_channels_and_batches() -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    frames = [
        connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS),
        connection.array("ticker", "tETHUSD", TICKER),
        connection.array("trades", "tETHUSD", "hb"),
        connection.array("trades", "tETHUSD", "te", TRADE),
        connection.array("trades", "tETHUSD", "tu", TRADE),
        connection.array("book", "tBTCUSD", "cs", 1),
        b'[4711,"hb",7]',
        connection.array("status", "liq:global", "hb"),
    ]
    connection.lose()
    frames[7] = frames[7].replace(b",7]", b",8]")
    frames.append(connection.array("book", "tBTCUSD", CHANGED_LEVEL).replace(b",8]", b",9]"))
    for frame in frames:
        assert decode(connection.feed, frame).rejected == ()


def test_a_connection_that_is_joined_late_begins_with_any_number() -> None:
    connection = Connection("tBTCUSD")
    connection.lose(99)
    assert decode(connection.feed, connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS)).rejected == ()


def test_numbers_of_channels_can_change_their_meaning_within_a_list_of_frames() -> None:
    connection = Connection("tBTCUSD", "tETHUSD", channels=frozenset({"book"}))
    bitcoin = connection.ids["book", "tBTCUSD"]
    connection.feed.renew_book("tBTCUSD")
    frames = [
        f"[{bitcoin},[1,1,1],1]",
        json.dumps({"event": "unsubscribed", "status": "OK", "chanId": bitcoin}),
        f"[{bitcoin},[2,1,1],2]",
        json.dumps({"event": "subscribed", "channel": "book", "chanId": 77, "symbol": "tBTCUSD", "prec": "P0"}),
        "[77,[[3,1,1]],3]",
        "[77,[4,1,1],4]",
        f"[{connection.ids['book', 'tETHUSD']},[5,1,1],5]",
    ]
    decoded = decode(connection.feed, *frames)
    assert [(row["symbol"], row["levels"][0]["price"]) for row in rows(decoded.books)] == [
        ("tBTCUSD", 1.0),
        ("tBTCUSD", 3.0),
        ("tBTCUSD", 4.0),
        ("tETHUSD", 5.0),
    ]
    assert decoded.ignored == 3


def test_a_refusal_to_number_messages_is_reported() -> None:
    decoded = decode(Bitfinex(["tBTCUSD"], ENDPOINT), '{"event":"conf","status":"FAILED"}')
    assert decoded.refused == (Refusal(frozenset(), "bitfinex refuses to number its messages"),)
