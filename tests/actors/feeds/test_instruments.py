from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.increments import increments
from actors.feeds.instruments import currency, decimals, instrument_name, instrument_table
from storage.schema import INSTRUMENTS

CHRISTMAS = int(datetime(2026, 12, 25, 8, tzinfo=UTC).timestamp()) * 10**9
OPTION = {"kind": "option", "expiry": CHRISTMAS}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"kind": "spot", "base": "BTC", "quote": "USDT"}, "BTC-USDT"),
        ({"kind": "perpetual", "base": "BTC", "quote": "USD", "inverse": True}, "BTC-PERPETUAL"),
        ({"kind": "perpetual", "base": "BTC", "quote": "USDT"}, "BTC-USDT-PERPETUAL"),
        ({"kind": "future", "base": "BTC", "quote": "USD", "expiry": CHRISTMAS}, "BTC-USD-20261225"),
        ({"kind": "future", "base": "BTC", "quote": "USD"}, "BTC-USD"),
        ({"kind": "other", "base": "BTC", "quote": "USD"}, "BTC-USD"),
        (
            {
                "kind": "option",
                "base": "BTC",
                "quote": "USD",
                "expiry": CHRISTMAS,
                "strike": 60000.0,
                "option_type": "call",
            },
            "BTC-USD-20261225-60000-C",
        ),
        (
            {
                "kind": "option",
                "base": "XRP",
                "quote": "USDC",
                "expiry": CHRISTMAS,
                "strike": 0.525,
                "option_type": "put",
            },
            "XRP-USDC-20261225-0.525-P",
        ),
    ],
)
def test_the_same_thing_has_the_same_name_everywhere(fields: dict[str, Any], name: str) -> None:
    assert instrument_name(**fields) == name


def test_a_future_ends_on_the_day_of_its_expiry_in_utc() -> None:
    last_second = int(datetime(2026, 12, 25, 23, 59, 59, tzinfo=UTC).timestamp()) * 10**9
    for expiry, day in ((last_second, "20261225"), (last_second + 10**9, "20261226")):
        assert instrument_name("future", "BTC", "USD", expiry=expiry) == f"BTC-USD-{day}"


def test_currencies_have_their_usual_names() -> None:
    assert [currency(name) for name in ("XBT", "xdg", "btc", "EUR")] == ["BTC", "DOGE", "BTC", "EUR"]


@pytest.mark.parametrize(
    ("increment", "digits"),
    [("1", 0), ("10", 0), ("0.1", 1), ("0.0100", 2), ("0.50000000", 1), ("1e-8", 8), ("2.5E-3", 4), ("1e2", 0),
     ("0.25e1", 1)],
)  # fmt: skip
def test_the_digits_a_step_asks_for(increment: str, digits: int) -> None:
    assert decimals(increment) == digits


@given(st.integers(0, 12), st.integers(1, 999))
def test_every_multiple_of_a_step_is_exact_with_its_digits(digits: int, times: int) -> None:
    step = f"{1 / 10**digits:.{digits}f}"
    assert decimals(step) == digits
    assert float(f"{times * float(step):.{digits}f}") == times / 10**digits


def test_the_steps_of_an_instrument_are_null_where_the_exchange_has_none() -> None:
    assert increments("0.0100", "1") == {
        "price_increment": 0.01,
        "size_increment": 1.0,
        "price_decimals": 2,
        "size_decimals": 0,
    }
    for nothing in ("", "0", "0.00000000", "-1", "nan", "soon"):
        assert set(increments(nothing, nothing).values()) == {None}


def test_a_row_may_leave_out_what_is_null_or_usual() -> None:
    required = {"symbol": "BTCUSDT", "instrument": "BTC-USDT", "kind": "spot", "base": "BTC", "quote": "USDT"}
    table = instrument_table([required, required | {"inverse": True, "active": False, "contract_size": 10.0}])
    table.validate(full=True)
    assert table.schema == INSTRUMENTS
    plain, special = table.to_pylist()
    assert {name: value for name, value in plain.items() if value is not None} == required | {
        "inverse": False,
        "active": True,
    }
    assert (special["inverse"], special["active"], special["contract_size"]) == (True, False, 10.0)
    assert instrument_table([]).schema == INSTRUMENTS
