"""What is asked of Bitfinex, and what its answers mean."""

import json
from typing import Any

import pytest

from actors.feeds.bitfinex import Bitfinex
from actors.feeds.feed import Refusal
from tests.actors.feeds.checks import decode
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_bitfinex import (
    CONTRACT,
    ENDPOINT,
    PLAIN,
    TRADE,
    Connection,
    recorded_symbols,
    sent,
)


def test_sequence_and_checksum_are_asked_for_first() -> None:
    assert sent(Connection("tBTCUSD").greeting) == [{"event": "conf", "flags": 196608}]


def test_every_channel_is_subscribed_as_recorded(bitfinex_recording: Recording) -> None:
    symbols = recorded_symbols(bitfinex_recording)
    asked = sent([one.encode() for one in bitfinex_recording.connection.sent])[1:]
    ours = sent(Bitfinex(symbols, ENDPOINT, PLAIN).subscribe(symbols))

    def order(one: Any) -> list[str]:
        return sorted(map(str, one.items()))

    assert sorted(map(order, ours)) == sorted(map(order, asked))


def test_contracts_have_a_status_and_liquidations_are_asked_for_once() -> None:
    feed = Bitfinex(["tBTCUSD", CONTRACT], ENDPOINT)
    asked = sent(feed.subscribe(["tBTCUSD", CONTRACT]))
    assert [one["key"] for one in asked if one["channel"] == "status"] == ["liq:global", f"deriv:{CONTRACT}"]
    assert len(asked) == 8


def test_a_symbol_counts_as_subscribed_once_all_its_channels_are_granted() -> None:
    connection = Connection("tBTCUSD", CONTRACT)
    assert connection.opened.subscribed == {"tBTCUSD", CONTRACT}
    feed = Bitfinex(["tBTCUSD"], ENDPOINT)
    grants = [connection.grant(message) for message in feed.subscribe(["tBTCUSD"])]
    assert decode(feed, *grants[:-1]).subscribed == frozenset()
    assert decode(feed, grants[-1]).subscribed == {"tBTCUSD"}
    assert decode(feed, grants[-1]).subscribed == frozenset()


def test_a_renewed_book_is_left_by_its_number_and_subscribed_again() -> None:
    connection = Connection("tBTCUSD")
    left, joined = sent(connection.feed.renew_book("tBTCUSD"))
    assert left == {"event": "unsubscribe", "chanId": connection.ids["book", "tBTCUSD"]}
    assert (joined["event"], joined["channel"], joined["symbol"]) == ("subscribe", "book", "tBTCUSD")
    # Before it is granted there is nothing to leave.
    assert sent(connection.feed.renew_book("tBTCUSD")) == [joined]


def test_an_unsubscribed_symbol_is_left_out_without_a_word_and_can_come_back() -> None:
    connection = Connection("tBTCUSD", "tETHUSD")
    left = sent(connection.feed.unsubscribe(["tBTCUSD"]))
    numbers = {connection.ids[channel, "tBTCUSD"] for channel in ("trades", "ticker", "book")}
    assert {one["chanId"] for one in left} == numbers
    decoded = decode(connection.feed, connection.array("trades", "tBTCUSD", "te", TRADE), left_out=1)
    assert (decoded.trades.num_rows, decoded.rejected) == (0, ())
    grants = [connection.grant(message) for message in connection.feed.subscribe(["tBTCUSD"])]
    assert len(grants) == 3
    assert decode(connection.feed, *grants).subscribed == {"tBTCUSD"}
    assert decode(connection.feed, connection.array("trades", "tBTCUSD", "te", TRADE)).trades.num_rows == 1


def test_a_channel_granted_after_its_symbol_was_given_up_is_left() -> None:
    feed = Bitfinex(["tBTCUSD"], ENDPOINT, PLAIN)
    feed.subscribe(["tBTCUSD"])
    assert feed.unsubscribe(["tBTCUSD"]) == []
    event = {"event": "subscribed", "channel": "trades", "chanId": 9, "symbol": "tBTCUSD"}
    assert sent(list(decode(feed, json.dumps(event)).replies)) == [{"event": "unsubscribe", "chanId": 9}]


