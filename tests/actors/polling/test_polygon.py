"""Polygon's aggregates, as they come and as they should not."""

import json
import random
from typing import Any

import pytest

from actors.polling.bars import MAX_BARS, flaw
from actors.polling.market_hours import Session
from actors.polling.polygon import Polygon
from actors.polling.provider import Failed, Price, Reading, Refused

KEY = "sesame-open-sesame"
MS = 1_000_000
#: 2020-11-10, 14:30 and 21:00 UTC.
OPEN, CLOSE = 1_605_018_600_000, 1_605_042_000_000
SESSION = Session(OPEN * MS, CLOSE * MS)
NOW = (CLOSE + 1_800_000) * MS
#: From https://polygon.io/docs/rest/stocks/aggregates/previous-day-bar
PREVIOUS = (
    b'{"adjusted":true,"queryCount":1,"request_id":"6a7e466379af0a71039d60cc78e72282","results":[{"T":"AAPL",'
    b'"c":115.97,"h":117.59,"l":114.13,"o":115.55,"t":1605042000000,"v":131704427,"vw":116.3058}],'
    b'"resultsCount":1,"status":"OK","ticker":"AAPL"}'
)

polygon = Polygon(KEY, ("1m", "1d"))


def row(t: int = OPEN, **values: Any) -> dict[str, Any]:
    return {"v": 100.0, "vw": 75.0, "o": 74.0, "c": 75.5, "h": 76.0, "l": 73.5, "t": t, "n": 7, **values}


def answer(rows: list[dict[str, Any]], **fields: Any) -> bytes:
    return json.dumps({"ticker": "AAPL", "status": "OK", "results": rows, **fields}).encode()


def read(body: bytes, timeframe: str = "1m") -> Reading:
    return polygon.read("AAPL", timeframe, body, NOW)


def test_requests_name_what_they_ask_for_and_carry_the_key_in_a_header_only() -> None:
    day = polygon.request("BRK.B", "1d", SESSION)
    assert day.path == "/v2/aggs/ticker/BRK.B/prev?adjusted=false"
    minutes = polygon.request("I:SPX", "1m", SESSION)
    assert minutes.path == (
        f"/v2/aggs/ticker/I%3ASPX/range/1/minute/{OPEN}/{CLOSE - 1}?adjusted=false&sort=asc&limit=50000"
    )
    for request in (day, minutes):
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(request)
        assert KEY not in request.path


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel", "x" * 201])
def test_a_key_that_can_be_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as error:
        Polygon(key, ("1d",))
    assert not key or key not in str(error.value)


def test_the_day_before_is_a_closed_bar_of_its_date() -> None:
    reading = read(PREVIOUS, "1d")
    (bar,) = reading.bars
    assert bar.time == 1_604_966_400_000_000_000  # 2020-11-10, midnight
    assert bar[1:5] == (115.55, 117.59, 114.13, 115.97)
    assert bar.volume == 131_704_427
    assert bar.quote_volume == pytest.approx(131_704_427 * 116.3058)
    assert bar.trade_count is None
    assert bar.closed
    assert reading.price == Price(115.97, bar.time)


def test_minutes_come_with_the_number_of_trades_where_it_is_said() -> None:
    reading = read(answer([row(), row(OPEN + 60_000, c=75.0, n=None)]))
    assert [(bar.time, bar.trade_count) for bar in reading.bars] == [(OPEN * MS, 7), ((OPEN + 60_000) * MS, None)]
    assert reading.price == Price(75.0, (OPEN + 60_000) * MS)
    assert reading.more is None


def test_an_index_has_neither_volume_nor_value() -> None:
    (bar,) = read(answer([{"o": 1, "h": 1, "l": 1, "c": 1, "t": OPEN}])).bars
    assert (bar.volume, bar.quote_volume, bar.trade_count) == (None, None, None)


def test_a_volume_without_an_average_price_has_no_value() -> None:
    assert read(answer([row(vw=None)])).bars[0].quote_volume is None


