"""Messages without a source are from the recording; the others are from https://docs.bitfinex.com (the page is named),
with the number that each array of a connection has."""

import json
from itertools import count
from typing import Any

import pytest

from actors.feeds.bitfinex import Bitfinex
from actors.feeds.feed import ALL_CHANNELS, Channel
from storage.schema import BROKEN, CHANGE, CHECKSUM, SNAPSHOT
from tests.actors.feeds.checks import (
    all_rows,
    cut_at_random,
    decode,
    decode_checked,
    rows,
)
from tests.actors.feeds.recordings import Recording

ENDPOINT = "wss://api-pub.bitfinex.com/ws/2"
PLAIN: frozenset[Channel] = frozenset({"trades", "quotes", "book"})
CONTRACT = "tBTCF0:USTF0"

#: https://docs.bitfinex.com/reference/ws-public-books, -trades, -ticker and -status
SNAPSHOT_LEVELS = [[7254.7, 3, 3.3], [7254.6, 1, 0.5], [7254.8, 2, -1.25], [2e-8, 1, 1.5e-7]]
CHANGED_LEVEL = [7254.5, 1, 1.7023900800000002]
TRADE = [401597395, 1574694478808, 0.005, 7245.3]
HISTORY = [[401597393, 1574694475039, 0.005, 7244.9], [401597392, 1574694470503, -0.01, 7245.3]]
TICKER = [7616.5, 31.89055171, 7617.5, 43.358118629999986, -550.8, -0.0674, 7617.1, 8314.71200815, 8257.8, 7500]
STATUS = [
    *[1596124822000, None, 0.896, 0.771995, None, 1396531.67460709, None, 1596153600000, 0.0001056, 6, None],
    *[-0.01381344, None, None, 0.7664, None, None, 246502.09001551, None, None, None, None, 0.3],
]
LIQUIDATION = [
    "pos",
    142397657,
    1574697680828.2002,
    None,
    "tBSVUSD",
    -2.62932,
    91.583875238719,
    None,
    1,
    1,
    None,
    112.27,
]


class Connection:
    """A connection to an exchange that numbers its arrays; channels get the numbers 1, 2, ..."""

    def __init__(self, *symbols: str, channels: frozenset[Channel] = ALL_CHANNELS, number: bool = True) -> None:
        self.feed = Bitfinex(symbols, ENDPOINT, channels)
        self.ids: dict[tuple[str, str], int] = {}
        self._numbers = count(1)
        self._next_id = count(1)
        self.number = number
        self.greeting = self.feed.greet()
        grants = [self.grant(message) for message in self.feed.subscribe(symbols)]
        conf = json.dumps({"event": "conf", "status": "OK", "flags": 196608 if number else 131072})
        self.opening = [conf.encode(), *grants]
        self.opened = decode(self.feed, *self.opening)

    def grant(self, message: bytes) -> bytes:
        asked = json.loads(message)
        number = next(self._next_id)
        self.ids[asked["channel"], asked.get("symbol") or asked["key"]] = number
        return json.dumps({**asked, "event": "subscribed", "chanId": number}).encode()

    def array(self, channel: str, symbol: str, *content: Any) -> bytes:
        number = [next(self._numbers)] if self.number else []
        return json.dumps([self.ids[channel, symbol], *content, *number], separators=(",", ":")).encode()

    def lose(self, arrays: int = 1) -> None:
        for _ in range(arrays):
            next(self._numbers)


def sent(messages: list[bytes]) -> list[Any]:
    return [json.loads(message) for message in messages]


def recorded_symbols(recording: Recording) -> list[str]:
    asked = sent([message.encode() for message in recording.connection.sent])
    return list(dict.fromkeys(one["symbol"] for one in asked if "symbol" in one))


def recorded_feed(recording: Recording) -> Bitfinex:
    symbols = recorded_symbols(recording)
    feed = Bitfinex(symbols, ENDPOINT, PLAIN)
    feed.greet()
    feed.subscribe(symbols)
    return feed


