"""Any trades, anything wanted of them: exactly that is found, with an end to the requests."""

from collections.abc import Iterator
from importlib import import_module
from itertools import accumulate, groupby
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.feed import RestRequest
from actors.feeds.history import Wanted
from actors.feeds.registry import FEEDS, HISTORIES
from tests.actors.feeds.past_trades import HOUR_MS, LIMIT, MS, SERVERS, SYMBOLS, Past, Server, answered, fetch, kraken

#: 2023-11-14, 10:00:00.
BEGIN_MS: Final = 1_699_956_000_000
NOW_NS: Final = (BEGIN_MS + 20 * HOUR_MS) * MS
#: Those that count the trades of a symbol.
COUNTED: Final = ("binance", "coinbase", "deribit", "kraken", "okx")
#: Those whose pages are of a time: more trades at one moment than a page holds cannot be told apart.
TIMED: Final = ("bitfinex", "kraken")


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for exchange in SERVERS:
            module = import_module(f"actors.feeds.{exchange}.history")
            if exchange == "bybit":
                patched.setattr(module, "_LIMITS", {"spot": LIMIT})
            else:
                patched.setattr(module, "_LIMIT", LIMIT)
        yield


@st.composite
def markets(draw: st.DrawFn, resolution_ns: int = MS) -> list[Past]:
    """Trades with rising ids, several of them at the same time, sometimes hours apart."""
    apart = st.sampled_from([0, 0, 0, 1, 1, 2, 5_000]) | st.integers(0, 2 * HOUR_MS)
    steps = draw(st.lists(apart, max_size=14))
    first_id = draw(st.sampled_from([1, 2, 1_000, 10**12]))
    sides = st.integers(0, 1)
    return [
        Past(
            BEGIN_MS * MS + min(after, 6 * HOUR_MS) * resolution_ns,
            first_id + number,
            30_000 + number / 8,
            0.5,
            draw(sides),
        )
        for number, after in enumerate(accumulate(steps))
    ]


def burst(trades: list[Past]) -> int:
    """How many trades there are at one moment at most."""
    return max((len(list(same)) for _, same in groupby(trades, lambda one: one.t_ns)), default=0)


def most_requests(trades: list[Past]) -> int:
    return len(trades) + 8 + 4


def ask(exchange: str, trades: list[Past], wanted: Wanted, server: Server | None = None) -> Any:
    server = server or SERVERS[exchange]

    def answer(request: RestRequest) -> bytes:
        assert 1 <= request.weight <= FEEDS[exchange].limits.rest_weight_per_minute / 10
        return answered(server, trades, request)

    return fetch(HISTORIES[exchange], wanted, answer, NOW_NS, most_requests(trades))


@pytest.mark.parametrize("exchange", COUNTED)
@given(data=st.data())
def test_a_gap_of_ids_is_found_as_far_as_the_exchange_has_it(exchange: str, data: st.DataObject) -> None:
    trades = data.draw(markets())
    numbers = [one.id for one in trades] or [5]
    first = data.draw(st.integers(max(numbers[0] - 2, 0), numbers[-1] + 2))
    last = data.draw(st.integers(first, numbers[-1] + 3))
    kept = [one for one in trades if data.draw(st.booleans())] if data.draw(st.booleans()) else trades
    around = [one.t_ns for one in trades if first - 1 <= one.id <= last + 1] or [BEGIN_MS * MS]
    wanted = Wanted(SYMBOLS[exchange], around[0], around[-1], first, last)
    found = ask(exchange, kept, wanted)
    expected = [one for one in kept if first <= one.id <= last]
    if exchange in TIMED and burst(kept) >= LIMIT:
        assert set(found.trades) <= set(expected)
        assert found.trades == expected or not found.covered
        return
    assert found.trades == expected
    if exchange == "deribit":
        # It is asked for these numbers only.
        assert found.covered == any(one.id == last for one in kept)
    elif HISTORIES[exchange].forwards:
        assert found.covered == any(one.id >= last for one in kept)
    else:
        before_last = [one for one in kept if one.id <= last]
        assert found.covered == any(one.id <= first for one in before_last)


@pytest.mark.parametrize("exchange", SERVERS)
@given(data=st.data())
def test_a_time_is_found_as_far_as_the_exchange_has_it(exchange: str, data: st.DataObject) -> None:
    trades = data.draw(markets())
    moments = st.sampled_from([one.t_ns for one in trades] or [BEGIN_MS * MS])
    nearby = st.builds(lambda moment, shift: moment + shift, moments, st.sampled_from([-MS, -1, 0, 1, MS]))
    from_ns, to_ns = sorted([data.draw(nearby), data.draw(nearby)])
    found = ask(exchange, trades, Wanted(SYMBOLS[exchange], from_ns, to_ns))
    expected = [one for one in trades if from_ns <= one.t_ns <= to_ns]
    before = any(one.t_ns < from_ns for one in trades)
    if exchange == "bybit":
        newest = trades[-LIMIT:]
        assert found.trades == [one for one in newest if one in expected]
        assert found.covered == any(one.t_ns < from_ns for one in newest)
    elif exchange in TIMED and burst(trades) >= LIMIT:
        assert set(found.trades) <= set(expected)
        assert found.trades == expected or not found.covered
    else:
        assert found.trades == expected
        assert found.covered == (HISTORIES[exchange].forwards or before)