@pytest.mark.parametrize("fields", [{}, {"results": None}, {"results": []}, {"status": "DELAYED"}])
def test_an_answer_without_trades_has_no_bars(fields: dict[str, Any]) -> None:
    body = {"ticker": "AAPL", "queryCount": 0, "resultsCount": 0, "adjusted": False, "status": "OK", **fields}
    reading = read(json.dumps(body).encode())
    assert (reading.bars, reading.price, reading.more) == ([], None, None)


def test_the_next_page_is_asked_where_the_first_was_whatever_the_answer_says() -> None:
    more = read(
        answer([], next_url=f"https://evil.example/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor=bGlt%3D&apiKey={KEY}")
    ).more
    assert more is not None
    assert more.path == "/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor=bGlt%3D"
    assert more.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.polygon.io/v3/reference",
        "https://api.polygon.io/v2/aggs/ticker/../../admin",
        "//[::1",
        "",
        "https://api.polygon.io/v2/aggs/ticker/A B",
        "https://api.polygon.io/v2/aggs/ticker/" + "A" * 3000,
    ],
)
def test_a_next_page_elsewhere_is_a_failure(url: str) -> None:
    with pytest.raises(Failed, match="next page"):
        read(answer([], next_url=url))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cannot be read"),
        (b"\x1f\x8b\x08", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (answer([row()], ticker="MSFT"), "another symbol"),
        (answer([row()], status="ERROR", error="You've exceeded the maximum requests"), "ERROR: You've exceeded"),
        (answer([row()], status="ERROR", message=f"Unknown API Key {KEY}"), r"Unknown API Key \*\*\*"),
        (answer([row(o="74")]), "cannot be read"),
        (answer([row(n=-1)]), "cannot be read"),
        (answer([row(n=2**70)]), "cannot be read"),
        (answer([row(OPEN - 60_000 * i) for i in range(MAX_BARS + 1)]), "more than"),
    ],
)
def test_an_answer_that_is_none_is_a_failure_with_a_reason(body: bytes, why: str) -> None:
    with pytest.raises(Failed, match=why) as error:
        read(body)
    assert KEY not in str(error.value)


def test_rows_that_cannot_be_are_counted_by_reason() -> None:
    reading = read(answer([row(OPEN + 1), row(t=10**20 * 60_000), row(h=1.0), row(v=-1.0), row()]))
    assert len(reading.bars) == 1
    assert reading.unusable == {
        "not the start of a minute": 1,
        "impossible time": 1,
        "prices outside low and high": 1,
        "impossible volume": 1,
    }


def test_what_polygon_says_in_an_error_is_shown_without_the_key() -> None:
    body = json.dumps({"status": "NOT_AUTHORIZED", "request_id": "0f1e", "message": f"no plan\nfor {KEY}"}).encode()
    assert polygon.complaint(body) == "no plan for ***"
    assert polygon.complaint(b'{"status":"NOT_FOUND"}') == "NOT_FOUND"
    assert polygon.complaint(b"<html>") == ""


def test_whatever_comes_back_is_read_refused_or_a_failure() -> None:
    body = answer([row(OPEN + 60_000 * i) for i in range(3)], next_url="https://x/v2/aggs/ticker/AAPL?cursor=1")
    source = random.Random(6)
    pieces = [b"null", b"-1", b"1e400", b"9" * 400, b'"x"', b"[]", b"{}", b"true", b"NaN", b"\xff", b"0", b"{", b"["]
    outcomes = {"read": 0, "failed": 0}
    for _ in range(5000):
        mutated = bytearray(body)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(mutated))
            if source.random() < 0.5:
                mutated[at : at + source.randint(0, 3)] = source.choice(pieces)
            else:
                mutated[at] = source.randrange(256)
        try:
            reading = read(bytes(mutated), source.choice(["1m", "1d"]))
        except (Refused, Failed):
            outcomes["failed"] += 1
        else:
            outcomes["read"] += 1
            assert not any(flaw(bar, NOW) for bar in reading.bars)
            assert reading.more is None or reading.more.path.startswith("/v2/aggs/ticker/")
        polygon.complaint(bytes(mutated))
    assert min(outcomes.values()) > 200
