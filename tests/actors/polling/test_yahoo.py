"""Yahoo's chart answers, as they come and as they should not."""

import json
import random
from typing import Any

import pytest

from actors.polling.bars import MAX_BARS, flaw
from actors.polling.market_hours import Session
from actors.polling.provider import Failed, Price, Reading, Refused
from actors.polling.yahoo import Yahoo

OPEN, CLOSE = 1_788_528_600, 1_788_552_000  # 2026-09-04, 13:30 and 20:00 UTC
SECOND = 1_000_000_000
NOW = (CLOSE + 1800) * SECOND
SESSION = Session(OPEN * SECOND, CLOSE * SECOND)

yahoo = Yahoo("Mozilla/5.0 (compatible; rayfeed)")


def chart(rows: list[tuple[Any, ...]], **meta: Any) -> bytes:
    """An answer with `rows` of (seconds, open, high, low, close, volume)."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * 6
    names = ("open", "high", "low", "close", "volume")
    period = {"timezone": "EDT", "start": OPEN, "end": CLOSE, "gmtoffset": -14400}
    result: dict[str, Any] = {
        "meta": {
            "currency": "USD",
            "symbol": "TSLA",
            "regularMarketTime": CLOSE,
            "regularMarketPrice": 354.08,
            "currentTradingPeriod": {"pre": {"start": 1}, "regular": period, "post": {"end": 2}},
            "tradingPeriods": [[period]],
            "dataGranularity": "1m",
            "range": "1d",
            **meta,
        },
        "timestamp": list(columns[0]),
        "indicators": {"quote": [dict(zip(names, map(list, columns[1:]), strict=True))]},
    }
    return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def read(body: bytes, symbol: str = "TSLA") -> Reading:
    return yahoo.read(symbol, "1m", body, NOW)


def test_a_request_is_for_the_minutes_of_one_day_and_escapes_the_symbol() -> None:
    request = yahoo.request("^GSPC", "1m", SESSION)
    assert request.path == "/v8/finance/chart/%5EGSPC?interval=1m&range=1d"
    assert request.headers["User-Agent"] == "Mozilla/5.0 (compatible; rayfeed)"
    assert request.headers["Accept-Encoding"] == "identity"
    assert "%2F" in yahoo.request("a/../b?x=1&", "1m", SESSION).path


def test_each_row_with_prices_is_a_bar_and_a_minute_without_trades_is_none() -> None:
    reading = read(
        chart(
            [
                (OPEN, 360.0, 361.0, 359.0, 359.6, 120000),
                (OPEN + 60, 359.5, 360.2, 358.8, 359.0, 98000),
                (OPEN + 120, None, None, None, None, None),
                (OPEN + 180, 354.1, 354.4, 353.9, None, 5000),
            ]
        )
    )
    assert [(bar.time, bar[1:5], bar.volume) for bar in reading.bars] == [
        (OPEN * SECOND, (360.0, 361.0, 359.0, 359.6), 120000),
        ((OPEN + 60) * SECOND, (359.5, 360.2, 358.8, 359.0), 98000),
    ]
    assert reading.unusable == {"no price": 2}
    assert reading.price == Price(354.08, CLOSE * SECOND)


def test_what_yahoo_does_not_say_is_null() -> None:
    bar = read(chart([(OPEN, 1.0, 2.0, 0.5, 1.5, None)])).bars[0]
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (None, None, None)
    assert read(chart([(OPEN, 1.0, 2.0, 0.5, 1.5, 0)])).bars[0].volume == 0


def test_the_row_with_the_price_of_now_is_no_bar() -> None:
    bars = read(
        chart(
            [
                (OPEN, 360.0, 361.0, 359.0, 359.6, 120000),
                (OPEN + 135, 359.5, 359.5, 359.5, 359.5, 0),
                (CLOSE, 354.08, 354.08, 354.08, 354.08, 0),
            ]
        )
    ).bars
    assert [bar.time for bar in bars] == [OPEN * SECOND]


def test_a_closing_auction_with_volume_is_a_bar() -> None:
    assert len(read(chart([(CLOSE, 354.1, 354.4, 353.9, 352.89 + 1.2, 5000)])).bars) == 1


def test_the_close_is_known_from_the_days_shown_when_the_current_day_is_another() -> None:
    tomorrow = {"regular": {"start": OPEN + 86400, "end": CLOSE + 86400}}
    live = [(CLOSE, 354.08, 354.08, 354.08, 354.08, 0)]
    assert read(chart(live, currentTradingPeriod=tomorrow)).bars == []
    parts = {"pre": [[{"start": 1, "end": 2}]]}
    assert read(chart(live, tradingPeriods=parts)).bars == []


def test_prices_lose_the_noise_of_32_bit_floats_and_nothing_else() -> None:
    noisy = (306.1199951171875, 315.67999267578125, 304.3900146484375, 306.1199951171875)
    assert read(chart([(OPEN, *noisy, 1)])).bars[0][1:5] == (306.12, 315.68, 304.39, 306.12)
    exact = (0.1, 0.30000000000000004, 0.1, 66800.0)
    assert read(chart([(OPEN, exact[0], exact[3], exact[0], exact[1], 1)])).bars[0][1:5] == (
        0.1,
        66800.0,
        0.1,
        exact[1],
    )


def test_a_day_without_trades_has_no_bars() -> None:
    assert read(chart([])).bars == []
    empty = json.loads(chart([]))
    del empty["chart"]["result"][0]["timestamp"]
    empty["chart"]["result"][0]["indicators"] = {"quote": [{}], "adjclose": [{}]}
    assert read(json.dumps(empty).encode()).bars == []


@pytest.mark.parametrize(
    "meta",
    [
        {"regularMarketPrice": None},
        {"regularMarketTime": None},
        {"regularMarketTime": 10**12},
        {"regularMarketTime": -5},
    ],
)
def test_a_price_without_a_time_it_can_be_of_is_not_known(meta: dict[str, Any]) -> None:
    assert read(chart([], **meta)).price is None


def test_a_symbol_yahoo_does_not_have_is_refused_with_its_words() -> None:
    # https://query1.finance.yahoo.com/v8/finance/chart/INVALID.BO, status 404
    body = (
        b'{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}'
    )
    with pytest.raises(Refused, match="Not Found: No data found, symbol may be delisted"):
        read(body)
    assert yahoo.complaint(body) == "Not Found: No data found, symbol may be delisted"
    assert yahoo.complaint(b"Too Many Requests\r\n") == ""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cannot be read"),
        (b"Too Many Requests\r\n", "cannot be read"),
        (b"<html>", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"chart":{"result":null,"error":null}}', "empty answer"),
        (b'{"chart":{"result":[],"error":null}}', "empty answer"),
        (chart([(OPEN, 1, 1, 1, 1, 1)], symbol="AAPL"), "another symbol"),
        (chart([(OPEN, 1, 1, 1, 1, 1)], dataGranularity="1d"), "bars of 1d"),
        (chart([(OPEN, 1, 1, 1, 1, 1)]).replace(b'"open": [1]', b'"open": [1, 2]'), "different lengths"),
        (chart([(OPEN, 1, 1, 1, 1, 1)]).replace(b'"open": [1]', b'"open": ["1"]'), "cannot be read"),
        (chart([(OPEN + 60 * i, 1, 1, 1, 1, 1) for i in range(MAX_BARS + 1)]), "rows"),
    ],
)
def test_an_answer_that_is_none_is_a_failure_with_a_reason(body: bytes, why: str) -> None:
    with pytest.raises(Failed, match=why):
        read(body)


def test_rows_that_cannot_be_are_counted_by_reason() -> None:
    reading = read(
        chart(
            [
                (3960, 1, 1, 1, 1, 1),
                (OPEN + 10**9 * 6, 1, 1, 1, 1, 1),
                (OPEN, 1, 0.5, 1, 1, 1),
                (OPEN, 1, 1, 1, 1, -1),
            ]
        )
    )
    # 01:06 on the first day of 1970 is no time of a stock, but it is a time.
    assert len(reading.bars) == 1
    assert reading.unusable == {
        "impossible time": 1,
        "prices outside low and high": 1,
        "impossible volume": 1,
    }


def test_whatever_comes_back_is_read_refused_or_a_failure() -> None:
    rows = [(OPEN + 60 * i, 1.5, 2.5, 0.5, 1.25, 100) for i in range(4)]
    # Fewer hits in names than in values.
    body = chart(rows).replace(b" ", b"")
    source = random.Random(5)
    pieces = [b"null", b"-1", b"1e400", b"9" * 400, b'"x"', b"[]", b"{}", b"true", b"NaN", b"\xff", b"0", b"{", b"["]
    outcomes = {"read": 0, "refused": 0, "failed": 0}
    for _ in range(5000):
        mutated = bytearray(body)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(mutated))
            match source.randrange(4):
                case 0:
                    mutated[at] = source.randrange(256)
                case 1:
                    del mutated[at : at + source.randint(1, 20)]
                case 2:
                    mutated[at:at] = source.choice(pieces)
                case _:
                    numbers = [i for i in range(len(mutated)) if chr(mutated[i]).isdigit()]
                    if numbers:
                        at = source.choice(numbers)
                        mutated[at : at + 1] = source.choice(pieces)
        try:
            reading = read(bytes(mutated))
        except Refused:
            outcomes["refused"] += 1
        except Failed:
            outcomes["failed"] += 1
        else:
            outcomes["read"] += 1
            assert not any(flaw(bar, NOW) for bar in reading.bars)
        yahoo.complaint(bytes(mutated))
    assert min(outcomes["read"], outcomes["failed"]) > 200
