from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.simulator.dialect import Trades
from actors.simulator.dialects.binance import BinanceDialect
from actors.simulator.dialects.kraken import KrakenDialect
from actors.simulator.market import Last, Market
from actors.simulator.truth import RecentTrades, TradeHistory, Truth, joined
from storage.column_layout import join_time
from storage.column_reader import ColumnReader

START_NS = 1_700_000_000_123_456_789
DAY_NS = 24 * 3600 * 10**9
#: Just before midnight: trades are of two days.
MIDNIGHT_NS = START_NS // DAY_NS * DAY_NS + DAY_NS
LISTED = BinanceDialect.listing("BTCUSDT")
ALWAYS = (0, 2**63 - 1)


def made(count: int, start_ns: int = MIDNIGHT_NS - 10**9) -> list[Trades]:
    """About two seconds of trades, in pieces."""
    market = Market(3, BinanceDialect({"BTCUSDT": LISTED}), start_ns, 500)
    return [events.trades for block in islice(market, count) for events in block]


def rows(trades: Trades) -> list[tuple[int, ...]]:
    columns = (trades.t_ns, trades.ids, trades.prices, trades.sizes, trades.sides)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.fixture(params=["files", "memory"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> TradeHistory:
    return Truth(tmp_path, "binance") if request.param == "files" else RecentTrades()


def test_trades_are_found_by_id_and_time_and_whole_steps_stay_whole(history: TradeHistory) -> None:
    parts = made(4)
    for part in parts:
        history.append(LISTED, part)
    every = joined(parts)
    known = rows(every)
    assert rows(history.select(LISTED, ALWAYS, ALWAYS, 10**6, newest=False)) == known
    assert rows(history.select(LISTED, ALWAYS, ALWAYS, 10, newest=True)) == known[-10:]
    middle = int(every.ids[300])
    assert rows(history.select(LISTED, (middle, middle + 400), ALWAYS, 7, newest=False)) == known[300:307]
    assert rows(history.select(LISTED, (middle, middle + 400), ALWAYS, 7, newest=True)) == known[694:701]
    # Several trades have the same millisecond.
    at_ns = int(every.t_ns[400])
    expected = [row for row in known if at_ns <= row[0] <= MIDNIGHT_NS + 10**8]
    assert expected[0][0] < MIDNIGHT_NS <= expected[-1][0]
    assert rows(history.select(LISTED, ALWAYS, (at_ns, MIDNIGHT_NS + 10**8), 10**6, newest=False)) == expected
    history.close()


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(), st.integers()), st.tuples(st.integers(), st.integers()), st.integers(-1, 5))
def test_whatever_is_asked_for_is_answered(ids: tuple[int, int], span: tuple[int, int], limit: int) -> None:
    history = RecentTrades()
    history.append(LISTED, made(1)[0])
    for newest in (False, True):
        assert len(history.select(LISTED, ids, span, limit, newest)) <= max(limit, 0)


def test_whatever_is_asked_for_is_answered_from_files(tmp_path: Path) -> None:
    history = Truth(tmp_path, "binance")
    assert len(history.select(LISTED, ALWAYS, ALWAYS, 10, newest=True)) == 0
    history.append(LISTED, made(1)[0])
    for ids in (ALWAYS, (-5, 2**80), (3, 2), (2**63, 2**64)):
        for span in (ALWAYS, (-(10**30), 10**30), (5, 4)):
            for limit in (-1, 0, 5):
                found = history.select(LISTED, ids, span, limit, newest=False)
                assert len(found) == (5 if limit == 5 and ids[0] <= 0 and span[0] <= 0 else 0)
    history.close()


def test_what_is_stored_is_what_a_client_reads_of_the_texts(tmp_path: Path) -> None:
    (part,) = made(1)
    truth = Truth(tmp_path, "binance")
    truth.append(LISTED, part)
    truth.close()
    columns = ("time", "nanos", "id", "price64", "size64", "side")
    stored = ColumnReader(tmp_path).select("binance", "BTCUSDT", "TRADES", *ALWAYS, columns)
    frames = BinanceDialect({"BTCUSDT": LISTED}).trades("BTCUSDT", part)
    texts = [frame.decode().split('"') for frame in frames]
    prices = [float(text[text.index("p") + 2]) for text in texts]
    sizes = [float(text[text.index("q") + 2]) for text in texts]
    assert stored.column("price64").tolist() == prices
    assert stored.column("size64").tolist() == sizes
    assert join_time(stored.column("time"), stored.column("nanos")).tolist() == part.t_ns.tolist()
    assert stored.column("side").tolist() == part.sides.tolist()


def test_the_last_trade_of_every_symbol_is_known_after_a_restart_and_files_go_on(tmp_path: Path) -> None:
    dialect = KrakenDialect({symbol: KrakenDialect.listing(symbol) for symbol in ("BTC/USD", "ETH/USD")})
    truth = Truth(tmp_path, "kraken")
    expected = {}
    for block in islice(Market(1, dialect, START_NS, 200), 3):
        for events in block:
            if len(events.trades):
                truth.append(dialect.listings[events.symbol], events.trades)
                last = (column[-1].item() for column in (events.trades.ids, events.trades.t_ns, events.trades.prices))
                expected[events.symbol] = Last(*last)
    # Killed: nothing is closed.
    again = Truth(tmp_path, "kraken")
    only = {"BTC/USD": dialect.listings["BTC/USD"]}
    assert again.last(only) == {"BTC/USD": expected["BTC/USD"], "ETH/USD": expected["ETH/USD"]._replace(price=0)}
    assert Truth(tmp_path, "okx").last({}) == {}
    more = next(Market(2, dialect, START_NS, 200, again.last(dialect.listings)))
    for events in more:
        again.append(dialect.listings[events.symbol], events.trades)
        stored = again.select(dialect.listings[events.symbol], ALWAYS, ALWAYS, 10**6, newest=False)
        assert (np.diff(stored.ids) == 1).all()
        assert (np.diff(stored.t_ns) >= 0).all()
        assert stored.ids[-1] == events.trades.ids[-1]
    truth.close()
    again.close()


def test_without_files_only_recent_trades_are_kept() -> None:
    history = RecentTrades()
    one = made(1)[0]
    count = 150_000 // len(one)
    for number in range(count):
        history.append(LISTED, Trades(one.t_ns, one.ids + number * len(one), one.prices, one.sizes, one.sides))
    kept = history.select(LISTED, ALWAYS, ALWAYS, 10**6, newest=False)
    assert 90_000 < len(kept) < 110_000
    assert kept.ids[-1] == one.ids[0] + count * len(one) - 1
