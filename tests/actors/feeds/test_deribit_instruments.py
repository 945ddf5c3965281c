"""The lists of what Deribit trades."""

import json
from typing import Any

import pytest

from actors.feeds.deribit import Deribit
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_deribit import (
    PERPETUAL,
)


def instruments(deribit_recording: Recording) -> dict[str, dict[str, Any]]:
    table = Deribit.read_instruments(list(deribit_recording.rest.values()))
    return {row["symbol"]: row for row in table.to_pylist()}


def test_instruments_are_requested_as_recorded(deribit_recording: Recording) -> None:
    asked = Deribit.instrument_requests(
        [PERPETUAL, "ETH-23JUL21-2300-C", "SOL-PERPETUAL", "UNI_USDC-PERPETUAL", "BTC-24SEP21"]
    )
    assert [request.path for request in asked] == list(deribit_recording.rest)


def test_instruments_say_what_their_amounts_are(deribit_recording: Recording) -> None:
    listed = instruments(deribit_recording)
    assert len(listed) == 1_017
    names = ("instrument", "kind", "base", "quote", "settle", "contract_size", "contract_currency", "inverse")
    for symbol, expected in {
        "BTC-PERPETUAL": ("BTC-PERPETUAL", "perpetual", "BTC", "USD", "BTC", 1.0, "USD", True),
        "BTC-25MAR22": ("BTC-USD-20220325", "future", "BTC", "USD", "BTC", 1.0, "USD", True),
        "UNI_USDC-PERPETUAL": ("UNI-USDC-PERPETUAL", "perpetual", "UNI", "USDC", "USDC", 1.0, "UNI", False),
        "BTC-24SEP21-40000-P": ("BTC-USD-20210924-40000-P", "option", "BTC", "BTC", "BTC", 1.0, "BTC", True),
    }.items():
        assert tuple(listed[symbol][name] for name in names) == expected
    option, perpetual = listed["BTC-24SEP21-40000-P"], listed["BTC-PERPETUAL"]
    steps = ("price_increment", "size_increment", "price_decimals", "size_decimals")
    assert [option[name] for name in steps] == [0.0005, 0.1, 4, 1]
    assert [perpetual[name] for name in steps] == [0.5, 10.0, 1, 0]
    assert (option["expiry"], option["strike"], option["option_type"]) == (1632470400 * 10**9, 40000.0, "put")
    assert perpetual["expiry"] is perpetual["strike"] is perpetual["option_type"] is None


def test_spot_and_combinations_are_listed_too() -> None:
    #: https://docs.deribit.com/api-reference/market-data/public-get_instruments
    spot = {"kind": "spot", "base_currency": "BTC", "quote_currency": "USDC", "instrument_name": "BTC_USDC"}
    combination = {"kind": "future_combo", "base_currency": "BTC", "quote_currency": "USD"}
    common = {"tick_size": 1e-5, "min_trade_amount": 0.0001, "is_active": False}
    body = json.dumps({"result": [spot | common, combination | common | {"instrument_name": "BTC-FS-27MAR26_PERP"}]})
    first, second = Deribit.read_instruments([body.encode()]).to_pylist()
    assert (first["instrument"], first["settle"], first["contract_size"], first["inverse"]) == (
        "BTC-USDC",
        None,
        None,
        False,
    )
    assert (first["price_increment"], first["price_decimals"], first["active"]) == (1e-5, 5, False)
    assert (second["instrument"], second["kind"]) == ("BTC-FS-27MAR26_PERP", "other")
    assert {request.path for request in Deribit.instrument_requests(["BTC_USDC", "PAXG_USDC"])} == {
        "/api/v2/public/get_instruments?currency=USDC&expired=false",
        "/api/v2/public/get_instruments?currency=BTC&expired=false",
    }


def test_a_currency_deribit_does_not_have_costs_no_other_list() -> None:
    refused = b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params","data":{"param":"currency"}}}'
    listed = b'{"result":[]}'
    assert Deribit.read_instruments([refused, listed, refused]).num_rows == 0
    for bodies, reason in (
        ([refused, refused], "Invalid params"),
        ([listed, b'{"error":{"code":10028,"message":"too_many_requests"}}'], "too_many_requests"),
    ):
        with pytest.raises(ValueError, match=reason):
            Deribit.read_instruments(bodies)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "unreadable"),
        (b'{"jsonrpc":"2.0"}', "missing"),
        (b'{"error":{"code":-32602,"message":"Invalid params"}}', r"Invalid params \(code -32602\)"),
        (b'{"result":[{"instrument_name":5}]}', "unreadable"),
        (b"[" * 5_000, "unreadable"),
    ],
)
def test_an_unreadable_list_of_instruments_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Deribit.read_instruments([body])
