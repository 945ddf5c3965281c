"""The lists of what Bitfinex trades."""

import pytest

from actors.feeds.bitfinex import Bitfinex
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_bitfinex import (
    CONTRACT,
    recorded_symbols,
)


def test_instruments_are_requested_as_recorded(bitfinex_recording: Recording) -> None:
    paths = [request.path for request in Bitfinex.instrument_requests(recorded_symbols(bitfinex_recording))]
    assert set(paths) <= set(bitfinex_recording.rest)
    assert len(Bitfinex.instrument_requests(["tBTCUSD", CONTRACT])) == 2


def test_instruments_have_the_usual_names(bitfinex_recording: Recording) -> None:
    listed = [bitfinex_recording.rest[f"/v2/conf/pub:list:pair:{kind}"] for kind in ("exchange", "future")]
    table = Bitfinex.read_instruments(listed)
    found = {row["symbol"]: row for row in table.to_pylist()}
    assert len(found) == 293 + 35
    assert set(recorded_symbols(bitfinex_recording)) <= set(found)
    names = ("instrument", "kind", "base", "quote", "settle", "contract_size", "contract_currency", "inverse")
    for symbol, expected in {
        "tBTCUSD": ("BTC-USD", "spot", "BTC", "USD", None, None, None, False),
        "tBTCUST": ("BTC-USDT", "spot", "BTC", "USDT", None, None, None, False),
        "tIOTETH": ("IOTA-ETH", "spot", "IOTA", "ETH", None, None, None, False),
        "tBCHN:USD": ("BCH-USD", "spot", "BCH", "USD", None, None, None, False),
        "tBTCF0:USTF0": ("BTC-USDT-PERPETUAL", "perpetual", "BTC", "USDT", "USDT", 1.0, "BTC", False),
        "tETHF0:BTCF0": ("ETH-BTC-PERPETUAL", "perpetual", "ETH", "BTC", "BTC", 1.0, "ETH", False),
    }.items():
        assert tuple(found[symbol][name] for name in names) == expected
    for name in ("price_increment", "size_increment", "price_decimals", "size_decimals", "expiry"):
        assert table.column(name).null_count == table.num_rows, name


@pytest.mark.parametrize("body", [b"<html>", b'["error",10020,"conf: invalid"]', b'[["USD"]]', b"[" * 5_000, b"[[5]]"])
def test_an_unreadable_list_of_instruments_says_why(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"unreadable|no pair"):
        Bitfinex.read_instruments([body])
