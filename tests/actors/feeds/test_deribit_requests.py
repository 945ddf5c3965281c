"""What is asked of Deribit, and what its answers mean."""

import json
from typing import Any

import numpy as np
import pytest

from actors.feeds.deribit import Deribit
from actors.feeds.feed import Credentials, Refusal
from tests.actors.feeds.checks import decode
from tests.actors.feeds.test_deribit import (
    ENDPOINT,
    PERPETUAL,
    TRADE,
    answer,
    message,
    subscribed,
)


def sent(message: bytes) -> tuple[int, str, Any]:
    content = json.loads(message)
    return content["id"], content["method"], content["params"]


def test_everything_is_subscribed_at_100_ms_and_raw_only_with_credentials() -> None:
    def channels(credentials: Credentials | None) -> list[str]:
        (asked,) = Deribit([], ENDPOINT, credentials=credentials).subscribe([PERPETUAL])
        return list(sent(asked)[2]["channels"])

    assert channels(None) == ["book.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.100ms", "ticker.BTC-PERPETUAL.100ms"]
    assert channels(Credentials("k", "s")) == [
        "book.BTC-PERPETUAL.raw",
        "trades.BTC-PERPETUAL.raw",
        "ticker.BTC-PERPETUAL.100ms",
    ]


def test_subscriptions_go_out_in_pieces_within_500_channels() -> None:
    symbols = [f"BTC-27MAR26-{strike}000-C" for strike in range(10, 410)]
    feed = Deribit(symbols, ENDPOINT)
    pieces = [sent(piece)[2]["channels"] for piece in feed.subscribe(symbols)]
    assert [len(piece) for piece in pieces] == [450, 450, 300]
    assert len({channel for piece in pieces for channel in piece}) == 1_200


def test_a_symbol_counts_as_subscribed_once_all_its_channels_are_granted() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT)
    (asked,) = feed.subscribe([PERPETUAL])
    number, _, params = sent(asked)
    decoded = decode(feed, answer(number, result=params["channels"]))
    assert (decoded.subscribed, decoded.refused, decoded.ignored) == (frozenset({PERPETUAL}), (), 1)
    assert decode(feed, answer(number, result=params["channels"])).subscribed == frozenset()


def test_channels_missing_in_the_answer_are_refused_by_name_and_the_others_go_on() -> None:
    feed = Deribit([PERPETUAL, "NOPE-PERPETUAL"], ENDPOINT)
    (asked,) = feed.subscribe([PERPETUAL, "NOPE-PERPETUAL"])
    number, _, params = sent(asked)
    decoded = decode(feed, answer(number, result=[one for one in params["channels"] if "NOPE" not in one]))
    (refusal,) = decoded.refused
    assert refusal.symbols == {"NOPE-PERPETUAL"}
    assert "book.NOPE-PERPETUAL" in refusal.reason
    assert decoded.subscribed == {PERPETUAL}


def test_an_error_refuses_what_was_asked_for() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT)
    (asked,) = feed.subscribe([PERPETUAL])
    error = {"code": 13778, "message": "raw_subscriptions_not_available_for_unauthorized"}
    decoded = decode(feed, answer(sent(asked)[0], error=error))
    (refusal,) = decoded.refused
    assert refusal.symbols == {PERPETUAL}
    assert refusal.reason.endswith("raw_subscriptions_not_available_for_unauthorized (code 13778)")


def test_bad_credentials_are_refused_in_clear_words() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT, credentials=Credentials("key", "secret"))
    number, method, params = sent(feed.greet()[0])
    assert (method, params) == (
        "public/auth",
        {"grant_type": "client_credentials", "client_id": "key", "client_secret": "secret", "scope": "connection"},
    )
    decoded = decode(feed, answer(number, error={"code": 13004, "message": "invalid_credentials"}))
    assert decoded.refused == (
        Refusal(frozenset(), "deribit does not know this key or secret: invalid_credentials (code 13004)"),
    )


def test_what_cannot_be_answered_now_is_not_refused_for_good() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT)
    (asked,) = feed.subscribe([PERPETUAL])
    number, _, params = sent(asked)
    decoded = decode(feed, answer(number, error={"code": 10041, "message": "settlement_in_progress"}))
    assert [refusal.symbols for refusal in decoded.refused] == [frozenset()]
    (again,) = feed.subscribe([PERPETUAL])
    assert sent(again)[2] == params
    assert decode(feed, answer(sent(again)[0], result=params["channels"])).subscribed == {PERPETUAL}