@given(markets(resolution_ns=250), st.booleans(), st.data())
def test_kraken_loses_no_trade_whether_its_since_is_inclusive_or_not(
    trades: list[Past], inclusive: bool, data: st.DataObject
) -> None:
    moments = st.sampled_from([one.t_ns for one in trades] or [BEGIN_MS * MS])
    from_ns, to_ns = sorted([data.draw(moments) // 1000 * 1000, data.draw(moments) // 1000 * 1000])
    found = ask("kraken", trades, Wanted("BTC/USD", from_ns, to_ns), kraken(inclusive))
    # The live feed has microseconds.
    live = [one._replace(t_ns=one.t_ns // 1000 * 1000) for one in trades]
    expected = sorted(one for one in live if from_ns <= one.t_ns <= to_ns)
    assert set(found.trades) <= set(expected)
    assert found.trades == expected or (burst(trades) >= LIMIT - 1 and not found.covered)


@pytest.mark.parametrize("exchange", SERVERS)
def test_a_time_that_is_not_over_is_not_covered(exchange: str) -> None:
    trades = [Past((BEGIN_MS + number) * MS, 1_000 + number) for number in range(2)]
    wanted = Wanted(SYMBOLS[exchange], (BEGIN_MS + 1) * MS, NOW_NS)
    found = ask(exchange, trades, wanted)
    assert found.trades == trades[1:]
    assert not found.covered


@pytest.mark.parametrize("burst_size", [LIMIT + 1, 2 * LIMIT, 10])
@pytest.mark.parametrize("exchange", [one for one in SERVERS if one not in (*TIMED, "bybit")])
def test_trades_of_one_moment_that_do_not_fit_a_page_are_all_found(exchange: str, burst_size: int) -> None:
    before = Past((BEGIN_MS - 1) * MS, 999)
    trades = [before, *(Past(BEGIN_MS * MS, 1_000 + number) for number in range(burst_size))]
    found = ask(exchange, trades, Wanted(SYMBOLS[exchange], BEGIN_MS * MS, BEGIN_MS * MS))
    assert found.trades == trades[1:]
    assert found.covered


def test_deribit_covers_no_time_it_has_forgotten() -> None:
    wanted = Wanted("BTC-PERPETUAL", NOW_NS - 25 * HOUR_MS * MS, NOW_NS - 24 * HOUR_MS * MS)
    assert not ask("deribit", [], wanted).covered
    assert ask("deribit", [], Wanted("BTC-PERPETUAL", NOW_NS - HOUR_MS * MS, NOW_NS - 1)).covered


@pytest.mark.parametrize("exchange", SERVERS)
@pytest.mark.parametrize("ids", [(100, 200), (None, None)])
def test_an_exchange_that_always_answers_the_same_is_not_asked_for_ever(exchange: str, ids: tuple[int, int]) -> None:
    """Trades from before and after what is wanted, and a full page of it."""
    for first_id in (1, 50, 98, 120, 199, 10**9):
        for begin in (BEGIN_MS - 10, BEGIN_MS, BEGIN_MS + 100):
            trades = [Past((begin + number) * MS, first_id + number) for number in range(LIMIT)]
            wanted = Wanted(SYMBOLS[exchange], BEGIN_MS * MS, (BEGIN_MS + 90) * MS, *ids)
            request = HISTORIES[exchange].request(wanted)
            assert request is not None
            body = always(exchange, trades)

            def answer(_: RestRequest, body: bytes = body) -> bytes:
                return body

            assert len(fetch(HISTORIES[exchange], wanted, answer, NOW_NS, 5).pages) <= 4


def always(exchange: str, trades: list[Past]) -> bytes:
    """A full page of these trades."""
    everything = {
        "binance": "/api/v3/aggTrades?symbol=BTCUSDT&fromId=0&limit=3",
        "bitfinex": f"/v2/trades/tBTCUSD/hist?start=0&end={10**13}&limit=3&sort=1",
        "bybit": "/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit=3",
        "coinbase": "/products/BTC-USD/trades?limit=3",
        "deribit": "/api/v2/public/get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&start_seq=0&count=3"
        "&sorting=asc",
        "kraken": "/0/public/Trades?pair=XBTUSD&since=0&count=3",
        "okx": f"/api/v5/market/history-trades?instId=BTC-USDT&type=1&after={10**15}&limit=3",
    }
    return answered(SERVERS[exchange], trades, RestRequest(everything[exchange])).replace(
        b'"has_more": false', b'"has_more": true'
    )