def test_what_was_not_asked_for_is_not_followed() -> None:
    feed = Connection("tBTCUSD").feed
    events = [
        {"event": "subscribed", "channel": "trades", "chanId": 90, "symbol": "tSOLUSD"},
        {"event": "subscribed", "channel": "candles", "chanId": 91, "key": "trade:1m:tBTCUSD"},
        {"event": "subscribed", "channel": "status", "chanId": 92, "key": "deriv:tBTCUSD"},
        {"event": "subscribed", "channel": "status", "chanId": 93, "key": "other"},
        {"event": "subscribed", "channel": "book", "chanId": 94, "symbol": "tBTCUSD", "prec": "R0"},
        {"event": "pong", "ts": 1511545528111, "cid": 1234},
        {"event": "something new"},
    ]
    decoded = decode(feed, *map(json.dumps, events), "[90,[[1,1600000000000,1,1]],1]", "[94,[1,1,1],2]")
    assert (decoded.ignored, decoded.rejected, decoded.replies) == (9, (), ())


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (
            {"channel": "trades", "symbol": "tBTCUSD", "msg": "symbol: invalid", "code": 10300, "pair": "BTCUSD"},
            Refusal(frozenset({"tBTCUSD"}), "bitfinex refuses trades of tBTCUSD: symbol: invalid (code 10300)"),
        ),
        (
            {"channel": "status", "key": f"deriv:{CONTRACT}", "msg": "key: invalid", "code": 10300},
            Refusal(frozenset({CONTRACT}), f"bitfinex refuses status of {CONTRACT}: key: invalid (code 10300)"),
        ),
        (
            {"channel": "nope", "msg": "channel: unknown", "code": 10302},
            Refusal(frozenset(), "bitfinex refuses: channel: unknown (code 10302)"),
        ),
        (
            {"channel": "book", "symbol": "tBTCUSD", "prec": "P0", "msg": "subscribe: limit", "code": 10305},
            Refusal(frozenset({"tBTCUSD"}), "bitfinex refuses book of tBTCUSD: subscribe: limit (code 10305)"),
        ),
        (
            {"msg": "event: invalid (nope)", "code": 10000},
            Refusal(frozenset(), "bitfinex refuses: event: invalid (nope) (code 10000)"),
        ),
    ],
)
def test_what_the_exchange_refuses_is_named(error: dict[str, Any], refusal: Refusal) -> None:
    decoded = decode(Connection("tBTCUSD", CONTRACT).feed, json.dumps({"event": "error", **error}))
    assert decoded.refused == (refusal,)


def test_what_is_subscribed_already_is_no_refusal() -> None:
    dup = {
        "channel": "book",
        "symbol": "tBTCUSD",
        "event": "error",
        "msg": "subscribe: dup",
        "code": 10301,
        "chanId": 1,
    }
    gone = {"event": "error", "msg": "unsubscribe: invalid", "code": 10400, "chanId": 4711}
    decoded = decode(Connection("tBTCUSD").feed, json.dumps(dup), json.dumps(gone))
    assert (decoded.refused, decoded.ignored) == ((), 2)


def test_maintenance_and_restarts_are_announced() -> None:
    #: https://docs.bitfinex.com/docs/ws-general
    decoded = decode(
        Connection("tBTCUSD").feed,
        '{"event":"info","version":2,"serverId":"083bd8d4","platform":{"status":1}}',
        '{"event":"info","version":2,"serverId":"083bd8d4","platform":{"status":0}}',
        '{"event":"info","code":20051,"msg":"Stopping. Please try to reconnect"}',
        '{"event":"info","code":20060,"msg":"Entering in Maintenance mode"}',
        '{"event":"info","code":20061,"msg":"Maintenance ended"}',
        '{"event":"info","code":99999,"msg":"?"}',
    )
    assert decoded.notices == ("maintenance", "reconnect", "maintenance", "resumed")
    assert decoded.ignored == 6


def test_symbols_are_spread_over_connections_of_25_channels() -> None:
    # One of the channels is for liquidations.
    pairs = [f"tX{number:02}USD" for number in range(20)]
    assert [len(group) for group in Bitfinex.groups(pairs)] == [8, 8, 4]
    contracts = [f"tX{number}F0:USTF0" for number in range(20)]
    assert [len(group) for group in Bitfinex.groups(contracts)] == [6, 6, 6, 2]
    mixed = Bitfinex.groups([*pairs[:4], *contracts[:4], *pairs[4:]])
    assert [len(group) for group in mixed] == [7, 7, 8, 2]
    assert Bitfinex.groups([]) == []
    assert Bitfinex.groups(["tBTCUSD", "tBTCUSD"]) == [("tBTCUSD",)]
    for group in mixed:
        assert len(Bitfinex(group, ENDPOINT).subscribe(group)) <= 25


@pytest.mark.parametrize("symbol", ["BTCUSD", "btcusd", "tbtcusd", "fUSD", "", "tBTC/USD", "tBTC", "tBTCUSDT"])
def test_a_symbol_bitfinex_cannot_have_is_refused_before_connecting(symbol: str) -> None:
    with pytest.raises(ValueError, match="bitfinex cannot have the symbol"):
        Bitfinex.groups(["tBTCUSD", symbol])


def test_snapshots_come_by_subscription_only() -> None:
    feed = Connection("tBTCUSD").feed
    assert feed.snapshot_request("tBTCUSD") is None
    with pytest.raises(ValueError, match="over WebSocket"):
        feed.read_snapshot("tBTCUSD", b"{}", 1)
