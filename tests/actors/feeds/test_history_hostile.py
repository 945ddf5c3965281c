"""Answers for past trades that are none."""

import json
import random
from typing import Any, Final

import pytest

from actors.feeds.history import Wanted
from actors.feeds.registry import HISTORIES
from storage.schema import TRADES
from tests.actors.feeds.mutations import mutated
from tests.actors.feeds.test_history_documented import DOCUMENTED, RECEIVED

WANTED: Final = {exchange: Wanted(symbol, 0, RECEIVED - 1) for exchange, symbol, _, _ in DOCUMENTED}
BODIES: Final = {exchange: body for exchange, _, body, _ in DOCUMENTED}


@pytest.mark.parametrize("exchange", HISTORIES)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"[{}]", b"[[]]", b"[1]", b"<html>"],
)
def test_what_is_no_list_of_trades_is_refused_with_a_reason(exchange: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        HISTORIES[exchange].read(WANTED[exchange], body, RECEIVED)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    ("exchange", "body", "reason"),
    [
        ("binance", b'{"code":-1121,"msg":"Invalid symbol."}', r"Invalid symbol. \(code -1121\)"),
        ("kraken", b'{"error":["EQuery:Unknown asset pair"]}', "Unknown asset pair"),
        ("kraken", b'{"error":[],"result":{"A":[],"B":[],"last":"1"}}', "one pair"),
        (
            "deribit",
            b'{"jsonrpc":"2.0","error":{"message":"Invalid params","data":{"param":"instrument_name"},"code":-32602}}',
            "Invalid params",
        ),
        ("okx", b'{"code":"51001","msg":"Instrument ID does not exist","data":[]}', r"not exist \(code 51001\)"),
        ("bybit", b'{"retCode":10001,"retMsg":"Not supported symbols","result":{}}', r"symbols \(code 10001\)"),
        ("bitfinex", b'["error",10020,"limit: invalid"]', r"limit: invalid \(code 10020\)"),
        ("deribit", BODIES["deribit"].replace(b"BTC-PERPETUAL", b"ETH-PERPETUAL"), "another instrument"),
        ("bybit", BODIES["bybit"].replace(b"BTCUSDT", b"ETHUSDT"), "another symbol"),
    ],
)
def test_what_the_exchange_refuses_is_said_in_its_words(exchange: str, body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        HISTORIES[exchange].read(WANTED[exchange], body, RECEIVED)


@pytest.mark.parametrize("exchange", HISTORIES)
def test_a_trade_no_live_feed_would_accept_is_left_out_and_the_others_stay(exchange: str) -> None:
    """Price, size and time in turn are made unusable, beside a trade that is well."""
    history, wanted = HISTORIES[exchange], WANTED[exchange]
    well = history.read(wanted, BODIES[exchange], RECEIVED).trades.num_rows
    seen = set()
    for body in one_number_replaced(BODIES[exchange]):
        try:
            page = history.read(wanted, body, RECEIVED)
        except ValueError:
            continue
        seen.add(well - page.trades.num_rows)
        page.trades.validate(full=True)
    assert 1 in seen


def one_number_replaced(body: bytes) -> list[bytes]:
    """The body with each of its numbers (as text or not) replaced by 0, a negative one and one of many digits."""
    found: list[bytes] = []
    decoded = json.loads(body)

    def walk(part: Any) -> None:
        for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
            if isinstance(value, dict | list):
                walk(value)
            elif isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "").isdigit()):
                for other in (0, -1, 10**30, 2**63 - 1):
                    part[key] = str(other) if isinstance(value, str) else other
                    found.append(json.dumps(decoded).encode())
                part[key] = value

    walk(decoded)
    return found


@pytest.mark.parametrize("exchange", HISTORIES)
def test_mutated_answers_are_refused_or_give_rows_that_make_sense(exchange: str) -> None:
    history = HISTORIES[exchange]
    symbol = WANTED[exchange].symbol
    randomness = random.Random(7)
    read = 0
    for body in mutated([BODIES[exchange]], 1_500, 7):
        ids = (randomness.randrange(10**9), 2 * 10**9) if randomness.random() < 0.5 else (None, None)
        wanted = Wanted(symbol, 0, RECEIVED - 1, *ids)
        try:
            page = history.read(wanted, body, RECEIVED)
        except ValueError as refused:
            assert str(refused)
            continue
        read += 1
        page.trades.validate(full=True)
        assert page.trades.schema == TRADES
        for row in page.trades.to_pylist():
            assert 0 < row["price"] < float("inf")
            assert 0 < row["size"] < float("inf")
            assert -(2**63) <= row["trade_id"] < 2**63
        assert wanted.from_ns <= page.reached_ns <= wanted.to_ns
        assert not (page.covered and page.next is not None)
    assert 0 < read < 1_500