def test_an_error_without_an_id_or_a_place_is_reported() -> None:
    #: https://docs.deribit.com/articles/errors
    frame = '{"jsonrpc":"2.0","error":{"code":11050,"data":"invalid json","message":"bad_request"},"usIn":1,"usOut":2}'
    assert decode(subscribed(PERPETUAL), frame).refused == (
        Refusal(frozenset(), 'deribit refuses a request: bad_request "invalid json" (code 11050)'),
    )


def test_a_heartbeat_is_asked_for_and_every_test_request_answered() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT)
    assert ("public/set_heartbeat", {"interval": 10}) in [sent(one)[1:] for one in feed.greet()]
    #: https://docs.deribit.com/api-reference/session-management/public-set_heartbeat
    decoded = decode(
        feed,
        '{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}',
        '{"params":{"type":"heartbeat"},"method":"heartbeat","jsonrpc":"2.0"}',
        answer(1, result="ok"),
        answer(3, result={"version": "1.2.26"}),
    )
    assert [sent(reply)[1:] for reply in decoded.replies] == [("public/test", {})]
    assert decoded.ignored == 4


def test_a_new_token_is_asked_for_before_the_old_one_ends() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT, credentials=Credentials("key", "secret"))
    greeting = feed.greet()[0]
    token = answer(sent(greeting)[0], result={"access_token": "a", "expires_in": 900, "refresh_token": "r"}).encode()
    beat = b'{"params":{"type":"heartbeat"},"method":"heartbeat","jsonrpc":"2.0"}'
    start = 1_700_000_000 * 10**9
    assert feed.decode([token], np.array([start])).replies == ()
    assert feed.decode([beat], np.array([start + 719 * 10**9])).replies == ()
    assert feed.decode([beat], np.array([start + 721 * 10**9])).replies == (greeting,)
    assert feed.decode([beat], np.array([start + 722 * 10**9])).replies == ()


def test_maintenance_is_announced_and_ends() -> None:
    feed = Deribit([PERPETUAL], ENDPOINT)
    assert ["platform_state"] in [sent(one)[2].get("channels") for one in feed.greet()]
    #: https://docs.deribit.com/subscriptions/platform/platform_state
    decoded = decode(
        feed,
        message("platform_state", {"price_index": "sol_usdc", "locked": True}),
        message("platform_state", {"maintenance": True}),
        message("platform_state", {"maintenance": False}),
        message("platform_state", "?"),
    )
    assert decoded.notices == ("maintenance", "resumed")
    assert decoded.ignored == 4


def test_a_renewed_book_leaves_its_channel_first() -> None:
    feed = subscribed(PERPETUAL)
    left, joined = feed.renew_book(PERPETUAL)
    assert sent(left)[1:] == ("public/unsubscribe", {"channels": ["book.BTC-PERPETUAL.100ms"]})
    assert sent(joined)[1:] == ("public/subscribe", {"channels": ["book.BTC-PERPETUAL.100ms"]})
    channels = ["book.BTC-PERPETUAL.100ms"]
    decoded = decode(feed, answer(sent(left)[0], result=channels), answer(sent(joined)[0], result=channels))
    assert (decoded.refused, decoded.ignored) == ((), 2)


def test_an_unsubscribed_symbol_is_left_out_without_a_word_and_can_come_back() -> None:
    feed = subscribed(PERPETUAL, "ETH-PERPETUAL")
    (left,) = feed.unsubscribe([PERPETUAL])
    assert sent(left)[1] == "public/unsubscribe"
    trade = message("trades.BTC-PERPETUAL.100ms", [TRADE])
    decoded = decode(feed, trade, left_out=1)
    assert decoded.trades.num_rows == 0
    assert decoded.rejected == ()
    (asked,) = feed.subscribe([PERPETUAL])
    assert len(sent(asked)[2]["channels"]) == 3
    assert decode(feed, trade).trades.num_rows == 1


def test_symbols_are_spread_over_connections() -> None:
    symbols = [f"BTC-27MAR26-{strike}000-C" for strike in range(10, 1_110)]
    assert [len(group) for group in Deribit.groups(symbols)] == [500, 500, 100]
    assert Deribit.groups([]) == []


@pytest.mark.parametrize("symbol", ["BTCUSDT", "btc-perpetual", "", "BTC PERPETUAL", "BTC-", "BTC.PERPETUAL"])
def test_a_symbol_deribit_cannot_have_is_refused_before_connecting(symbol: str) -> None:
    with pytest.raises(ValueError, match="deribit cannot have the symbol"):
        Deribit.groups([PERPETUAL, symbol])


def test_snapshots_come_by_subscription_only() -> None:
    feed = subscribed(PERPETUAL)
    assert feed.snapshot_request(PERPETUAL) is None
    with pytest.raises(ValueError, match="over WebSocket"):
        feed.read_snapshot(PERPETUAL, b"{}", 1)