def test_recording_decodes_completely(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    decoded = decode_checked(recorded_feed(bitfinex_recording), recorded.frames, recorded.ts_recv)
    channels = {
        one["chanId"]: (one["channel"], one["symbol"])
        for one in recorded.messages
        if "chanId" in one and "event" in one
    }
    books: list[Any] = []
    tickers: list[Any] = []
    history: list[Any] = []
    beats = 0
    for one in recorded.messages:
        if not isinstance(one, list):
            continue
        channel, symbol = channels[one[0]]
        if one[1] == "hb":
            beats += 1
        elif channel == "book":
            snapshot = isinstance(one[1][0], list)
            levels = one[1] if snapshot else [one[1]]
            kept = [(int(size < 0), price, abs(size) if number else 0.0) for price, number, size in levels]
            books.append((symbol, SNAPSHOT if snapshot else CHANGE, one[-1], kept))
        elif channel == "ticker":
            tickers.append((symbol, one[1][0], one[1][2], one[1][6]))
        else:
            history += [(symbol, *trade) for trade in one[1]]
    assert (len(books), len(tickers), len(history), beats) == (1_600, 21, 210, 42)

    assert [
        (
            row["symbol"],
            row["kind"],
            row["sequence"],
            [(one["side"], one["price"], one["size"]) for one in row["levels"]],
        )
        for row in rows(decoded.books)
    ] == books
    assert [
        (row["symbol"], row["bid_price"], row["ask_price"], row["last_price"]) for row in rows(decoded.quotes)
    ] == tickers
    assert [
        (
            row["symbol"],
            row["trade_id"],
            row["ts_event"] // 1_000_000,
            row["size"] * (-1 if row["side"] else 1),
            row["price"],
        )
        for row in rows(decoded.history)
    ] == history
    assert decoded.trades.num_rows == decoded.derivatives.num_rows == decoded.liquidations.num_rows == 0
    assert (decoded.rejected, decoded.refused, decoded.replies, decoded.notices) == ((), (), (), ())
    events = sum(isinstance(one, dict) for one in recorded.messages)
    assert decoded.ignored == beats + events == 42 + 23
    assert decoded.subscribed == frozenset(recorded_symbols(bitfinex_recording))


def test_the_cut_of_batches_changes_nothing(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    whole = decode_checked(recorded_feed(bitfinex_recording), recorded.frames, recorded.ts_recv)
    for seed in range(5):
        pieces = cut_at_random(recorded_feed(bitfinex_recording), recorded.frames, recorded.ts_recv, seed)
        assert all_rows(pieces) == all_rows([whole])
        assert sum(piece.ignored for piece in pieces) == whole.ignored


def test_recorded_heartbeats_before_their_channel_is_known_are_counted(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    granted: set[int] = set()
    early = []
    for one in recorded.messages:
        if isinstance(one, dict):
            granted.add(one.get("chanId", -1))
        elif one[1] == "hb" and one[0] not in granted:
            early.append(one[0])
    assert len(early) == 2
    decoded = decode_checked(recorded_feed(bitfinex_recording), recorded.frames, recorded.ts_recv)
    assert decoded.rejected == ()


@pytest.mark.parametrize("number", [True, False])
def test_a_book_has_its_levels_exactly_as_they_are_written(number: bool) -> None:
    connection = Connection("tBTCUSD", number=number)
    decoded = decode(
        connection.feed,
        connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS),
        connection.array("book", "tBTCUSD", CHANGED_LEVEL),
        connection.array("book", "tBTCUSD", [7254.5, 0, 1]),
        connection.array("book", "tBTCUSD", [7254.8, 0, -1]),
        connection.array("book", "tBTCUSD", []),
    )
    assert [
        (row["kind"], row["sequence"], [tuple(level.values()) for level in row["levels"]])
        for row in rows(decoded.books)
    ] == [
        (
            SNAPSHOT,
            1 if number else None,
            [(0, 7254.7, 3.3, 1, 1), (0, 7254.6, 0.5, 1, 1), (1, 7254.8, 1.25, 1, 2), (0, 2e-8, 1.5e-7, -1, -1)],
        ),
        (CHANGE, 2 if number else None, [(0, 7254.5, 1.7023900800000002, 1, 16)]),
        (CHANGE, 3 if number else None, [(0, 7254.5, 0.0, 1, 0)]),
        (CHANGE, 4 if number else None, [(1, 7254.8, 0.0, 1, 0)]),
        (SNAPSHOT, 5 if number else None, []),
    ]
    assert all(row["ts_event"] == row["ts_recv"] for row in rows(decoded.books))


def test_a_checksum_is_a_row_of_its_own_with_32_unsigned_bits() -> None:
    #: https://docs.bitfinex.com/docs/ws-websocket-checksum
    connection = Connection("tBTCUSD")
    decoded = decode(
        connection.feed,
        connection.array("book", "tBTCUSD", SNAPSHOT_LEVELS),
        connection.array("book", "tBTCUSD", "cs", -1330055495),
        connection.array("book", "tBTCUSD", "cs", 1330055495),
        connection.array("book", "tBTCUSD", "cs", 2**40),
    )
    assert [(row["kind"], row["checksum"], row["sequence"]) for row in rows(decoded.books)] == [
        (SNAPSHOT, None, 1),
        (CHECKSUM, 2**32 - 1330055495, 2),
        (CHECKSUM, 1330055495, 3),
        (BROKEN, None, None),
    ]


def test_trades_are_taken_once_and_those_from_before_are_history() -> None:
    connection = Connection("tBTCUSD")
    sold = [401597396, 1574694478810, -0.25, 7245.3]
    decoded = decode(
        connection.feed,
        connection.array("trades", "tBTCUSD", HISTORY),
        connection.array("trades", "tBTCUSD", "te", TRADE),
        connection.array("trades", "tBTCUSD", "tu", TRADE),
        connection.array("trades", "tBTCUSD", "te", sold),
        connection.array("trades", "tBTCUSD", []),
    )

    def found(batch: Any) -> list[Any]:
        names = ("trade_id", "ts_event", "side", "size", "price")
        return [tuple(row[name] for name in names) for row in rows(batch)]

    assert found(decoded.history) == [
        (401597393, 1574694475039000000, 0, 0.005, 7244.9),
        (401597392, 1574694470503000000, 1, 0.01, 7245.3),
    ]
    assert found(decoded.trades) == [
        (401597395, 1574694478808000000, 0, 0.005, 7245.3),
        (401597396, 1574694478810000000, 1, 0.25, 7245.3),
    ]
    assert decoded.ignored == 2


def test_a_quote_has_no_sizes_because_its_own_are_those_of_25_levels(bitfinex_recording: Recording) -> None:
    recorded = bitfinex_recording.connection
    data = [one for one in recorded.messages if isinstance(one, list) and isinstance(one[1], list)]
    events = [one for one in recorded.messages if isinstance(one, dict) and one.get("symbol") == "tSNGUSD"]
    ids = {one["channel"]: one["chanId"] for one in events}
    book = next(one[1] for one in data if one[0] == ids["book"])
    tickers = [one[1] for one in data if one[0] == ids["ticker"]]
    bids = sorted((level for level in book if level[2] > 0), reverse=True)
    assert sum(size for _, _, size in bids[:25]) == pytest.approx(tickers[1][1], rel=0.02)
    assert bids[0][2] < tickers[1][1] / 5

    connection = Connection("tBTCUSD")
    decoded = decode(
        connection.feed,
        connection.array("ticker", "tBTCUSD", TICKER),
        connection.array("ticker", "tBTCUSD", [*TICKER, None]),
        connection.array("ticker", "tBTCUSD", [None, None, 0, *TICKER[3:]]),
    )
    names = ("bid_price", "bid_size", "ask_price", "ask_size", "last_price", "last_size", "last_side")
    whole = (7616.5, None, 7617.5, None, 7617.1, None, None)
    assert [tuple(row[name] for name in names) for row in rows(decoded.quotes)] == [
        whole,
        whole,
        (None, None, None, None, 7617.1, None, None),
    ]
    assert [row["ts_event"] for row in rows(decoded.quotes)] == [1_000, 1_001, 1_002]
    assert [row["sequence"] for row in rows(decoded.quotes)] == [1_000, 1_001, 1_002]


def test_a_status_is_a_row_of_derivatives() -> None:
    connection = Connection(CONTRACT)
    decoded = decode(
        connection.feed,
        connection.array("status", f"deriv:{CONTRACT}", STATUS),
        connection.array("status", f"deriv:{CONTRACT}", [STATUS[0], *[None] * 14]),
    )
    first, second = rows(decoded.derivatives)
    assert first | {"symbol": CONTRACT, "ts_event": 1596124822000000000} == first
    names = (
        "mark_price",
        "index_price",
        "open_interest",
        "funding_rate",
        "predicted_funding_rate",
        "next_funding_time",
    )
    assert [first[name] for name in names] == [
        0.7664,
        0.771995,
        246502.09001551,
        -0.01381344,
        0.0001056,
        1596153600000000000,
    ]
    assert [second[name] for name in names] == [None] * 6


def test_liquidations_of_our_symbols_are_kept_once_carried_out() -> None:
    connection = Connection("tBSVUSD")
    doomed = [*LIQUIDATION[:8], 0, 0, None, None]
    other = [*LIQUIDATION[:4], "tETHUSD", *LIQUIDATION[5:]]
    long = [*LIQUIDATION[:5], 3.5, *LIQUIDATION[6:]]
    decoded = decode(
        connection.feed,
        connection.array("status", "liq:global", [LIQUIDATION, other, long]),
        connection.array("status", "liq:global", [doomed]),
        connection.array("status", "liq:global", [other]),
        connection.array("status", "liq:global", LIQUIDATION),
    )
    closed_short = ("tBSVUSD", 1574697680828000000, 0, 112.27, 2.62932)
    names = ("symbol", "ts_event", "side", "price", "size")
    assert [tuple(row[name] for name in names) for row in rows(decoded.liquidations)] == [
        closed_short,
        ("tBSVUSD", 1574697680828000000, 1, 112.27, 3.5),
        closed_short,
    ]
    assert decoded.ignored == 2


def test_a_liquidation_without_a_price_or_a_time_is_rejected() -> None:
    connection = Connection("tBSVUSD")
    decoded = decode(
        connection.feed,
        connection.array("status", "liq:global", [[*LIQUIDATION[:11], None]]),
        connection.array("status", "liq:global", [[*LIQUIDATION[:2], 1e300, *LIQUIDATION[3:]]]),
    )
    assert [one.reason for one in decoded.rejected] == [
        "price is not a positive number",
        "time is unreadable or not between 2000 and 2100",
    ]


def test_a_book_message_that_cannot_be_read_breaks_its_book_only() -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    book = connection.ids["book", "tBTCUSD"]
    contents = ['[[1,"a",2]]', "[-1,1,1]", '["1",1,1]', "[1,1]", "[1,1,0]", "[1,0,0]", "[1,0,null]", "{}", "null", "5"]
    frames = [f"[{book},{content},{number}]" for number, content in enumerate(contents, 1)]
    decoded = decode(connection.feed, *frames)
    assert [(row["symbol"], row["kind"]) for row in rows(decoded.books)] == [("tBTCUSD", BROKEN)] * len(frames)
    assert len(decoded.rejected) == len(frames)
    # Its number is lost with it, so then no book can be trusted.
    decoded = decode(connection.feed, f"[{book},[1,1,1.,11]", f"[{book},[1,1,1],12]")
    assert [(row["symbol"], row["kind"]) for row in rows(decoded.books)] == [
        ("tBTCUSD", BROKEN),
        ("tBTCUSD", BROKEN),
        ("tETHUSD", BROKEN),
        ("tBTCUSD", CHANGE),
    ]


def test_arrays_may_grow() -> None:
    connection = Connection("tBTCUSD", CONTRACT)
    decoded = decode(
        connection.feed,
        connection.array("book", "tBTCUSD", [[*level, "new"] for level in SNAPSHOT_LEVELS]),
        connection.array("book", "tBTCUSD", [*CHANGED_LEVEL, None]),
        connection.array("trades", "tBTCUSD", "te", [*TRADE, {"more": 1}]),
        connection.array("ticker", "tBTCUSD", [*TICKER, None, 1, 2]),
        connection.array("status", f"deriv:{CONTRACT}", [*STATUS, 1, 2, 3]),
        connection.array("status", "liq:global", [[*LIQUIDATION, 1]]),
    )
    assert tuple(map(len, all_rows([decoded]))) == (1, 1, 0, 2, 1, 0)
    assert (decoded.rejected, decoded.ignored) == ((), 1)
